"""`twinline explain`: read what decides whether a document is found, from its head to its exact ranks.

head and chunks -> the question's conditions, one by one -> the answer as search gives it -> exact scores of the document's chunks
-> the chunks that score higher, counted over all -> the words that query and chunk share -> the log, where it can be asked
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from twinline.clients.store.protocol import Collection, Filter, Head, Query, StoredPoint
from twinline.clients.store.vectors import DENSE, WORDS, Ask, Vector
from twinline.contract.documents.ids import head_id
from twinline.contract.errors import DocumentError, SettingsError, TransientError
from twinline.contract.principal import Principal
from twinline.contract.sparse.fusion import Candidate, Ranked
from twinline.contract.sparse.ids import term_id
from twinline.contract.sparse.vector import Sparse
from twinline.search.candidates import Sides, in_order, rank_candidates
from twinline.search.explanation import ChunkPlace, Explanation, Facts, Last, State, Term, Waiting, Wanted, decide
from twinline.search.grouping import Grouping
from twinline.search.query import (
    ActiveRelease,
    Asked,
    ask_release,
    best_chunks,
    conditions,
    hit_score,
    hit_sides,
    require_search,
)
from twinline.search.releases import Served
from twinline.search.results import Question, Side

# Release, source (None: any) and key of a document -> what of the log is not in the index.
AskLog = Callable[[str, str | None, str], Waiting]
# How far chunks that score higher are counted. A list of ids takes 100 bytes or more an entry, in the process that searches.
MOST_COUNTED: Final = 100_000
_FIRST_COUNTED: Final = 1_000
_NEXT_REACH: Final = 10
_PAGE: Final = 256
_NO_LOG: Final = "this service does not read the log: the online process does (`twinline up`)"


@dataclass(frozen=True, slots=True)
class _Stored:
    """A document as the collection has it."""

    head: Head | None
    chunks: Sequence[StoredPoint]


def explain(
    releases: ActiveRelease, question: Question, wanted: Wanted, principal: Principal, ask_log: AskLog | None = None
) -> Explanation:
    """Return why a document was or was not found by a question, in the release that is active now.

    A document that the caller may not search for is explained as one that is not there.

    Args:
        ask_log: tells what of the document the log holds beyond the index.

    Raises:
        NotAllowedError, DocumentError, TransientError, MismatchError: as `query.answer` does.
        DocumentError: several sources have a document of this key.
    """
    require_search(principal, question)
    with releases.active() as served:
        stored = _stored(served.collection, wanted, principal)
        asked = ask_release(served, question, served.remembered)
        explained = _explained(served, asked, question, wanted, stored)
        # A message of the log has no tenant before it is read.
        if ask_log is None or principal.tenants is not None:
            return replace(explained, log=_NO_LOG)
        try:
            return replace(explained, waiting=ask_log(served.info.release, explained.source, wanted.key))
        except (SettingsError, TransientError) as exc:
            return replace(explained, log=f"the log was not asked: {exc}")


def _stored(collection: Collection, wanted: Wanted, principal: Principal) -> _Stored:
    head = _head(collection, wanted, principal)
    if head is None:
        return _Stored(None, ())
    chunks: list[StoredPoint] = []
    offset: UUID | None = None
    where: Filter = {"kind": "chunk", "source": head.source, "key": head.key}
    while True:
        page, offset = collection.scroll(where, _PAGE, offset, with_vectors=True)
        chunks += page
        if offset is None:
            break
    allowed = principal.tenants
    if allowed is not None and not any(point.payload["tenant"] in allowed for point in chunks):
        # Nor is it said that there was one.
        return _Stored(None, ())
    return _Stored(head, sorted(chunks, key=lambda point: int(point.payload["chunk_index"])))


def _head(collection: Collection, wanted: Wanted, principal: Principal) -> Head | None:
    if wanted.source is not None:
        heads = list(collection.read_heads([head_id(wanted.source, wanted.key)]).values())
    else:
        points, _ = collection.scroll({"kind": "head", "key": wanted.key}, _PAGE)
        heads = [Head.from_payload(point.payload) for point in points]
    heads = [head for head in heads if principal.sources is None or head.source in principal.sources]
    if len(heads) > 1:
        sources = ", ".join(repr(head.source) for head in sorted(heads, key=lambda head: head.source))
        raise DocumentError("several_sources", f"documents of key {wanted.key!r} are in the sources {sources}: name one of them")
    return heads[0] if heads else None


def _explained(served: Served, asked: Asked, question: Question, wanted: Wanted, stored: _Stored) -> Explanation:
    head, chunks = stored.head, stored.chunks
    source = wanted.source if head is None else head.source
    name = f"[{source or '*'}, {wanted.key}]"
    only = conditions(served, question)
    left_out = [] if head is None or not chunks else _left_out(served.collection, head, only)
    grouping = best_chunks(served, asked.sides, question, only)
    hit, under = _in_the_answer(grouping, source, wanted.key)
    explained = Explanation(
        query=question.query,
        release=served.info.release,
        collection=served.collection.name,
        mode=asked.mode,
        note="; ".join(filter(None, (asked.note, grouping.note))),
        source=source,
        key=wanted.key,
        state=_state(head, len(chunks)),
        why="absent",
        reason="",
        remedy="",
        version=None if head is None else head.version,
        chunks=len(chunks),
        rank=hit if hit is not None else under,
        conditions=left_out,
        last=_last(grouping, asked),
    )
    facts = Facts(
        explained.state,
        asked.mode,
        question.limit,
        served.fusion.depth,
        name,
        served.collection.name,
        0 if head is None else head.chunk_count,
        len(chunks),
        left_out,
        hit,
        under,
        last_score=None if explained.last is None else explained.last.score,
    )
    if chunks and head is not None and not head.deleted:
        # A document that a condition leaves out is compared as if the condition were not there.
        explained, facts = _compared(served, asked, question, {} if left_out else only, chunks, explained, facts)
    why, reason, remedy = decide(facts)
    return replace(explained, why=why, reason=reason, remedy=remedy)


def _state(head: Head | None, chunks: int) -> State:
    if head is None:
        return "absent"
    if head.deleted:
        return "deleted"
    return "stored" if chunks >= head.chunk_count else "incomplete"


def _left_out(collection: Collection, head: Head, only: Filter) -> list[str]:
    """Return the conditions that leave a document out, each asked of the store by itself."""
    own: Filter = {"kind": "chunk", "source": head.source, "key": head.key}
    return [
        f"{field} {value!r}"
        for field, value in only.items()
        # The store joins conditions by field: the document's own source says nothing more.
        if (value != head.source if field == "source" else not collection.count({**own, field: value}))
    ]


def _in_the_answer(grouping: Grouping, source: str | None, key: str) -> tuple[int | None, int | None]:
    """Return the rank of a document's hit, and that of the hit that lists it as a copy."""
    for rank, found in enumerate(grouping.found, start=1):
        first, *copies = [(point.payload["source"], point.payload["key"]) for point in (found.point, *found.copies)]
        if (source, key) == first:
            return rank, None
        if (source, key) in copies:
            return None, rank
    return None, None


def _last(grouping: Grouping, asked: Asked) -> Last | None:
    if not grouping.found:
        return None
    last = grouping.found[-1]
    dense, words = hit_sides(last.ranked, asked.mode)
    payload = last.point.payload
    return Last(len(grouping.found), payload["source"], payload["key"], hit_score(last.ranked, asked.mode), dense, words)


@dataclass(frozen=True, slots=True)
class _Scores:
    """Exact scores of a document's chunks by either side, and how they rank among the candidates."""

    cosines: Mapping[UUID, float]
    shared: Mapping[UUID, float]
    ranked: Sequence[Ranked[UUID]]
    listed: bool
    listed_exactly: bool

    @property
    def nearest(self) -> UUID | None:
        """Return the chunk of the highest cosine."""
        return min(self.cosines, key=lambda id_: (-self.cosines[id_], id_), default=None)


def _compared(
    served: Served,
    asked: Asked,
    question: Question,
    only: Filter,
    chunks: Sequence[StoredPoint],
    explained: Explanation,
    facts: Facts,
) -> tuple[Explanation, Facts]:
    """Add the places of the document's chunks and the terms of the query to an explanation and to what is decided from."""
    by_id = {point.id: point for point in chunks}
    scores = _scores(served, asked.sides, only, by_id, exact=question.exact)
    best = next(one for one in scores.ranked if one.candidate.id in by_id)
    places = {
        id_: _place(served, asked, only, by_id[id_], scores) for id_ in {best.candidate.id, scores.nearest} if id_ is not None
    }
    score = hit_score(best, asked.mode)
    explained = replace(
        explained,
        title=chunks[0].payload["title"],
        score=score,
        best=places[best.candidate.id],
        nearest=None if scores.nearest is None else places[scores.nearest],
        terms=_terms(served, asked.text, by_id[best.candidate.id]),
    )
    facts = replace(
        facts, listed=scores.listed, listed_exactly=scores.listed_exactly, shares_words=any(scores.shared.values()), score=score
    )
    return explained, facts


def _scores(served: Served, sides: Sides, only: Filter, chunks: Mapping[UUID, StoredPoint], *, exact: bool) -> _Scores:
    """Rank a document's chunks among the candidates; those that no side listed join them with their exact scores."""
    ids = tuple(sorted(chunks))

    def rank(*, exact: bool) -> list[Ranked[UUID]]:
        return rank_candidates(served.collection, sides, served.fusion, served.fusion.depth, only, exact=exact)[0]

    ranked = rank(exact=exact)
    listed = {one.candidate.id for one in ranked}
    cosines = _exact(served.collection, DENSE, sides.dense, ids)
    shared = _exact(served.collection, WORDS, sides.words, ids)
    own = [Candidate(id_, cosines.get(id_, 0.0), shared.get(id_, 0.0)) for id_ in ids if id_ not in listed]
    joined = in_order(sides, served.fusion, [*(one.candidate for one in ranked), *own])
    is_listed = not listed.isdisjoint(ids)
    is_listed_exactly = is_listed or (not exact and any(one.candidate.id in chunks for one in rank(exact=True)))
    return _Scores(cosines, shared, joined, is_listed, is_listed_exactly)


def _exact(collection: Collection, name: str, vector: Vector | None, ids: tuple[UUID, ...]) -> dict[UUID, float]:
    if vector is None or (isinstance(vector, Sparse) and not vector.ids):
        return {}
    (points,) = collection.query(Query((Ask(name, vector, len(ids)),), exact=True, among=ids, with_payload=False))
    return {point.id: point.score or 0.0 for point in points}


def _place(served: Served, asked: Asked, only: Filter, point: StoredPoint, scores: _Scores) -> ChunkPlace:
    payload, sides = point.payload, asked.sides

    def side(name: str, vector: Vector | None, score: float | None) -> Side | None:
        if vector is None:
            return None
        # A chunk that shares no word has no place among those that do.
        return Side(None, 0.0) if score is None else Side(_rank(served.collection, Ask(name, vector, 1), only, score), score)

    return ChunkPlace(
        point.id,
        payload["chunk_index"],
        payload["start"],
        payload["end"],
        payload["text"],
        side(DENSE, sides.dense, scores.cosines.get(point.id)),
        side(WORDS, sides.words, scores.shared.get(point.id)),
    )


def _rank(collection: Collection, ask: Ask, only: Filter, score: float) -> int | None:
    """Return one more than the chunks that score higher; None where they are more than `MOST_COUNTED`."""
    reach = _FIRST_COUNTED
    while True:
        (points,) = collection.query(Query((replace(ask, depth=reach),), only, exact=True, with_payload=False))
        higher = sum((point.score or 0.0) > score for point in points)
        if higher < len(points) or len(points) < reach:
            return higher + 1
        if reach >= MOST_COUNTED:
            return None
        reach = min(reach * _NEXT_REACH, MOST_COUNTED)


def _terms(served: Served, text: str, chunk: StoredPoint) -> list[Term]:
    """Return the terms of a query, the rarest first, with what each adds to a chunk's score by words."""
    vector = chunk.vectors.get(WORDS)
    if served.words is None or not isinstance(vector, Sparse):
        return []
    query = served.words.query(text)
    rarities = dict(zip(query.ids, query.weights, strict=True))
    own = dict(zip(vector.ids, vector.weights, strict=True))
    terms = [(term, term_id(term)) for term in dict.fromkeys(served.words.terms(text))]
    found = [Term(term, rarities[id_], rarities[id_] * own.get(id_, 0)) for term, id_ in terms if id_ in rarities]
    return sorted(found, key=lambda term: (-term.rarity, term.term))
