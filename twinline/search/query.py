"""From a question to an answer: one release answers the whole of it, and says so.

resolve the active release -> its query text -> its encoder in Triton, its words -> candidates of both sides -> its fusion
-> documents by best chunk
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol
from uuid import UUID

from twinline.clients.store.protocol import Filter, StoredPoint, document_metadata, stored_version
from twinline.contract.documents.ids import head_id
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.errors import DocumentError, MismatchError, TransientError
from twinline.contract.principal import Principal
from twinline.contract.sparse.fusion import Ranked
from twinline.search.candidates import Sides, rank_candidates
from twinline.search.filters import store_conditions
from twinline.search.highlight import highlights
from twinline.search.query_cache import RememberedQueries
from twinline.search.releases import Served
from twinline.search.results import Hit, HitChunk, KafkaPlace, Lineage, Mode, Question, SearchResult, Side, Timings

# Chunks that each side lists at first where a release says nothing of it, and how much further each next look reaches.
_NEXT_REACH: Final = 4


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
    _require_search(principal, question)
    with releases.active() as served:
        found, text, embeddings = _answer(served, question, served.remembered)
        if served.recent is not None and embeddings is not None:
            served.recent.add(text, embeddings)
        return found


def answer_from(served: Served, question: Question, principal: Principal) -> SearchResult:
    """Answer `question` from one given release; a trial: it does not count as a query, and always asks the encoder."""
    _require_search(principal, question)
    return _answer(served, question, None)[0]


def _require_search(principal: Principal, question: Question) -> None:
    principal.require("search", tenant=question.tenant, source=question.source)


def _answer(
    served: Served, question: Question, remembered: RememberedQueries | None
) -> tuple[SearchResult, str, Embeddings | None]:
    started = time.perf_counter()
    where = _conditions(served, question)
    text = served.preprocessor.query_text(question.query)
    mode = _mode(served, question.mode)
    mode, embeddings, note = _embedded(served, mode, text, remembered)
    embedded = time.perf_counter()
    sides = Sides(
        None if embeddings is None else embeddings.vectors[0],
        served.words.query(text) if served.words is not None and mode != "dense" else None,
    )
    chosen = _best_chunks(served, sides, question, where)
    metadata = _metadata(served, [point for point, _ in chosen])
    found = time.perf_counter()
    hits = [_hit(served, point, metadata[point.id], ranked, mode, question.query) for point, ranked in chosen]
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
        mode=mode,
        note=note,
    )
    return result, text, embeddings


def _conditions(served: Served, question: Question) -> dict[str, Any]:
    """Return the store's conditions of a question."""
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


def _embedded(served: Served, mode: Mode, text: str, remembered: RememberedQueries | None) -> tuple[Mode, Embeddings | None, str]:
    """Return the query's vector; where the encoder is away and words are there, words answer alone, and the note says so."""
    if mode == "words":
        return mode, None, ""
    try:
        embeddings = remembered.embed(served.embedder, text) if remembered else served.embedder.embed([text], "query")
    except TransientError as exc:
        if mode == "dense":
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


def _best_chunks(served: Served, sides: Sides, question: Question, only: Filter) -> list[tuple[StoredPoint, Ranked[UUID]]]:
    """Return the best chunk of each of the first `limit` documents.

    One document may own all of the candidates, so the look goes further until there are enough documents or nothing more to
    see. What a further look finds comes after what was found before: a longer answer begins with the shorter one.
    """
    best: dict[tuple[str, str], tuple[StoredPoint, Ranked[UUID]]] = {}
    seen: set[UUID] = set()
    depth = served.fusion.depth
    while True:
        ranked, more = rank_candidates(served.collection, sides, served.fusion, depth, only, exact=question.exact)
        _first_of_each_document(served, [one for one in ranked if one.candidate.id not in seen], question.limit, best)
        seen |= {one.candidate.id for one in ranked}
        if len(best) >= question.limit or not more:
            return list(best.values())
        depth *= _NEXT_REACH


def _first_of_each_document(
    served: Served,
    ranked: Sequence[Ranked[UUID]],
    limit: int,
    best: dict[tuple[str, str], tuple[StoredPoint, Ranked[UUID]]],
) -> None:
    """Add the best chunk of each document that is not there yet, until there are `limit`."""
    # Most documents are one or two chunks, so one read is the rule.
    page = 2 * limit
    for start in range(0, len(ranked), page):
        if len(best) >= limit:
            return
        piece = ranked[start : start + page]
        points = served.collection.read_points([one.candidate.id for one in piece])
        _of_this_release(served, points.values())
        for one in piece:
            # Removed since it was listed.
            if (point := points.get(one.candidate.id)) is None or len(best) >= limit:
                continue
            best.setdefault((point.payload["source"], point.payload["key"]), (point, one))


def _metadata(served: Served, points: Sequence[StoredPoint]) -> dict[UUID, Mapping[str, Any]]:
    """Return the metadata of each chunk's document: one read for all hits."""
    heads = {point.id: head_id(point.payload["source"], point.payload["key"]) for point in points}
    found = served.collection.read_heads(list(dict.fromkeys(heads.values())))
    return {point.id: document_metadata(point.payload, found.get(heads[point.id])) for point in points}


def _hit(served: Served, point: StoredPoint, metadata: Mapping[str, Any], ranked: Ranked[UUID], mode: Mode, query: str) -> Hit:
    payload, candidate = point.payload, ranked.candidate
    text = payload["text"]
    return Hit(
        point=point.id,
        source=payload["source"],
        key=payload["key"],
        title=payload["title"],
        score={"dense": candidate.cosine, "words": candidate.words, "hybrid": ranked.fused}[mode],
        chunk=HitChunk(payload["chunk_index"], payload["start"], payload["end"], text),
        highlights=highlights(text, query),
        version=stored_version(payload),
        metadata=metadata,
        tenant=payload["tenant"],
        lineage=Lineage(
            release=payload["release"],
            space=payload["space"],
            contract=payload["contract"],
            kafka=KafkaPlace(payload["partition"], payload["offset"], payload["timestamp_ms"]),
            content_hash=payload["content_hash"],
            ingest=payload["headers"],
            training=served.training,
        ),
        dense=None if mode == "words" else Side(ranked.dense_rank, candidate.cosine),
        words=None if mode == "dense" or ranked.words_rank is None else Side(ranked.words_rank, candidate.words),
    )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
