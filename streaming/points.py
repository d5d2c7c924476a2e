"""From plans to points: stored vectors of unchanged texts are kept, the other texts are embedded in small pieces."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from streaming.known_vectors import KnownVectors
from streaming.plans import Plan
from twinline.clients.store.protocol import CollectionInfo, StoredPoint, version_fields
from twinline.clients.store.vectors import DENSE, WORDS
from twinline.clients.store.vectors import Vector as AnyVector
from twinline.contract.canonical import JSON
from twinline.contract.documents.filterable import FieldType, filterable
from twinline.contract.documents.ids import point_id
from twinline.contract.documents.records import Document
from twinline.contract.encoder.chunking import Chunk
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.errors import MismatchError
from twinline.contract.sparse.weights import Words

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors `(dim,)` by content hash: the same hash in the same space has the same vector.

    `kept` are the hashes whose vectors were stored or known before.
    """

    by_hash: Mapping[str, Vector]
    kept: frozenset[str]
    embedded: int


def possible_points(plans: Sequence[Plan]) -> list[UUID]:
    """Return the ids of the chunks of these documents' stored versions."""
    return [
        point_id(plan.head.source, plan.head.key, index)
        for plan in plans
        if plan.previous and plan.chunks
        for index in range(plan.previous.chunk_count)
    ]


def find_vectors(
    plans: Sequence[Plan],
    stored: Iterable[StoredPoint],
    embedder: Embedder,
    dimension: int,
    texts_per_request: int,
    between: Callable[[], object] = lambda: None,
    ready: Mapping[str, Vector] = MappingProxyType({}),
    known: KnownVectors | None = None,
) -> Vectors:
    """Return a vector for every chunk of the plans.

    Args:
        stored: points of these documents, here or in another collection, with vectors. A text that moved within its document is
            found too.
        dimension: of the collection's vectors.
        texts_per_request: the texts of one request to the encoder; few, so that a query in between does not wait for long.
        between: called before each request.
        ready: vectors by content hash that this encoder has made already.
        known: vectors of the release's earlier texts; new ones are added.

    Raises:
        MismatchError: the encoder changed its space meanwhile, or its vectors do not fit.
    """
    by_hash: dict[str, Vector] = {
        point.payload["content_hash"]: point.dense
        for point in stored
        if point.dense is not None and point.payload["space"] == embedder.space
    }
    changed = {chunk.content_hash: chunk for plan in plans for chunk in plan.chunks if chunk.content_hash not in by_hash}
    # The prefetched ones were written to the known vectors too, and count as embedded.
    by_hash |= known.read([content_hash for content_hash in changed if content_hash not in ready]) if known else {}
    kept = frozenset(by_hash)
    changed = {content_hash: chunk for content_hash, chunk in changed.items() if content_hash not in kept}
    by_hash |= {content_hash: ready[content_hash] for content_hash in changed if content_hash in ready}
    unready = [chunk for content_hash, chunk in changed.items() if content_hash not in ready]
    # Sorted by length: the encoder pads a piece to its longest text.
    waiting = sorted(unready, key=lambda chunk: chunk.token_count)
    for start in range(0, len(waiting), texts_per_request):
        piece = waiting[start : start + texts_per_request]
        between()
        token_counts = [chunk.token_count for chunk in piece]
        answer = embedder.embed([chunk.encoder_text for chunk in piece], "document", token_counts)
        if answer.space != embedder.space:
            raise MismatchError(
                f"the encoder answered from space {answer.space}, this collection is of {embedder.space}: "
                "serve the release's own encoder, or build a collection for the new one"
            )
        if answer.vectors.shape != (len(piece), dimension):
            raise MismatchError(
                f"the encoder gave vectors of shape {answer.vectors.shape} for {len(piece)} texts, this collection takes "
                f"{dimension} numbers each: publish the release again"
            )
        made = dict(zip((chunk.content_hash for chunk in piece), answer.vectors, strict=True))
        by_hash |= made
        if known:
            known.write(made.items())
    return Vectors(by_hash, kept, embedded=len(changed))


def chunk_points(
    plan: Plan, document: Document, info: CollectionInfo, vectors: Vectors, words: Words | None
) -> list[StoredPoint]:
    """Return the points of one document.

    Args:
        words: the release's; None where it has none.
    """
    return [
        StoredPoint(
            point_id(document.source, document.key, chunk.index),
            _payload(plan, document, info, chunk),
            chunk_vectors(chunk, vectors.by_hash[chunk.content_hash], words),
        )
        for chunk in plan.chunks
    ]


def chunk_vectors(chunk: Chunk, dense: Vector, words: Words | None) -> dict[str, AnyVector]:
    """Return all vectors of a chunk by name. Its terms are those of the text that the encoder reads, title included."""
    return {DENSE: dense} if words is None else {DENSE: dense, WORDS: words.document(chunk.encoder_text)}


def chunk_fields(document: Document, chunk: Chunk, declared: Mapping[str, FieldType]) -> dict[str, JSON]:
    """Return the payload fields of a chunk that describe its text and its document.

    Args:
        declared: the fields that the release declares filterable. The head has all metadata, a chunk only those.
    """
    return {
        "chunk_index": chunk.index,
        "start": chunk.start,
        "end": chunk.end,
        "title": document.title,
        "text": chunk.text,
        "metadata": filterable(document.metadata, declared),
        "tenant": document.tenant,
        "content_hash": chunk.content_hash,
        "token_count": chunk.token_count,
        "truncated": chunk.truncated,
    }


def _payload(plan: Plan, document: Document, info: CollectionInfo, chunk: Chunk) -> dict[str, JSON]:
    return {
        "kind": "chunk",
        "source": document.source,
        "key": document.key,
        **version_fields(plan.head.version),
        **chunk_fields(document, chunk, info.index.declared),
        "space": info.space,
        "release": info.release,
        "contract": info.contract_fingerprint,
        **plan.event.lineage,
    }
