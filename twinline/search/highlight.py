"""Where the words of a question occur in a text: character ranges, found word by word in any script."""

import string
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

import regex

# The standard `re` splits words at combining marks, which breaks Hindi and decomposed accents. An underscore
# separates, so that "read csv" finds `read_csv`.
_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}"
# Version 1 of its syntax has the difference of sets.
_RUN: Final = regex.compile(rf"(?V1)(?P<unspaced>[{_UNSPACED}]+)|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+")
_ASCII_LETTERS: Final = frozenset(string.ascii_lowercase + string.digits)

# Highlights of these words would not help a reader. Only for display: a search uses the whole question.
_TOO_COMMON: Final = frozenset(
    "a an and are as at be by can could do does for from had has have how i if in into is it its may me my not of on or "  # noqa: SIM905
    "our s should so t than that the their then there these they this to was we were what when where which who why will "
    "with would you your".split()
)


def highlights(text: str, question: str) -> list[tuple[int, int]]:
    """Return the ranges of `text`, as code points, whose words occur in `question`.

    Case, accents and compatibility forms do not matter. Ranges are in order, do not overlap, and ranges that touch
    are one.
    """
    wanted = _wanted(question)
    if text.isascii():
        return _joined(sorted(_ascii_places(text.lower(), wanted)))
    return _joined((start, end) for start, end, word in _words(text) if word in wanted)


def segments(text: str, ranges: Sequence[tuple[int, int]]) -> list[tuple[str, bool]]:
    """Return `text` cut at `ranges` as (piece, is highlighted); the pieces add up to `text`."""
    edges = sorted({0, len(text), *(edge for span in ranges for edge in span)})
    starts = {start for start, _ in ranges}
    return [(text[start:end], start in starts) for start, end in pairwise(edges)]


# All hits of an answer are highlighted for the same question.
@lru_cache(maxsize=16)
def _wanted(question: str) -> frozenset[str]:
    # A run of accents alone folds to nothing, which would be found everywhere.
    words = frozenset(word for _, _, word in _words(question) if word)
    return (words - _TOO_COMMON) or words


def _ascii_places(text: str, wanted: Collection[str]) -> Iterator[tuple[int, int]]:
    """Yield the places of wanted words, in any order: as `_words`, but without a step of Python for every other word.

    Most texts of most corpora take this path, ten of them an answer.
    """
    for word in wanted:
        start = text.find(word)
        while start >= 0:
            end = start + len(word)
            if text[start - 1 : start] not in _ASCII_LETTERS and text[end : end + 1] not in _ASCII_LETTERS:
                yield start, end
            start = text.find(word, start + 1)


def _words(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _RUN.finditer(text):
        start, end = match.span()
        if match["unspaced"] is None or end - start == 1:
            yield start, end, _folded(match.group())
        else:
            # Scripts without word separators are matched by pairs of characters, as in search engines without a dictionary.
            for left in range(start, end - 1):
                yield left, left + 2, _folded(text[left : left + 2])


def _folded(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
