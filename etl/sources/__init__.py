"""Sources by kind: the reader that a spec `KIND:LOCATION` names."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from etl.fields import FieldNames
from etl.sources.items import Item, Judgement, Logged, Query, Reject, Source
from twinline.clients.source_spec import SOURCE_KINDS, SourceSpec, default_name, parse_source

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


def open_source(spec: SourceSpec | str, settings: "Settings", fields: FieldNames | None = None) -> Source:
    """Return the source that a spec names; nothing is read yet.

    Args:
        spec: the parts, or the text `KIND:LOCATION`, or `NAME=KIND:LOCATION` to choose the documents' `source`.

    Raises:
        SettingsError: the spec names no source.
    """
    parts = parse_source(spec) if isinstance(spec, str) else spec
    is_path = SOURCE_KINDS[parts.kind].is_path and parts.location
    name = parts.name or (default_name(parts.location) if is_path else "")
    return SOURCES[parts.kind](name, parts.location, fields or FieldNames(), settings)
