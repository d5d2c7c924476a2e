"""Span maps: from code points of a chunk's clean text to code points of the versioned document, small enough to be stored.

Cleaning edits few places, so between two edits both sides run at one distance: a map is a list of such runs.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from twinline.contract.documents.cleaning import CleanText
from twinline.contract.documents.strict_json import short
from twinline.contract.errors import MismatchError

# Clean position, and how far the raw start and the raw end of a character lie from its own, from there on.
Run = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SpanMap:
    """The way back from one chunk. Without runs the only span that is known is the whole chunk's.

    Attributes:
        start, end: the chunk, in code points of the document's raw text.
        runs: by clean position, the first at 0.
    """

    start: int
    end: int
    runs: tuple[Run, ...] | None

    @classmethod
    def of(cls, cleaned: CleanText, start: int, end: int) -> Self:
        """Return the map of the chunk `cleaned.text[start:end]`; an empty one stays at the document's start."""
        if start == end:
            return cls(0, 0, ())
        starts, ends = cleaned.raw_edges(start, end)
        positions = np.arange(end - start)
        shifts = np.stack([starts - positions, ends - (positions + 1)], axis=1)
        firsts = np.flatnonzero(np.r_[True, (shifts[1:] != shifts[:-1]).any(axis=1)])
        runs = tuple((int(at), int(shifts[at, 0]), int(shifts[at, 1])) for at in firsts)
        return cls(int(starts[0]), int(ends[-1]), runs)

    @classmethod
    def whole(cls, start: int, end: int) -> Self:
        """Return the map of a chunk that was stored without one: every span of it is the whole chunk."""
        return cls(start, end, None)

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the document's span of a non-empty span of the chunk's text."""
        if self.runs is None:
            return self.start, self.end
        first = self.runs[bisect_right(self.runs, start, key=_position) - 1]
        last = self.runs[bisect_right(self.runs, end - 1, key=_position) - 1]
        return start + first[1], end + last[2]

    def to_json(self) -> list[list[int]] | None:
        """Return the runs; start and end are stored beside them."""
        return None if self.runs is None else [list(run) for run in self.runs]

    @classmethod
    def from_json(cls, start: int, end: int, value: Sequence[Sequence[int]] | None, place: str) -> Self:
        """Read the form of `to_json`.

        Raises:
            MismatchError: the runs are not in order, or no runs.
        """
        if value is None:
            return cls.whole(start, end)
        try:
            runs = tuple((int(at), int(first), int(last)) for at, first, last in value)
        except (TypeError, ValueError) as exc:
            raise MismatchError(f"{place}: the span map {short(value)} is no list of runs: index the document again") from exc
        positions = [run[0] for run in runs]
        if positions != sorted(set(positions)) or (runs and positions[0] != 0):
            raise MismatchError(f"{place}: the span map {short(value)} is not in order from 0: index the document again")
        return cls(start, end, runs)


def _position(run: Run) -> int:
    return run[0]
