"""Which chunks of a ranking become hits, and which are listed under a hit as its copies."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from twinline.clients.store.protocol import StoredPoint
from twinline.contract.documents.sameness import Groups
from twinline.contract.sparse.fusion import Ranked

# Payloads that are read for even one hit: its copies are next to it.
_LEAST_PAGE: Final = 20
# A corpus of copies alone would be read to its end for every question.
MOST_COPIES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Found:
    """The best chunk of a document, and the best chunks of the documents that say the same."""

    point: StoredPoint
    ranked: Ranked[UUID]
    copies: list[StoredPoint] = field(default_factory=list)


class Grouping:
    """The hits of one question. Chunks are placed best first; the first chunk of a document decides where the document goes.

    Args:
        limit: the hits that are wanted.
        grouped: False: every document is a hit of its own.
    """

    def __init__(self, limit: int, *, grouped: bool) -> None:
        self._limit = limit
        self._groups: Groups[int] | None = Groups() if grouped else None
        self._placed: set[tuple[str, str]] = set()
        self.found: list[Found] = []
        self.copies = 0

    @property
    def is_full(self) -> bool:
        """Return whether there are as many hits as are wanted."""
        return len(self.found) >= self._limit

    @property
    def page(self) -> int:
        """Return how many chunks to read at once: most documents are one or two chunks, so one read is the rule."""
        return 2 * self._limit if self._groups is None else max(2 * self._limit, _LEAST_PAGE)

    @property
    def note(self) -> str:
        """Return what a reader of the answer must know: it ends early among very many copies."""
        if self.is_full or self.copies < MOST_COPIES:
            return ""
        return f"{self.copies} documents say what these say, and the search went no further: narrow it, or ask with `group` false"

    def place(self, point: StoredPoint, ranked: Ranked[UUID]) -> None:
        """Make a chunk's document a hit, list it under the hit that says the same, or leave it out: the answer is full."""
        payload = point.payload
        document = (payload["source"], payload["key"])
        if document in self._placed:
            return
        # Also where there is no more room: a longer answer has it as a hit, so a shorter one must not list it as a copy.
        self._placed.add(document)
        if self._groups is not None:
            said = payload["content_hash"], payload["text"]
            first = self._groups.first_of(len(self.found), *said, may_begin=not self.is_full)
            if first is not None:
                self.found[first].copies.append(point)
                self.copies += 1
                return
        if not self.is_full:
            self.found.append(Found(point, ranked))


def newest_first(copies: Iterable[StoredPoint]) -> Sequence[StoredPoint]:
    """Return copies by the time at which the log received them, then by version and name.

    Versions come second: they count within one document, and copies are several.
    """
    return sorted(
        copies,
        key=lambda point: (
            -point.payload["timestamp_ms"],
            -point.payload["version"],
            point.payload["source"],
            point.payload["key"],
        ),
    )
