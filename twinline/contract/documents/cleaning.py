r"""Cleaning: versioned rules that map raw text to clean text, and every clean position back to a raw one.

A rule is a function from text to edits `(start, end, replacement)`. Its integer version is part of the index fingerprint. An
unknown version is refused, and an old version stays as long as an unretired release names it.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from twinline.contract.errors import MismatchError

Edit = tuple[int, int, str]

DEFAULT_CLEANING: tuple[tuple[str, int], ...] = (("newlines", 1), ("controls", 1), ("nfc", 1), ("spaces", 1))


@dataclass(frozen=True, slots=True)
class _Alignment:
    """The places of one rule's edits in its input and output; strictly ordered."""

    out_starts: Sequence[int]
    out_ends: Sequence[int]
    in_starts: Sequence[int]
    in_ends: Sequence[int]

    def start(self, position: int) -> int:
        i = bisect_right(self.out_starts, position) - 1
        if i < 0:
            return position
        if position < self.out_ends[i]:
            return self.in_starts[i]
        return self.in_ends[i] + position - self.out_ends[i]

    def end(self, position: int) -> int:
        # The end of a span is one past its last character, so the last character is looked up.
        if position == 0:
            return 0
        last = position - 1
        i = bisect_right(self.out_starts, last) - 1
        if i < 0:
            return position
        if last < self.out_ends[i]:
            return self.in_ends[i]
        return self.in_ends[i] + position - self.out_ends[i]


@dataclass(frozen=True, slots=True)
class CleanText:
    """Clean text and the way back: `raw_span(a, b)` is the span of the raw text behind `text[a:b]`."""

    text: str
    _alignments: tuple[_Alignment, ...]

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the raw span, in code points, of a non-empty clean span."""
        for alignment in reversed(self._alignments):
            start, end = alignment.start(start), alignment.end(end)
        return start, end

    @property
    def alignments(self) -> tuple[_Alignment, ...]:
        """Return the places of the edits, rule by rule, of those that made any."""
        return self._alignments


def clean(text: str, rules: Sequence[tuple[str, int]]) -> CleanText:
    """Apply the named rules in order.

    Raises:
        MismatchError: a rule or a version that is unknown to this code.
    """
    alignments = []
    for name, version in rules:
        edits = list(_rule(name, version)(text))
        if edits:
            text, alignment = _apply(text, edits)
            alignments.append(alignment)
    return CleanText(text, tuple(alignments))


def check_rules(rules: Sequence[tuple[str, int]]) -> None:
    """Raise MismatchError for a rule or a version that is unknown to this code."""
    for name, version in rules:
        _rule(name, version)


def _rule(name: str, version: int) -> Callable[[str], Iterable[Edit]]:
    try:
        return _RULES[name, version]
    except KeyError:
        known = ", ".join(f"{rule}@{number}" for rule, number in sorted(_RULES))
        raise MismatchError(
            f"the contract names cleaning rule {name}@{version}, this code has {known}: "
            "run the version of Twinline that made the release, or build a new release"
        ) from None


def _apply(text: str, edits: list[Edit]) -> tuple[str, _Alignment]:
    pieces: list[str] = []
    out_starts: list[int] = []
    out_ends: list[int] = []
    read = written = 0
    for start, end, replacement in edits:
        pieces += (text[read:start], replacement)
        written += start - read
        out_starts.append(written)
        written += len(replacement)
        out_ends.append(written)
        read = end
    pieces.append(text[read:])
    return "".join(pieces), _Alignment(out_starts, out_ends, [e[0] for e in edits], [e[1] for e in edits])


def _substitute(pattern: str, replacement: str) -> Callable[[str], Iterable[Edit]]:
    compiled = re.compile(pattern)
    return lambda text: ((m.start(), m.end(), replacement) for m in compiled.finditer(text) if m[0] != replacement)


def _nfc(text: str) -> Iterable[Edit]:
    """Yield the stretches that NFC (Unicode Standard Annex 15) changes.

    A stretch runs from one character that can start a composition to the next, so each stretch can be composed alone.
    """
    if unicodedata.is_normalized("NFC", text):
        return
    start = 0
    for position in range(1, len(text) + 1):
        if position < len(text) and _joins_left(text[position]):
            continue
        piece = text[start:position]
        if not unicodedata.is_normalized("NFC", piece):
            yield start, position, unicodedata.normalize("NFC", piece)
        start = position


def _joins_left(character: str) -> bool:
    if character < "\u0300":
        return False
    return unicodedata.combining(character) != 0 or character in _seconds()


@lru_cache(maxsize=1)
def _seconds() -> frozenset[str]:
    """Return the characters of combining class 0 that may compose with the one before them (some Indic vowels, Hangul)."""
    seconds = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for code in range(0xC0, 0x110000):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(chr(int(parts[1], 16)))
    return frozenset(seconds)


_SPACES = re.compile(r"\s+")

_RULES: dict[tuple[str, int], Callable[[str], Iterable[Edit]]] = {
    ("newlines", 1): _substitute(r"\r\n?|[\u0085\u2028\u2029]", "\n"),
    # Invisible characters: control characters, the byte-order mark and zero-width space. Joiners stay: they shape words.
    ("controls", 1): _substitute(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\ufeff]+", ""),
    ("nfc", 1): _nfc,
    # One space for a run of them, at most one empty line in a row, nothing at either end.
    ("spaces", 1): lambda text: (
        (m.start(), m.end(), replacement) for m in _SPACES.finditer(text) if m[0] != (replacement := _space_for(m, len(text)))
    ),
}


def _space_for(match: re.Match[str], length: int) -> str:
    if match.start() == 0 or match.end() == length:
        return ""
    return {0: " ", 1: "\n"}.get(match[0].count("\n"), "\n\n")
