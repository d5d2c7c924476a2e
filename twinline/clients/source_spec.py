"""The kinds of source that a spec `KIND:LOCATION` may name, spelt once for help texts, errors and readers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SourceKind:
    """One kind of source.

    Args:
        usage: its spec, as help texts and errors spell it.
        is_path: whether its location may be a path on this machine.
        is_log: whether it is the log itself, whose documents are not published again.
    """

    usage: str
    is_path: bool = False
    is_log: bool = False


SOURCE_KINDS: Final[Mapping[str, SourceKind]] = {
    "pydocs": SourceKind("pydocs:"),
    "files": SourceKind("files:FOLDER", is_path=True),
    "beir": SourceKind("beir:FOLDER", is_path=True),
    "kafka": SourceKind("kafka:TOPIC", is_log=True),
}

USAGE: Final = "KIND:LOCATION: " + ", ".join(kind.usage for kind in SOURCE_KINDS.values())
PUBLISH_USAGE: Final = "KIND:LOCATION: " + ", ".join(kind.usage for kind in SOURCE_KINDS.values() if not kind.is_log)
PATH_SCHEMES: Final = tuple(f"{name}:" for name, kind in SOURCE_KINDS.items() if kind.is_path)
