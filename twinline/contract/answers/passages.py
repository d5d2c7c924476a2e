"""Passages: pieces of documents that a prompt shows and an answer may quote, under numbers from 1.

Format 1 of a passage, each piece encoded apart: `[n]`, the title behind a space, a new line, the text, an empty line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Version
from twinline.contract.documents.span_map import SpanMap
from twinline.contract.errors import MismatchError

# A longer title is cut at the end of a word, and the report says so.
TITLE_TOKENS: Final = 64
MAX_PASSAGES: Final = 99


@dataclass(frozen=True, slots=True)
class Passage:
    """One chunk of a versioned document, as search found it; `text` is clean, `spans` leads back to the document."""

    source: str
    key: str
    version: Version
    chunk: int
    title: str
    text: str
    spans: SpanMap

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return {**asdict(self), "spans": {"start": self.spans.start, "end": self.spans.end, "runs": self.spans.to_json()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], place: str) -> Self:
        """Read the form of `to_json`.

        Raises:
            MismatchError: a field is missing or unknown.
        """
        try:
            spans = SpanMap.from_json(value["spans"]["start"], value["spans"]["end"], value["spans"]["runs"], place)
            return cls(**{**value, "version": Version(**value["version"]), "spans": spans})
        except (KeyError, TypeError) as exc:
            raise MismatchError(f"{place} is no passage: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class Shown:
    """A passage as a prompt shows it: under a number, whole or cut at the end of a sentence."""

    number: int
    passage: Passage
    text: str
    is_cut: bool
    is_title_cut: bool
    ids: tuple[int, ...]


def label_ids(tokenizer: AnswerTokenizer, number: int) -> tuple[int, ...]:
    """Return the ids of a passage's number, the same in prompt, grammar and training."""
    return tokenizer.encode(f"[{number}]")


def passage_ids(tokenizer: AnswerTokenizer, number: int, title: str, text: str) -> tuple[int, ...]:
    """Return the ids of a passage in format 1."""
    pieces: list[int] = [*label_ids(tokenizer, number)]
    if title:
        pieces += tokenizer.encode(f" {title}")
    return (*pieces, *tokenizer.encode("\n"), *tokenizer.encode(text), *tokenizer.encode("\n\n"))


def shown_title(tokenizer: AnswerTokenizer, title: str) -> tuple[str, bool]:
    """Return a title in one line, cut at the last end of a word within its limit, and whether it was cut."""
    line = " ".join(title.split())
    ids, offsets = tokenizer.encode_with_offsets(f" {line}")
    if len(ids) <= TITLE_TOKENS:
        return line, False
    room = offsets[TITLE_TOKENS][0] - 1
    return line[: max(line.rfind(" ", 0, room + 1), 0)], True


def question_ids(tokenizer: AnswerTokenizer, question: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids before a question, and the question's own."""
    return tokenizer.encode("Question:\n"), tokenizer.encode(question)


def no_passage_ids(tokenizer: AnswerTokenizer) -> tuple[int, ...]:
    """Return the ids that stand in for passages where there are none."""
    return tokenizer.encode("No documents.\n\n")


def as_shown(passages: Sequence[Passage], tokenizer: AnswerTokenizer) -> tuple[Shown, ...]:
    """Return passages shown whole, numbered in their order, without a budget: for training data that was packed before."""
    return tuple(show(tokenizer, number, passage) for number, passage in enumerate(passages, start=1))


def show(tokenizer: AnswerTokenizer, number: int, passage: Passage, text: str | None = None) -> Shown:
    """Return a passage under a number; `text`: what is left of its text."""
    shown = passage.text if text is None else text
    title, is_title_cut = shown_title(tokenizer, passage.title)
    return Shown(number, passage, shown, text is not None, is_title_cut, passage_ids(tokenizer, number, title, shown))
