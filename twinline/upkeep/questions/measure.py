"""Ask the project's own questions, and score the answers against their judgements.

questions.jsonl -> one question, its judged documents -> search -> nDCG@10, MRR@10, recall@10 of each question
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

from twinline.clients.questions import Question
from twinline.contract.documents.records import encode_key
from twinline.contract.errors import SettingsError, TransientError
from twinline.scoring.first_ten import METRICS, score_first_ten

METRIC: Final = "ndcg_at_10"
# As for an encoder: `encoder.evaluate.min_queries`, docs/decisions/undecided.md.
FEWEST_QUESTIONS: Final = 30
HITS: Final = 10

Answers = Callable[[Sequence[str]], Sequence[Mapping[str, Any]]]
"""Texts of questions -> the search API's results, in their order."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with all of its judged documents: grade by document, each named by its key in the log."""

    text: str
    grades: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """The answers of one release under one set of search settings, scored.

    Args:
        asked: the questions by id.
        values: question id -> metric -> value.
        documents: document -> digest of its text, empty where it is not in the index; None where nobody could look.
    """

    release: str
    collection: str
    mode: str
    settings: Mapping[str, Any]
    asked: Mapping[str, Asked]
    values: Mapping[str, Mapping[str, float]]
    documents: Mapping[str, str] | None = field(default=None)

    def means(self) -> dict[str, float]:
        """Return the mean of each metric."""
        return {metric: fmean(values[metric] for values in self.values.values()) for metric in METRICS}

    def of(self, metric: str, questions: Iterable[str]) -> dict[str, float]:
        """Return one metric of some questions."""
        return {question: self.values[question][metric] for question in questions}


def by_question(judgements: Sequence[Question], place: str) -> dict[str, Asked]:
    """Return the questions by id, each with its judged documents.

    Raises:
        SettingsError: there is no question.
    """
    if not judgements:
        raise SettingsError(f'{place} holds no question: add some with `twinline questions add "..." --document KEY`')
    texts = {asked.query_id: asked.question for asked in judgements}
    return {
        query_id: Asked(text, {document_id(one.source, one.key): one.grade for one in judgements if one.query_id == query_id})
        for query_id, text in sorted(texts.items())
    }


def document_id(source: str, key: str) -> str:
    """Return the name of a document in judgements and rankings: its key in the log."""
    return encode_key(source, key).decode()


def measure(asked: Mapping[str, Asked], answers: Answers, settings: Mapping[str, Any]) -> Measured:
    """Ask all questions and score them.

    Args:
        settings: of this search, as they are recorded.

    Raises:
        TransientError: another release became active meanwhile, or words alone answered because the encoder was away.
    """
    found = answers([one.text for one in asked.values()])
    notes = sorted({str(answer["note"]) for answer in found if answer.get("note")})
    if notes:
        raise TransientError(f"this is not how people are answered, so nothing was measured: {notes[0]}")
    sides = sorted({(answer["release"], answer["collection"], answer.get("mode", "dense")) for answer in found})
    if len(sides) != 1:
        raise TransientError(f"the release changed during the measurement, {sides[0][0]} and {sides[-1][0]}: run it again")
    [(release, collection, mode)] = sides
    values = {
        query_id: score_first_ten([document_id(hit["source"], hit["key"]) for hit in answer["hits"]], one.grades)
        for (query_id, one), answer in zip(asked.items(), found, strict=True)
    }
    return Measured(release, collection, mode, settings, asked, values)
