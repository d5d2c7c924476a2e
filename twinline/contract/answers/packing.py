"""Packing, version 1: whole passages, best first; the first too long one is cut at a sentence's end; the rest is left out."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from twinline.contract.answers.passages import MAX_PASSAGES, Passage, Shown, show
from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.documents.boundaries import WORD, breaks


@dataclass(frozen=True, slots=True)
class Packed:
    """The passages of a prompt, and how many were left out."""

    shown: tuple[Shown, ...]
    left_out: int

    @property
    def tokens(self) -> int:
        """Return the tokens of all passages, numbers and titles included."""
        return sum(len(each.ids) for each in self.shown)


def pack(tokenizer: AnswerTokenizer, passages: Sequence[Passage], budget: int) -> Packed:
    """Return the passages that fit a budget of tokens, in their order."""
    shown: list[Shown] = []
    room = budget
    for passage in passages[:MAX_PASSAGES]:
        whole = show(tokenizer, len(shown) + 1, passage)
        if len(whole.ids) > room:
            if (part := _cut(tokenizer, whole, room)) is not None:
                shown.append(part)
            break
        shown.append(whole)
        room -= len(whole.ids)
    return Packed(tuple(shown), len(passages) - len(shown))


def _cut(tokenizer: AnswerTokenizer, whole: Shown, room: int) -> Shown | None:
    """Return the longest part of a passage that ends with a sentence and fits; None: not even the first sentence does."""
    text = whole.text
    ids, offsets = tokenizer.encode_with_offsets(text)
    starts = [start for start, _ in offsets]
    for_text = room - (len(whole.ids) - len(ids))
    ends = [each.before for each in breaks(text, 0, len(text)) if each.level > WORD and 0 < each.before < len(text)]
    for end in reversed(ends):
        # The tokens of a part are nearly those of the whole before its end; the part itself decides.
        if bisect_left(starts, end) <= for_text + 1:
            part = show(tokenizer, whole.number, whole.passage, text[:end])
            if len(part.ids) <= room:
                return part
    return None
