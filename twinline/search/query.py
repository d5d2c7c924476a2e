"""From a question to an answer: one release answers the whole of it, and says so.

resolve the active release -> its query text -> its encoder in Triton, its words -> candidates of both sides -> its fusion
-> documents by best chunk, copies under the first of them
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from twinline.clients.store.protocol import Filter, StoredPoint, document_metadata, stored_version
from twinline.contract.documents.ids import head_id
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.errors import DocumentError, MismatchError, TransientError
from twinline.contract.principal import Principal
from twinline.contract.sparse.fusion import NEXT_REACH, Ranked
from twinline.search.candidates import Sides, rank_candidates
from twinline.search.filters import store_conditions
from twinline.search.grouping import MOST_COPIES, Found, Grouping, newest_first
from twinline.search.highlight import highlights
from twinline.search.query_cache import RememberedQueries
from twinline.search.releases import Served
from twinline.search.results import Copy, Hit, HitChunk, KafkaPlace, Lineage, Mode, Question, SearchResult, Side, Timings


class ActiveRelease(Protocol):
    """The source of the active release."""

    def active(self) -> AbstractContextManager[Served]:
        """Resolve the alias once; the release stays open until the context ends."""


def answer(releases: ActiveRelease, question: Question, principal: Principal) -> SearchResult:
    """Answer `question` from the release that is active now, even if another is activated meanwhile.

    Raises:
        NotAllowedError: the question reaches further than the caller may search.
        DocumentError: the question holds no text, or too much.
        TransientError: no release is active, or Triton or the store is away.
        MismatchError: the encoder answers in another space than the collection is in.
    """
    require_search(principal, question)
    with releases.active() as served:
        found, text, embeddings = _answer(served, question, served.remembered)
        if served.recent is not None and embeddings is not None:
            served.recent.add(text, embeddings)
        return found


def answer_from(served: Served, question: Question, principal: Principal) -> SearchResult:
    """Answer `question` from one given release; a trial: it does not count as a query, and always asks the encoder."""
    require_search(principal, question)
    return _answer(served, question, None)[0]


def require_search(principal: Principal, question: Question) -> None:
    """Raise NotAllowedError where a question reaches further than the caller may search."""
    principal.require("search", tenant=question.tenant, source=question.source)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as a release reads it: its mode, its clean text and its vectors; `note` says what is missing of it."""

    text: str
    mode: Mode
    sides: Sides
    embeddings: Embeddings | None
    note: str


def ask_release(served: Served, question: Question, remembered: RememberedQueries | None) -> Asked:
    """Return a question as a release reads it.

    Raises:
        DocumentError, TransientError, MismatchError: as `answer` does.
    """
    text = served.preprocessor.query_text(question.query)
    mode = _mode(served, question.mode)
    may_be_words = served.words is not None and question.mode == "hybrid"
    mode, embeddings, note = _embedded(served, mode, text, remembered, may_be_words=may_be_words)
    sides = Sides(
        None if embeddings is None else embeddings.vectors[0],
        served.words.query(text) if served.words is not None and mode != "dense" else None,
    )
    return Asked(text, mode, sides, embeddings, note)


def _answer(
    served: Served, question: Question, remembered: RememberedQueries | None
) -> tuple[SearchResult, str, Embeddings | None]:
    started = time.perf_counter()
    # Before the encoder is asked: a wrong filter costs nothing.
    only = conditions(served, question)
    asked = ask_release(served, question, remembered)
    embedded = time.perf_counter()
    grouping = best_chunks(served, asked.sides, question, only)
    metadata = _metadata(served, [one.point for one in grouping.found])
    found = time.perf_counter()
    hits = [_hit(served, one, metadata[one.point.id], asked.mode, question.query) for one in grouping.found]
    result = SearchResult(
        query=question.query,
        release=served.info.release,
        space=served.info.space,
        collection=served.collection.name,
        hits=hits,
        timings=Timings(
            embed_ms=_milliseconds(embedded - started),
            search_ms=_milliseconds(found - embedded),
            total_ms=_milliseconds(time.perf_counter() - started),
        ),
        mode=asked.mode,
        note="; ".join(filter(None, (asked.note, grouping.note))),
    )
    return result, asked.text, asked.embeddings


def conditions(served: Served, question: Question) -> Filter:
    """Return the conditions that a question puts on documents, as the store takes them.

    Raises:
        DocumentError: a field that the release does not declare, a value of another type, or one that is given twice.
    """
    where = question.where or {}
    for name, value in (("tenant", question.tenant), ("source", question.source)):
        if value is not None and name in where:
            raise DocumentError("wrong_filter", f"{name!r} is given twice, as {value!r} and in `where`: give it once")
    named = {"tenant": question.tenant, "source": question.source}
    conditions = store_conditions(where, served.info.index.declared, served.info.release)
    return {**conditions, **{field: value for field, value in named.items() if value is not None}}


def _mode(served: Served, wanted: Mode) -> Mode:
    """Return the mode of an answer: a release without words, or whose gate chose vectors alone, answers by vectors."""
    if served.words is not None:
        return "dense" if wanted == "hybrid" and served.fusion.rule == "dense" else wanted
    if wanted == "words":
        raise DocumentError(
            "no_words",
            f"release {served.info.release} was made without words: ask with mode `dense`, or build a release of this version",
        )
    return "dense"


def _embedded(
    served: Served, mode: Mode, text: str, remembered: RememberedQueries | None, *, may_be_words: bool
) -> tuple[Mode, Embeddings | None, str]:
    """Return the query's vector; where the encoder is away and words may answer alone, they do, and the note says so."""
    if mode == "words":
        return mode, None, ""
    try:
        embeddings = remembered.embed(served.embedder, text) if remembered else served.embedder.embed([text], "query")
    except TransientError as exc:
        if not may_be_words:
            raise
        return "words", None, f"the encoder is away, so words alone were searched: {exc}"
    _same_space(served, embeddings.space)
    return mode, embeddings, ""


def _same_space(served: Served, space: str) -> None:
    if space != served.info.space:
        raise MismatchError(
            f"Triton answers for release {served.info.release} in space {space}, but collection "
            f"`{served.collection.name}` is in space {served.info.space}: load the model of that release in Triton, "
            "or activate the collection that was built with this one"
        )


def _of_this_release(served: Served, points: Iterable[StoredPoint]) -> None:
    """Raise MismatchError for a point that another release has written here: its score would compare two spaces."""
    info = served.info
    for point in points:
        for field, wanted in (("space", info.space), ("contract", info.contract_fingerprint), ("release", info.release)):
            if point.payload[field] != wanted:
                raise MismatchError(
                    f"collection `{served.collection.name}` is of {field} {wanted}, its point {point.id} is of "
                    f"{point.payload[field]}: retire release {info.release} and build its collection again"
                )


def best_chunks(served: Served, sides: Sides, question: Question, only: Filter) -> Grouping:
    """Return the best chunk of each of the first `limit` documents, with the copies that were seen on the way.

    One document, or copies of one, may own all of the candidates, so the look goes further until there are enough hits or
    nothing more to see. What a further look finds comes after what was found before: a longer answer begins with the shorter one.

    Args:
        only: of `conditions`.
    """
    grouping = Grouping(question.limit, grouped=question.group)
    seen: set[UUID] = set()
    depth = served.fusion.depth
    while True:
        ranked, more = rank_candidates(
            served.collection, sides, served.fusion, depth, only, exact=question.exact, ef_search=served.ef_search
        )
        _read_best(served, [one for one in ranked if one.candidate.id not in seen], grouping)
        seen |= {one.candidate.id for one in ranked}
        if grouping.is_full or not more or grouping.copies >= MOST_COPIES:
            return grouping
        depth *= NEXT_REACH


def _read_best(served: Served, ranked: Sequence[Ranked[UUID]], grouping: Grouping) -> None:
    """Place chunks, best first, until there are enough hits."""
    for start in range(0, len(ranked), grouping.page):
        if grouping.is_full or grouping.copies >= MOST_COPIES:
            return
        piece = ranked[start : start + grouping.page]
        points = served.collection.read_points([one.candidate.id for one in piece])
        _of_this_release(served, points.values())
        for one in piece:
            # Removed since it was listed.
            if (point := points.get(one.candidate.id)) is not None:
                grouping.place(point, one)


def _metadata(served: Served, points: Sequence[StoredPoint]) -> dict[UUID, Mapping[str, Any]]:
    """Return the metadata of each chunk's document: one read for all hits."""
    heads = {point.id: head_id(point.payload["source"], point.payload["key"]) for point in points}
    found = served.collection.read_heads(list(dict.fromkeys(heads.values())))
    return {point.id: document_metadata(point.payload, found.get(heads[point.id])) for point in points}


def _hit(served: Served, found: Found, metadata: Mapping[str, Any], mode: Mode, query: str) -> Hit:
    point, ranked = found.point, found.ranked
    payload, text = point.payload, point.payload["text"]
    dense, words = hit_sides(ranked, mode)
    return Hit(
        point=point.id,
        source=payload["source"],
        key=payload["key"],
        title=payload["title"],
        score=hit_score(ranked, mode),
        chunk=HitChunk(payload["chunk_index"], payload["start"], payload["end"], text),
        highlights=highlights(text, query),
        version=stored_version(payload),
        metadata=metadata,
        tenant=payload["tenant"],
        lineage=Lineage(
            release=payload["release"],
            space=payload["space"],
            contract=payload["contract"],
            kafka=_place(point),
            content_hash=payload["content_hash"],
            ingest=payload["headers"],
            training=served.training,
        ),
        dense=dense,
        words=words,
        copies=[_copy(copy) for copy in newest_first(found.copies)],
    )


def hit_score(ranked: Ranked[UUID], mode: Mode) -> float:
    """Return the score that orders the hits of an answer."""
    return {"dense": ranked.candidate.cosine, "words": ranked.candidate.words, "hybrid": ranked.fused}[mode]


def hit_sides(ranked: Ranked[UUID], mode: Mode) -> tuple[Side | None, Side | None]:
    """Return a chunk's places by meaning and by words; None for a side that the mode or the chunk does not have."""
    dense = None if mode == "words" else Side(ranked.dense_rank, ranked.candidate.cosine)
    has_words = mode != "dense" and ranked.words_rank is not None
    return dense, Side(ranked.words_rank, ranked.candidate.words) if has_words else None


def _copy(point: StoredPoint) -> Copy:
    payload = point.payload
    return Copy(payload["source"], payload["key"], payload["title"], stored_version(payload), point.id, _place(point))


def _place(point: StoredPoint) -> KafkaPlace:
    payload = point.payload
    return KafkaPlace(payload["partition"], payload["offset"], payload["timestamp_ms"])


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
