"""From a question to an answer: one release answers the whole of it, and says so.

resolve the active release -> its query text -> its encoder in Triton -> its collection -> documents by best chunk
"""

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from twinline.clients.store.protocol import StoredPoint, nearest, stored_version
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.errors import MismatchError
from twinline.contract.principal import Principal
from twinline.search.highlight import highlights
from twinline.search.query_cache import RememberedQueries
from twinline.search.releases import Served
from twinline.search.results import Hit, HitChunk, KafkaPlace, Lineage, Question, SearchResult, Timings

# Chunks asked for per wanted document at first, and how much further each next look reaches. Most documents are one or
# two chunks, so one look is the rule.
_FIRST_REACH: Final = 3
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
        if served.recent is not None:
            served.recent.add(text, embeddings)
        return found


def answer_from(served: Served, question: Question, principal: Principal) -> SearchResult:
    """Answer `question` from one given release; a trial: it does not count as a query, and always asks the encoder."""
    _require_search(principal, question)
    return _answer(served, question, None)[0]


def _require_search(principal: Principal, question: Question) -> None:
    principal.require("search", tenant=question.tenant, source=question.source)


def _answer(served: Served, question: Question, remembered: RememberedQueries | None) -> tuple[SearchResult, str, Embeddings]:
    started = time.perf_counter()
    text = served.preprocessor.query_text(question.query)
    embeddings = remembered.embed(served.embedder, text) if remembered else served.embedder.embed([text], "query")
    _same_space(served, embeddings.space)
    embedded = time.perf_counter()
    points = _best_chunks(served, embeddings.vectors[0], question)
    _of_this_release(served, points)
    found = time.perf_counter()
    hits = [_hit(served, point, question.query) for point in points]
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
    )
    return result, text, embeddings


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


def _best_chunks(served: Served, vector: NDArray[np.float32], question: Question) -> list[StoredPoint]:
    """Return the best chunk of each of the nearest `limit` documents.

    One document may own all of the nearest chunks, so the look goes further until there are enough documents or
    nothing more to see.
    """
    named = {"tenant": question.tenant, "source": question.source}
    only = {field: value for field, value in named.items() if value is not None}
    reach = question.limit * _FIRST_REACH
    while True:
        points = nearest(served.collection, vector, reach, only, exact=question.exact)
        documents = _first_of_each_document(points)
        if len(documents) >= question.limit or len(points) < reach:
            return documents[: question.limit]
        reach *= _NEXT_REACH


def _first_of_each_document(points: Iterable[StoredPoint]) -> list[StoredPoint]:
    best: dict[tuple[str, str], StoredPoint] = {}
    for point in points:
        best.setdefault((point.payload["source"], point.payload["key"]), point)
    return list(best.values())


def _hit(served: Served, point: StoredPoint, query: str) -> Hit:
    payload = point.payload
    text = payload["text"]
    return Hit(
        point=point.id,
        source=payload["source"],
        key=payload["key"],
        title=payload["title"],
        score=point.score or 0.0,
        chunk=HitChunk(payload["chunk_index"], payload["start"], payload["end"], text),
        highlights=highlights(text, query),
        version=stored_version(payload),
        metadata=payload["metadata"],
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
    )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
