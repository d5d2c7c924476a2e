"""Span maps: from code points of a chunk's clean text to code points of the versioned document, small enough to be stored.

Cleaning edits few places, so between two edits both sides run at one distance: a map is a list of such runs.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from twinline.contract.documents.cleaning import CleanText, clean
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
        starts, ends = raw_edges(cleaned, start, end)
        positions = np.arange(end - start)
        shifts = np.stack([starts - positions, ends - (positions + 1)], axis=1)
        firsts = np.flatnonzero(np.r_[True, (shifts[1:] != shifts[:-1]).any(axis=1)])
        runs = tuple((int(at), int(shifts[at, 0]), int(shifts[at, 1])) for at in firsts)
        return cls(int(starts[0]), int(ends[-1]), runs)

    @classmethod
    def in_document(cls, raw: str, rules: Sequence[tuple[str, int]], start: int, end: int, text: str, place: str) -> Self:
        """Return the map of a chunk that was stored without one, from the document that it was cut from.

        Args:
            raw: the document's text.
            rules: of cleaning, by the chunk's contract.
            start, end: the chunk, in code points of `raw`.
            text: the chunk's clean text.
            place: of the chunk, for the error.

        Raises:
            MismatchError: the document does not have this chunk here.
        """
        cleaned = clean(raw, rules)
        starts, _ = raw_edges(cleaned, 0, len(cleaned.text))
        for first in np.flatnonzero(starts == start).tolist():
            last = first + len(text)
            if text and cleaned.text[first:last] == text and cleaned.raw_span(first, last) == (start, end):
                return cls.of(cleaned, first, last)
        if not text:
            return cls.of(cleaned, 0, 0)
        raise MismatchError(
            f"{place}: the document has another text at {start} to {end} than the chunk {short(text[:60])}: it is another "
            "version, or was cleaned by other rules; index it again"
        )

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


def raw_edges(cleaned: CleanText, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the raw start and the raw end of each character of a clean span: `raw_span(i, i + 1)` for each i."""
    starts = np.arange(start, end, dtype=np.int64)
    ends = starts + 1
    for alignment in reversed(cleaned.alignments):
        out_starts, out_ends = np.asarray(alignment.out_starts), np.asarray(alignment.out_ends)
        in_starts, in_ends = np.asarray(alignment.in_starts), np.asarray(alignment.in_ends)
        # The end of a span is one past its last character, so that is the one looked up.
        edges = []
        for looked_up, positions, inside in ((starts, starts, in_starts), (ends - 1, ends, in_ends)):
            at = np.searchsorted(out_starts, looked_up, side="right") - 1
            behind = np.where(looked_up < out_ends[at], inside[at], in_ends[at] + positions - out_ends[at])
            edges.append(np.where(at < 0, positions, behind))
        starts, ends = edges
    return starts, ends


def _position(run: Run) -> int:
    return run[0]
