"""Sources by kind: the reader that a spec `KIND:LOCATION` names."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from etl.fields import FieldNames
from etl.sources.items import Item, Judgement, Logged, Query, Reject, Source
from twinline.clients.source_spec import USAGE
from twinline.contract.errors import SettingsError

if TYPE_CHECKING:
    # The process that reads files imports this package too, and starts without the settings' libraries.
    from twinline.clients.settings import Settings

__all__ = ["SOURCES", "Item", "Judgement", "Logged", "Query", "Reject", "Source", "open_source"]


def _pydocs(name: str, location: str, fields: FieldNames, settings: "Settings") -> Source:
    from etl.sources.pydocs import PyDocs

    return PyDocs(name, location)


def _files(name: str, location: str, fields: FieldNames, settings: "Settings") -> Source:
    from etl.sources.files import Files

    return Files(name, location, fields)


def _beir(name: str, location: str, fields: FieldNames, settings: "Settings") -> Source:
    from etl.sources.beir import Beir

    return Beir(name, location)


def _kafka(name: str, location: str, fields: FieldNames, settings: "Settings") -> Source:
    from etl.sources.kafka_topic import KafkaTopic

    return KafkaTopic(name, location or settings.topic, settings)


# A new source is one file, one line here, and one in twinline.clients.source_spec.
SOURCES: dict[str, "Callable[[str, str, FieldNames, Settings], Source]"] = {
    "pydocs": _pydocs,
    "files": _files,
    "beir": _beir,
    "kafka": _kafka,
}

_SPEC = re.compile(r"(?:(?P<name>[\w.-]+)=)?(?P<kind>[a-z]+):(?P<location>.*)", re.DOTALL)


def open_source(spec: str, settings: "Settings", fields: FieldNames | None = None) -> Source:
    """Return the source that a spec names; nothing is read yet.

    Args:
        spec: `KIND:LOCATION`, or `NAME=KIND:LOCATION` to choose the documents' `source` (the last part of the
            location otherwise).

    Raises:
        SettingsError: the spec names no source.
    """
    match = _SPEC.fullmatch(spec.strip())
    if match is None or match["kind"] not in SOURCES:
        raise SettingsError(f"source {spec!r} is not KIND:LOCATION with a kind of {', '.join(SOURCES)}: name one as {USAGE}")
    return SOURCES[match["kind"]](match["name"] or "", match["location"], fields or FieldNames(), settings)
