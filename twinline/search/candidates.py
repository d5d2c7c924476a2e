"""The candidates of a question: chunks with both scores, and their order under the release's fusion.

    one call    top `depth` by cosine, top `depth` by words, ids and scores alone
    one call    for those that only one side listed, the other side's score
    fuse        the contract's rule, ties in a stated order
    one read    payloads of the best alone

A list that is cut inside a tie would end anywhere: it goes on to the end of the tie, and is cut by id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from twinline.clients.store.protocol import Collection, Filter, Query, StoredPoint
from twinline.clients.store.vectors import DENSE, WORDS, Ask, Dense, Vector
from twinline.contract.sparse.fusion import Candidate, Fusion, Ranked, fuse
from twinline.contract.sparse.vector import Sparse

# How far a list goes on to see the end of a tie.
_DEEPEST: Final = 4_096
_NEXT_REACH: Final = 4


@dataclass(frozen=True, slots=True)
class Sides:
    """The two vectors of a question; `dense` None: words alone, `words` None: a release without words, or vectors alone."""

    dense: Dense | None
    words: Sparse | None


def rank_candidates(
    collection: Collection,
    sides: Sides,
    fusion: Fusion,
    depth: int,
    where: Filter | None,
    *,
    exact: bool,
    ef_search: int | None = None,
) -> tuple[list[Ranked[UUID]], bool]:
    """Return the candidates best first, and whether there may be more beyond `depth`.

    Args:
        depth: the chunks that each side lists.
        where: conditions that all candidates meet.
        exact: compare with every vector.
        ef_search: candidates of the search in the graph; None: as the collection's index settings say.
    """
    asks: list[tuple[str, Vector]] = []
    if sides.dense is not None:
        asks.append((DENSE, sides.dense))
    if sides.words is not None and sides.words.ids:
        asks.append((WORDS, sides.words))
    if not asks:
        return [], False
    # Without asks: what every look at the collection has in common.
    look = Query((), where, exact, with_payload=False, ef_search=ef_search)
    lists, more = _lists(collection, asks, depth, look)
    if len(asks) == 2:
        _complete(collection, asks, lists)
    cosines, shared = lists.get(DENSE, {}), lists.get(WORDS, {})
    candidates = [
        Candidate(id_, cosines.get(id_, 0.0), shared.get(id_, 0.0))
        for id_ in {*cosines, *shared}
        # A chunk that was removed between the two calls has one score alone.
        if len(asks) < 2 or id_ in cosines
    ]
    return in_order(sides, fusion, candidates), more


def in_order(sides: Sides, fusion: Fusion, candidates: Sequence[Candidate[UUID]]) -> list[Ranked[UUID]]:
    """Return candidates best first: by the fusion, or by the one side that the question has."""
    if sides.dense is None:
        return _by_words(candidates)
    return fuse(fusion.of(sides.words) if sides.words is not None and sides.words.ids else Fusion("dense"), candidates)


def _by_words(candidates: Sequence[Candidate[UUID]]) -> list[Ranked[UUID]]:
    ordered = sorted(candidates, key=lambda each: (-each.words, each.id))
    return [Ranked(each, each.words, None, rank) for rank, each in enumerate(ordered, start=1)]


def _lists(
    collection: Collection, asks: Sequence[tuple[str, Vector]], depth: int, look: Query
) -> tuple[dict[str, dict[UUID, float]], bool]:
    """Return the scores of each side's first `depth` chunks by id."""
    # One more than wanted: it tells whether the cut goes through a tie.
    answers = collection.query(replace(look, asks=tuple(Ask(name, vector, depth + 1) for name, vector in asks)))
    lists = {
        name: _cut(collection, Ask(name, vector, depth), points, look)
        for (name, vector), points in zip(asks, answers, strict=True)
    }
    return lists, any(len(points) > depth for points in answers)


def _cut(collection: Collection, ask: Ask, points: Sequence[StoredPoint], look: Query) -> dict[UUID, float]:
    reach = len(points)
    while len(points) > ask.depth and len(points) == reach and _score(points[-1]) == _score(points[ask.depth - 1]):
        if reach >= _DEEPEST:
            break
        reach = min(reach * _NEXT_REACH, _DEEPEST)
        (points,) = collection.query(replace(look, asks=(Ask(ask.using, ask.vector, reach),)))
    ordered = sorted(points, key=lambda point: (-_score(point), point.id))
    return {point.id: _score(point) for point in ordered[: ask.depth]}


def _complete(collection: Collection, asks: Sequence[tuple[str, Vector]], lists: Mapping[str, dict[UUID, float]]) -> None:
    """Give each chunk that one side listed the other side's score; one that shares no word keeps none there."""
    for name, vector in asks:
        others = {id_ for other, scores in lists.items() if other != name for id_ in scores}
        missing = tuple(sorted(others - lists[name].keys()))
        if missing:
            query = Query((Ask(name, vector, len(missing)),), exact=True, among=missing, with_payload=False)
            lists[name].update((point.id, _score(point)) for point in collection.query(query)[0])


def _score(point: StoredPoint) -> float:
    return point.score or 0.0
