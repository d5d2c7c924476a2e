"""Version 2 of the chunker: a text is tokenised once, and cut by its tokens' offsets at the best boundary that still fits.

A chunk's window holds as many tokens from its start as fit. If the rest of the text fits, that is the last chunk. Otherwise the
cut is at the best boundary in the last half of the window's new part: paragraph, line, sentence, word, any token; the last one
of equals. The next chunk starts up to `overlap` tokens earlier, at the start of a sentence, or else of a word. The time is
linear in the length of the text, and memory holds the tokens of one section.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from tokenizers import Tokenizer

from twinline.contract.documents.boundaries import (
    WORD,
    Boundary,
    breaks,
    first_word,
    last_word,
    splits_cluster,
    white_end,
    white_start,
)

# A tokenizer may give one token to a word of any length, and none to dropped characters, so a limit of characters bounds a chunk
# as well. Sixteen a token is three times the rate of prose, and chunks of short limits still hold a long word.
CHARS_A_TOKEN: Final = 16
LEAST_CHARS: Final = 4_096
# A section is tokenised at once. Its end is no place to cut: where a window reaches it, the next section starts with that chunk.
SECTION_CHARS: Final = 32_768
_WINDOWS_A_SECTION: Final = 4
# The largest distance from a stop to the sentence after it: the stop, closing marks, a space.
_STOP_CHARS: Final = 4
# Number of characters tried, last first, for a cut inside a token with more characters than a chunk may hold.
_TRIES: Final = 32


class _Tokens(NamedTuple):
    """The starts and ends of a text's tokens; both never fall, even if a normaliser has reordered characters."""

    starts: Sequence[int]
    ends: Sequence[int]

    def fit(self, start: int, end: int) -> bool:
        """Return whether a cut between `start` and `end` (white space lies between them) goes through no token."""
        index = bisect_left(self.starts, start)
        return index == 0 or self.ends[index - 1] <= end

    def last_seam(self, text: str, after: int, end: int) -> int | None:
        """Return the last place in `text[after + 1 : end + 1]` between two tokens and between two visible characters."""
        found = None
        index = bisect_right(self.starts, end) - 1
        while index > 0 and self.starts[index] > after:
            position = self.starts[index]
            if self.ends[index - 1] <= position:
                if not splits_cluster(text, position):
                    return position
                found = found or position
                if found - position > _TRIES:
                    break
            index -= 1
        return found


def spans(tokenizer: Tokenizer, text: str, capacity: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of a text, each of at most `capacity` tokens of this text, without white space at either end.

    Every character that is not white space is in a span.

    Args:
        tokenizer: a tokenizer without truncation.
        capacity: the most tokens of a span, at least one.
        overlap: the most tokens that a span shares with the one before it, up to half of the capacity.
    """
    longest = max(CHARS_A_TOKEN * capacity, LEAST_CHARS)
    size = max(SECTION_CHARS, _WINDOWS_A_SECTION * longest)
    overlap = min(overlap, capacity // 2)
    text = text.rstrip()
    start = new = 0
    while start < len(text):
        start = white_end(text, start)
        new = max(new, start)
        section = text[start : start + size]
        is_last = start + size >= len(text)
        base, tokens = start, _tokens(tokenizer, section)
        while start < len(text):
            inside, fresh = start - base, new - base
            first = bisect_right(tokens.ends, inside)
            limit = min(_at(tokens.starts, first + capacity, len(section)), inside + longest)
            if limit >= len(section):
                if is_last:
                    yield start, len(text)
                    return
                break
            cut = _cut(tokens, section, fresh, limit)
            if cut is None and inside < fresh:
                # One character of very many tokens has room without the overlap.
                start = new
                continue
            if cut is None:
                cut = _forced(tokens, section, inside, limit, longest)
            yield start, base + cut.before
            new = base + cut.after
            start = base + _overlapping(tokens, section, cut, overlap, max(inside, cut.before - longest // 4))


def _tokens(tokenizer: Tokenizer, text: str) -> _Tokens:
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
    if sorted(ends) != ends:
        ends = list(accumulate(ends, max))
    if sorted(starts) != starts:
        starts = list(accumulate(reversed(starts), min))[::-1]
    return _Tokens(starts, ends)


def _cut(tokens: _Tokens, text: str, fresh: int, limit: int) -> Boundary | None:
    """Return the best boundary in the last half of `text[fresh:limit]`, or in all of it if the last half is one token."""
    for since in (fresh + max(limit - fresh, 0) // 2, fresh):
        found = [each for each in breaks(text, since, limit) if each.before > fresh and tokens.fit(each.before, each.after)]
        best = max(found, default=None)
        if best is None or best.level == WORD:
            word = last_word(text, since, limit)
            if word is not None and word.before > fresh and tokens.fit(word.before, word.after):
                best = word if best is None else max(best, word)
        if best is not None:
            return best
        seam = tokens.last_seam(text, since, limit)
        if seam is not None:
            return Boundary(0, white_start(text, seam), white_end(text, seam))
    return None


def _forced(tokens: _Tokens, text: str, start: int, limit: int, longest: int) -> Boundary:
    """Return the cut where none between tokens is left: in an overlong token, or behind a character of too many tokens."""
    if limit - start > 1:
        # A tokenizer that does not separate words makes one token of all of them.
        word = last_word(text, start + (limit - start) // 2, limit)
        if word is not None and word.before > start:
            return word
        tries = range(limit, max(limit - _TRIES, start), -1)
        end = next((position for position in tries if not splits_cluster(text, position)), limit)
    else:
        end = min(_at(tokens.starts, bisect_right(tokens.starts, start), len(text)), start + longest)
    return Boundary(0, white_start(text, end), white_end(text, end))


def _overlapping(tokens: _Tokens, text: str, cut: Boundary, overlap: int, earliest: int) -> int:
    """Return the start of the next chunk, after `earliest`: up to `overlap` tokens before the cut, or right behind it."""
    last = bisect_left(tokens.starts, cut.before)
    if overlap == 0 or last == 0 or tokens.ends[last - 1] > cut.after:
        return cut.after
    start = max(tokens.starts[max(last - overlap, 0)], earliest + 1)
    for found in breaks(text, max(start - _STOP_CHARS, 0), cut.before):
        if found.level > WORD and start <= found.after < cut.before:
            return found.after
    word = first_word(text, start, cut.before)
    if word is not None:
        return word
    index = bisect_left(tokens.starts, start)
    while index < last:
        position = tokens.starts[index]
        if position > 0 and tokens.fit(position, position) and not splits_cluster(text, position):
            return position
        index += 1
    return cut.after


def _at(values: Sequence[int], index: int, default: int) -> int:
    return values[index] if index < len(values) else default
