"""Reading an answer back: ids to text and citations, token by token or at once, with the grammar that made them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from twinline.contract.answers.detokenizer import Detokenizer
from twinline.contract.answers.grammar import Grammar
from twinline.contract.answers.passages import Shown
from twinline.contract.answers.prompt import Prompt
from twinline.contract.documents.records import Version
from twinline.contract.errors import ContractError

# `degraded`: no generator answered, and hits stand in for an answer. No ids are read then.
Outcome = Literal["answered", "not_in_documents", "degraded", "cut"]
# Why the engine ended: nothing more may follow, the most tokens, the asker left, too late, a fault.
FinishReason = Literal["stop", "length", "cancelled", "deadline", "error"]


@dataclass(frozen=True, slots=True)
class Citation:
    """Literal words of a document: `start` and `end` are code points of its version's raw text, `n` the passage in the prompt."""

    n: int
    source: str
    key: str
    version: Version
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """An answer as its ids say it; `note` comes from the prompt."""

    outcome: Outcome
    text: str
    citations: tuple[Citation, ...]
    note: str


class AnswerReader:
    """Reads one answer while it is decoded."""

    def __init__(self, grammar: Grammar, prompt: Prompt) -> None:
        self._constraint = grammar.constraint(prompt.passages)
        self._stop_ids = grammar.stop_ids
        self._detokenizer = Detokenizer(grammar.tokenizer)
        self._shown: Mapping[int, Shown] = {shown.number: shown for shown in prompt.passages}
        self._note = prompt.note
        self._texts: list[str] = []
        self._citations: list[Citation] = []
        self._is_stopped = False

    def take(self, token: int) -> Iterator[str | Citation]:
        """Yield the text that a token completes, and the citation that it closes.

        Raises:
            ContractError: the grammar does not allow the token here, so it is no answer to this prompt.
        """
        if self._is_stopped:
            raise ContractError(f"token {token} comes after the stop id: the engine ran past the end of the answer")
        was = self._constraint.state
        self._constraint.advance(token)
        if token in self._stop_ids:
            self._is_stopped = True
            return
        if text := self._detokenizer.take(token):
            self._texts.append(text)
            yield text
        if was == "quote" and self._constraint.state == "quoted":
            self._citations.append(self._citation())
            yield self._citations[-1]

    def finish(self, reason: FinishReason) -> ReadAnswer:
        """Return the whole answer.

        Args:
            reason: why the engine ended; the truth reaches the asker. The stop id may be among the tokens or not.
        """
        if rest := self._detokenizer.finish():
            self._texts.append(rest)
        return ReadAnswer(self._outcome(reason), "".join(self._texts), tuple(self._citations), self._note)

    def _outcome(self, reason: FinishReason) -> Outcome:
        if reason != "stop" or not self._constraint.may_end or self._constraint.is_cut:
            return "cut"
        return "not_in_documents" if self._constraint.state == "refused" else "answered"

    def _citation(self) -> Citation:
        claim = self._constraint.claims[-1]
        shown = self._shown[claim.number]
        start, end = self._constraint.words[claim.number].span(claim.start, claim.end)
        raw_start, raw_end = shown.passage.spans.raw_span(start, end)
        passage = shown.passage
        return Citation(claim.number, passage.source, passage.key, passage.version, raw_start, raw_end, shown.text[start:end])


def read_answer(grammar: Grammar, prompt: Prompt, ids: Sequence[int], reason: FinishReason) -> ReadAnswer:
    """Return an answer from all of its ids, the same as read token by token.

    Raises:
        ContractError: the ids are no answer to this prompt.
    """
    reader = AnswerReader(grammar, prompt)
    for token in ids:
        for _ in reader.take(token):
            pass
    return reader.finish(reason)
