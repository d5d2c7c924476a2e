"""Absence needs evidence: a document counts as gone only when the place that it came from was read whole.

Every reject is a place that was not. It holds back the deletion of what came from that place, or from beneath it.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from etl.published import State
from etl.sources.items import ERASED, Reject

# The reasons for which a deletion is held back.
NOT_READ_WHOLE: Final = "not_read_whole"
PLACE_UNKNOWN: Final = "place_unknown"
ELSEWHERE: Final = "elsewhere"
_ROOT: Final = frozenset({"", "."})


class Absence:
    """The evidence of one reading: what it covered, and which places in there it could not read whole.

    Args:
        roots: the addresses that the reading covers.
        uri: the source's own address; a reject of it is one of the whole source.
        moved: whether a person says that the source lies elsewhere now.
        is_python: whether rejects name modules, `a.b`, where documents name files, `a/b.py`.
    """

    def __init__(self, roots: Sequence[str], uri: str, *, moved: bool, is_python: bool = False) -> None:
        self._roots = roots
        self._whole = {*_ROOT, uri, *roots}
        self._moved = moved
        self._is_python = is_python
        self._places: dict[str, Reject] = {}
        self._first: Reject | None = None
        self._empty: dict[str, bool] = {}

    def note(self, reject: Reject) -> None:
        """Note a place that could not be read whole; an erased document was read."""
        if reject.reason == ERASED:
            return
        self._first = self._first or reject
        place = reject.place.rstrip("/")
        module = place.replace(".", "/")
        files = (module, f"{module}.py") if self._is_python else ()
        for name in ("",) if place in self._whole else (place, *files, *_addresses(place, self._roots)):
            self._places.setdefault(name, reject)

    def doubt(self, last: State) -> tuple[str, str] | None:
        """Return why a document that was not met may still be there: a reason to count by, and the fact. None: it is gone."""
        if last.address and self._roots and not beneath(last.address, self._roots) and not self._moved:
            return ELSEWHERE, f"it came from {last.address}, which was not read"
        is_here = not last.address or not self._roots or beneath(last.address, self._roots)
        if (not last.place or not is_here) and self._first is not None:
            return PLACE_UNKNOWN, f"nobody knows where it lay, and {_said(self._first)}"
        for place in (*_ancestors(last.place), *_ancestors(last.address)):
            if place in self._places:
                return NOT_READ_WHOLE, _said(self._places[place])
        if self._is_empty(last.address):
            return NOT_READ_WHOLE, f"{last.address} has 0 bytes, as a file has whose writer was stopped"
        return None

    def _is_empty(self, address: str) -> bool:
        if address not in self._empty:
            path = address.removeprefix("file://")
            self._empty[address] = path != address and os.path.isfile(path) and os.path.getsize(path) == 0  # noqa: PTH113, PTH202
        return self._empty[address]


def beneath(address: str, roots: Iterable[str]) -> bool:
    """Return whether an address is one of some roots, or lies in one."""
    return any(address == root or address.startswith(f"{root.rstrip('/')}/") for root in roots)


def plain_address(uri: str) -> str:
    """Return an address by which files can be compared: without dots, and a zip file is a folder."""
    inner, is_zipped, archive = uri.partition("::")
    if is_zipped:
        return f"{plain_address(archive)}/{inner.partition('://')[2]}".rstrip("/")
    scheme, is_local, path = uri.partition("file://")
    return f"file://{os.path.normpath(path)}" if is_local and not scheme else uri.rstrip("/")


def _addresses(place: str, roots: Sequence[str]) -> Iterator[str]:
    for root in roots:
        yield f"{root.rstrip('/')}/{place}"
        if root.endswith(f"/{place}"):  # the source is this one file
            yield root


def _ancestors(place: str) -> Iterator[str]:
    """Yield a place and all that it lies in, the root last."""
    while place:
        yield place
        place = place.rpartition("/")[0]
    yield ""


def _said(reject: Reject) -> str:
    line = "" if reject.line is None else f" line {reject.line}"
    return f"{reject.place or 'the source'}{line} could not be read whole ({reject.reason}: {reject.detail[:200]})"
