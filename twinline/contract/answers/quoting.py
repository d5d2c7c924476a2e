"""What may stand inside a quote: words of one passage, byte for byte.

The state of a quote is the set of byte offsets of the passage where it may end so far. A token may follow if its bytes go on from
any of them, so whatever tokens are taken, the quote occurs in the passage. Quotes begin and end at bounds of words (Unicode
Standard Annex 29). A `"` of the passage, and a character without tokens, is a barrier that no quote crosses. Before each barrier
the last end of a word is the last offset that counts: from every offset before it, tokens of one byte lead there, so a quote
never meets a place from which it can neither go on nor end.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

import numpy as np
import regex
from numpy.typing import NDArray

from twinline.contract.answers.tokens import AnswerTokenizer

QUOTE: Final = '"'
# A run of letters and digits this long, in code points, is no word: a quote may end between any two of its visible characters.
LONGEST_WORD: Final = 64

_BOUND: Final = regex.compile(r"\b", regex.WORD)
_CLUSTER: Final = regex.compile(r"\X")


class Quotable:
    """The words of one passage, ready to be quoted. Not thread-safe: it remembers the tokens of offsets already asked for."""

    def __init__(self, text: str, tokenizer: AnswerTokenizer) -> None:
        self.data = text.encode()
        self._tokenizer = tokenizer
        self._offsets = list(accumulate((len(character.encode()) for character in text), initial=0))
        size = len(self.data)
        # By byte offset: the end of the stretch that an offset is in (-1: no quote passes here), and the next end of a word.
        self._limits = [-1] * (size + 1)
        self._ends = [False] * (size + 1)
        self.starts: list[int] = []
        self._sorted_ends: list[int] = []
        self._read(text)
        self._ids: dict[bytes, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self._start_ids: NDArray[np.int64] | None = None

    def is_end(self, offset: int) -> bool:
        """Return whether a quote may end at a byte offset."""
        return self._ends[offset]

    def follows(self, offset: int, piece: bytes, *, to_word_end: bool) -> bool:
        """Return whether a quote may go on with some bytes; `to_word_end`: no further than the next end of a word."""
        limit = self._next_end(offset) if to_word_end else self._limits[offset]
        return offset + len(piece) <= limit and self.data.startswith(piece, offset)

    def ids_at(self, offset: int, *, to_word_end: bool) -> NDArray[np.int64]:
        """Return the tokens that may follow at a byte offset."""
        ahead, lengths = self._ahead(offset)
        found = self._ids.get(ahead)
        if found is None:
            # Equal words ahead have equal tokens, wherever they stand.
            walked = list(self._walk(ahead, lengths))
            ids, sizes = (np.array([each[place] for each in walked], dtype=np.int64) for place in (0, 1))
            found = self._ids[ahead] = (ids, sizes)
        ids, sizes = found
        return ids[sizes <= self._next_end(offset) - offset] if to_word_end else ids

    @property
    def start_ids(self) -> NDArray[np.int64]:
        """Return the tokens that may begin a quote."""
        if self._start_ids is None:
            found = {identity for start in self.starts for identity, _ in self._walk(*self._ahead(start))}
            self._start_ids = np.fromiter(found, dtype=np.int64, count=len(found))
        return self._start_ids

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the code points of a span of whole characters, given in bytes."""
        return bisect_left(self._offsets, start), bisect_left(self._offsets, end)

    def _ahead(self, offset: int) -> tuple[bytes, tuple[int, ...]]:
        """Return the bytes that one token may take from an offset, and the lengths that a token may have there."""
        limit = self._limits[offset]
        lengths = self._tokenizer.lengths_of.get(self.data[offset : min(offset + 2, limit)], ())
        return self.data[offset : min(offset + (lengths[-1] if lengths else 1), limit)], lengths

    def _walk(self, ahead: bytes, lengths: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        """Yield the tokens that bytes begin with, and their lengths."""
        ids_of = self._tokenizer.ids_of
        for length in (1, *lengths):
            if length > len(ahead):
                return
            for identity in ids_of.get(ahead[:length], ()):
                yield identity, length

    def _next_end(self, offset: int) -> int:
        """Return the next end of a word after a byte offset."""
        place = bisect_left(self._sorted_ends, offset + 1)
        return self._sorted_ends[place] if place < len(self._sorted_ends) else self._limits[offset]

    def _read(self, text: str) -> None:
        bounds = set(_bounds(text))
        for first, last in _stretches(text, self._tokenizer.unspellable):
            ends = [at for at in range(last, first, -1) if at in bounds and not text[at - 1].isspace()]
            if not ends:
                continue
            limit = self._offsets[ends[0]]
            begin = self._offsets[first]
            self._limits[begin : limit + 1] = [limit] * (limit + 1 - begin)
            for at in ends:
                self._ends[self._offsets[at]] = True
            self._sorted_ends += [self._offsets[at] for at in reversed(ends)]
            self.starts += [
                self._offsets[at] for at in range(first, ends[0]) if at in bounds and not text[at].isspace()
            ]  # fmt: skip


def _stretches(text: str, unspellable: re.Pattern[str] | None) -> Iterator[tuple[int, int]]:
    """Yield the spans of a text between barriers."""
    barriers: Iterable[int] = (place for place, character in enumerate(text) if character == QUOTE)
    if unspellable is not None:
        barriers = sorted({*barriers, *(found.start() for found in unspellable.finditer(text))})
    start = 0
    for barrier in (*barriers, len(text)):
        if start < barrier:
            yield start, barrier
        start = barrier + 1


def _bounds(text: str) -> Iterator[int]:
    """Yield the bounds of words, and in a run without any for too long, those of its visible characters."""
    last = 0
    for found in _BOUND.finditer(text):
        at = found.start()
        if at - last > LONGEST_WORD:
            yield from (cluster.end() for cluster in _CLUSTER.finditer(text, last + LONGEST_WORD, at))
        yield at
        last = at
