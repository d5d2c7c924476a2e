"""Boundaries of a text: places for a cut, with a rank, found in a stretch of the text without a look at the rest.

A boundary is a pair: the end of the text before, and the start of the text after. Only white space may lie between the two.
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

# Ends of sentences before white space, ends that need none (scripts without spaces), and closing marks after an end.
_STOPS: Final = ".!?…।॥؟۔։"
_WIDE_STOPS: Final = "。！？｡．"
_CLOSERS: Final = "\"'”’»›)\\]}」』）】》〉］｝"
# Commas of scripts without spaces: as good as a space, because no word crosses them.
_WIDE_PAUSES: Final = frozenset("、，；：､　")
# Stops match only from the first of their run, without backtracking: a text of full stops alone stays linear.
BREAK: Final = re.compile(rf"\n\s*|(?<![{_STOPS}])[{_STOPS}]++[{_CLOSERS}]*+(?=\s)|[{_WIDE_STOPS}]+[{_CLOSERS}]*")
# After a full stop or dots the sentence may go on ("e.g. this"): SB8. Other stops always end a sentence.
_MAY_GO_ON: Final = ".…"
_LOOK_AHEAD: Final = 16
_CLUSTER: Final = regex.compile(r"\X")
# A longer cluster (letters under heaps of marks) may be cut: it is no word.
_LONGEST_CLUSTER: Final = 32


class Boundary(NamedTuple):
    """One place to cut; the greater of two is the better one, and the later of equals."""

    level: int
    before: int
    after: int


def breaks(text: str, start: int, end: int) -> Iterator[Boundary]:
    """Yield the ends of paragraphs, lines and sentences within `text[start:end]` or right at `end`, in order.

    The end of a line counts as that of a word if the next line begins in lower case: a cut in wrapped prose cuts a sentence.
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
    """Return the last boundary between words in `text[start:end]` or right at `end`, or None."""
    for position in range(min(end, len(text) - 1), start, -1):
        if text[position].isspace():
            return Boundary(WORD, white_start(text, position), white_end(text, position))
        if text[position - 1] in _WIDE_PAUSES or text[position - 1].isspace():
            return Boundary(WORD, white_start(text, position), position)
    return None


def first_word(text: str, start: int, end: int) -> int | None:
    """Return the start of the first word that begins in `text[start:end]`, or None."""
    for position in range(start, end):
        before = text[position - 1 : position]
        if (not before or before.isspace() or before in _WIDE_PAUSES) and not text[position].isspace():
            return position
    return None


def splits_cluster(text: str, position: int) -> bool:
    """Return whether a cut at `position` goes through one visible character: a letter and its marks, or a joined emoji."""
    if position <= 0 or position >= len(text) or (text[position] < "\u0300" and text[position - 1] < "\u0300"):
        return False
    # From some way back: the characters before decide whether two flags or joined emoji belong together.
    start = max(position - _LONGEST_CLUSTER, 0)
    return any(found.start() < position < found.end() for found in _CLUSTER.finditer(text, start, position + 1))


def white_start(text: str, position: int) -> int:
    """Return the start of the white space that ends at `position`."""
    while position > 0 and text[position - 1].isspace():
        position -= 1
    return position


def white_end(text: str, position: int) -> int:
    """Return the end of the white space that begins at `position`."""
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
