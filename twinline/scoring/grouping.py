"""Group a run as search groups its hits, offline: what an answer costs or gains by listing copies under the first of them.

    hits        an answer with each group as one hit; a judged document that is listed under another counts as not found
    judged      judgements of groups: a hit is as good as the best document of its group, and the others are not missed

A cost is the difference of `hits` to the run as it was, on the same judgements: what a reader loses who opens no list. A gain is
the difference on `judged`: what a reader has of the room that copies took.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from twinline.contract.canonical import JSON
from twinline.contract.documents.sameness import SAMENESS_VERSION, Groups
from twinline.scoring.hybrid import places
from twinline.scoring.retrieval import Judgements, score_queries

# The metric of both figures, and the hits that it reads.
_METRIC: Final = "ndcg_at_10"
_HITS: Final = 10
RULE: Final = (
    f"group: true, measure {SAMENESS_VERSION}: documents that say the same are one hit, which counts by the best of them; the "
    "others are not missed"
)


@dataclass(frozen=True, slots=True)
class ChunkText:
    """What a chunk says: its content hash and its clean text."""

    content_hash: str
    text: str


@dataclass(frozen=True, slots=True)
class GroupedRun:
    """A run with each group as one hit.

    Attributes:
        hits: query id -> document id -> score, which only says the order.
        copies: query id -> hit -> the documents listed under it, best first.
    """

    hits: Mapping[str, Mapping[str, float]]
    copies: Mapping[str, Mapping[str, Sequence[str]]]

    @property
    def joined(self) -> int:
        """Return how many documents are listed under another, over all queries."""
        return sum(len(listed) for groups in self.copies.values() for listed in groups.values())

    def judged(self, judgements: Judgements) -> dict[str, dict[str, int]]:
        """Return the judgements of groups."""
        return {query: _judged(grades, self.copies.get(query, {})) for query, grades in judgements.items()}


def group_run(found: Mapping[str, Mapping[str, int]], chunks: Sequence[ChunkText], *, limit: int = 100) -> GroupedRun:
    """Return a run in which documents that say the same are one hit.

    Args:
        found: query id -> documents, best first, each with the row of its best chunk, as `best_chunks_by_fusions` gives them.
            A run of `limit` hits takes more documents than that where some are copies.
        chunks: of the corpus, by row.
        limit: the hits of a query at most.
    """
    hits: dict[str, dict[str, float]] = {}
    copies: dict[str, dict[str, list[str]]] = {}
    for query, documents in found.items():
        groups: Groups[str] = Groups()
        listed: dict[str, list[str]] = {}
        for document, row in documents.items():
            said = chunks[row]
            has_room = len(listed) < limit
            first = groups.first_of(document, said.content_hash, said.text, may_begin=has_room)
            if first is not None:
                listed[first].append(document)
            elif has_room:
                listed[document] = []
        hits[query] = places(listed, limit)
        copies[query] = {hit: others for hit, others in listed.items() if others}
    return GroupedRun(hits, copies)


@dataclass(frozen=True, slots=True)
class ScoredGroups:
    """nDCG@10 of a grouped run, by query.

    Attributes:
        judged: a hit counts by the best document of its group.
        hits: a hit counts by itself; a judged document that is listed under another is missed.
        listed: how many documents are listed under one of the first ten hits, over all queries.
    """

    judged: Mapping[str, float]
    hits: Mapping[str, float]
    listed: int

    def to_json(self) -> dict[str, JSON]:
        """Return the means."""
        return {_METRIC: _mean(self.judged), f"{_METRIC}_hits_alone": _mean(self.hits), "documents_listed": self.listed}


def scored_groups(found: Mapping[str, Mapping[str, int]], chunks: Sequence[ChunkText], judgements: Judgements) -> ScoredGroups:
    """Score the first ten hits of a run in which documents that say the same are one hit; arguments as of `group_run`."""
    grouped = group_run(found, chunks, limit=_HITS)
    judged = score_queries(grouped.hits, grouped.judged(judgements))[_METRIC]
    return ScoredGroups(judged, score_queries(grouped.hits, judgements)[_METRIC], grouped.joined)


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / max(len(values), 1)


def _judged(grades: Mapping[str, int], copies: Mapping[str, Sequence[str]]) -> dict[str, int]:
    judged = dict(grades)
    for hit, others in copies.items():
        found = [judged.pop(document) for document in (hit, *others) if document in judged]
        if found:
            judged[hit] = max(found)
    return judged
