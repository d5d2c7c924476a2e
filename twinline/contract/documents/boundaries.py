"""Boundaries of a text: where it may be cut, the best ones first, found in a stretch of it without looking at the rest.

A boundary is a pair: the end of what stands before, and the start of what comes after; white space lies between the two, if any.
Sentences follow Unicode Standard Annex 29, simplified: rules SB5 to SB8a and SB11, with no dictionary of abbreviations.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import regex

PARAGRAPH: Final = 4
LINE: Final = 3
SENTENCE: Final = 2
WORD: Final = 1

# Ends of sentences that white space must follow, ends that need none (scripts without spaces), and what may close a sentence.
_STOPS: Final = ".!?…।॥؟۔։"
_WIDE_STOPS: Final = "。！？｡．"
_CLOSERS: Final = "\"'”’»›)\\]}」』）】》〉］｝"
# Where scripts without spaces take breath: as good as a space, since no word goes across it.
_WIDE_PAUSES: Final = frozenset("、，；：､　")
# Stops are matched from the first of their run only, and given back never: a text of full stops alone stays linear.
BREAK: Final = re.compile(rf"\n\s*|(?<![{_STOPS}])[{_STOPS}]++[{_CLOSERS}]*+(?=\s)|[{_WIDE_STOPS}]+[{_CLOSERS}]*")
# After a full stop or dots the sentence may go on ("e.g. this"): SB8. Other stops always end one.
_MAY_GO_ON: Final = ".…"
_LOOK_AHEAD: Final = 16
_CLUSTER: Final = regex.compile(r"\X")
# A cluster longer than this (letters under heaps of marks) may be cut: it is no one's word.
_LONGEST_CLUSTER: Final = 32


class Boundary(NamedTuple):
    """One place to cut; of two the greater is the better one, and of equals the later one."""

    level: int
    before: int
    after: int


def breaks(text: str, start: int, end: int) -> Iterator[Boundary]:
    """Yield the paragraphs, lines and sentences that end within `text[start:end]` or right at `end`, in order.

    A line whose next one goes on in lower case (prose that was wrapped) counts as a word: a cut there cuts a sentence.
    """
    for found in BREAK.finditer(text, start, min(end + 2, len(text))):
        if text[found.start()] == "\n":
            before, after = white_start(text, found.start()), white_end(text, found.end())
            goes_on = text[after : after + 1].islower()
            level = PARAGRAPH if found[0].count("\n") > 1 else WORD if goes_on else LINE
        else:
            before, after, level = found.end(), white_end(text, found.end()), SENTENCE
            if text[found.start()] in _MAY_GO_ON and _goes_on(text, after):
                continue
        if before <= end:
            yield Boundary(level, before, after)


def last_word(text: str, start: int, end: int) -> Boundary | None:
    """Return the last boundary between words that lies in `text[start:end]` or right at `end`; None where there is none."""
    for position in range(min(end, len(text) - 1), start, -1):
        if text[position].isspace():
            return Boundary(WORD, white_start(text, position), white_end(text, position))
        if text[position - 1] in _WIDE_PAUSES or text[position - 1].isspace():
            return Boundary(WORD, white_start(text, position), position)
    return None


def first_word(text: str, start: int, end: int) -> int | None:
    """Return where the first word begins that does so in `text[start:end]`; None where none does."""
    for position in range(start, end):
        before = text[position - 1 : position]
        if (not before or before.isspace() or before in _WIDE_PAUSES) and not text[position].isspace():
            return position
    return None


def splits_cluster(text: str, position: int) -> bool:
    """Say whether a cut at `position` parts what a reader sees as one character: a letter and its marks, a joined emoji."""
    if position <= 0 or position >= len(text) or (text[position] < "\u0300" and text[position - 1] < "\u0300"):
        return False
    # From some way back: whether two flags or joined emoji belong together is decided by what stands before them.
    start = max(position - _LONGEST_CLUSTER, 0)
    return any(found.start() < position < found.end() for found in _CLUSTER.finditer(text, start, position + 1))


def white_start(text: str, position: int) -> int:
    """Return where the white space begins that reaches up to `position`."""
    while position > 0 and text[position - 1].isspace():
        position -= 1
    return position


def white_end(text: str, position: int) -> int:
    """Return where the white space ends that begins at `position`."""
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _goes_on(text: str, position: int) -> bool:
    for character in text[position : position + _LOOK_AHEAD]:
        if character.isalpha():
            return character.islower()
        if character in _STOPS or character == "\n":
            return False
    return False
