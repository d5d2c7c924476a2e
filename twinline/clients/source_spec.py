"""A source in parts, `NAME=KIND:LOCATION`, and the kinds that there are, spelt once for help texts, errors and readers."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from twinline.contract.errors import SettingsError


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

_SPEC: Final = re.compile(r"(?:(?P<name>[^=:]*)=)?(?P<kind>[a-z]+):(?P<location>.*)", re.DOTALL)
_NAME: Final = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source in parts.

    Args:
        name: becomes the documents' `source`; empty: the source's own name.
    """

    kind: str
    location: str
    name: str = ""

    def __str__(self) -> str:
        """Return the text that `parse_source` reads."""
        return f"{self.name}={self.kind}:{self.location}" if self.name else f"{self.kind}:{self.location}"

    @property
    def is_local(self) -> bool:
        """Return whether the location is a path on this machine."""
        return SOURCE_KINDS[self.kind].is_path and bool(self.location) and not is_address(self.location)

    def absolute(self, folder: Path) -> "SourceSpec":
        """Return the source with an absolute local path; any other location stays."""
        return replace(self, location=absolute_path(self.location, folder)) if self.is_local else self


def parse_source(text: str) -> SourceSpec:
    """Return the parts of `KIND:LOCATION` or `NAME=KIND:LOCATION`.

    Raises:
        SettingsError: the text names no source, or the name is none.
    """
    match = _SPEC.fullmatch(text.strip())
    if match is None or match["kind"] not in SOURCE_KINDS:
        raise SettingsError(f"source {text!r} is not KIND:LOCATION with a kind of {', '.join(SOURCE_KINDS)}: name one as {USAGE}")
    name = "" if match["name"] is None else check_name(match["name"], f"source {text!r}")
    return SourceSpec(match["kind"], match["location"], name)


def check_name(name: str, place: str) -> str:
    """Return the name of a source as a person typed it.

    Raises:
        SettingsError: it holds more than letters, digits, `_`, `.` and `-`.
    """
    if _NAME.fullmatch(name):
        return name
    remedy = f"say {_as_name(name)}" if _as_name(name) else "choose one"
    raise SettingsError(f"{place}: the name {name!r} must be of letters, digits, `_`, `.` and `-` alone: {remedy}")


def default_name(location: str) -> str:
    """Return the name of a source without one: its folder's own name, with a dash for what no name holds.

    A file has the name of its folder, so that `docs` and `docs/a.md` name one document alike. A zip file is a folder. Of an
    address it is the last part without its endings. Links are not followed: the target of a link may change.
    """
    if is_address(location):
        name = PurePosixPath(location.partition("?")[0].rstrip("/")).name.partition(".")[0]
    else:
        path = Path(absolute_path(location, Path.cwd()))
        is_zip = path.suffix.lower() == ".zip"
        name = path.stem if is_zip else path.parent.name if os.path.isfile(path) else path.name  # noqa: PTH113 (never raises)
    return _as_name(name) or "files"


def absolute_path(path: str, folder: Path) -> str:
    """Return a path from a folder on, without dots; links stay, and `~` is the home."""
    return os.path.abspath(folder / os.path.expanduser(path))  # noqa: PTH100, PTH111 (resolve() follows links, expanduser() raises)


def is_address(location: str) -> bool:
    """Return whether a location is an address (`s3://...`) rather than a path."""
    return "://" in location


def _as_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-")
