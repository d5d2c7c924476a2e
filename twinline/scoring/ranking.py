"""Rank documents for queries: exactly over chunk vectors, best chunk per document, or by BM25."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Anserini's and so BEIR's settings for BM25.
BM25_K1 = 0.9
BM25_B = 0.4

# Rows of the score matrix in memory at once: 256 queries x 1 M chunks in float32 are 1 GB.
_QUERY_BLOCK = 256


def rank_by_vectors(
    query_ids: Sequence[str],
    query_vectors: NDArray[np.float32],
    document_ids: Sequence[str],
    chunk_counts: Sequence[int],
    chunk_vectors: NDArray[np.float32],
    *,
    limit: int = 100,
) -> dict[str, dict[str, float]]:
    """Return each query's best `limit` documents by the highest dot product of any of their chunks.

    Args:
        query_vectors: (queries, dim), normalised.
        chunk_counts: number of chunks of each document, at least one.
        chunk_vectors: (chunks, dim), normalised, the chunks of one document next to each other in `document_ids` order.
    """
    starts = np.concatenate([[0], np.cumsum(chunk_counts)[:-1]]).astype(np.intp)
    run: dict[str, dict[str, float]] = {}
    for begin in range(0, len(query_ids), _QUERY_BLOCK):
        chunk_scores = query_vectors[begin : begin + _QUERY_BLOCK] @ chunk_vectors.T
        document_scores = np.maximum.reduceat(chunk_scores, starts, axis=1)
        for query_id, scores in zip(query_ids[begin : begin + _QUERY_BLOCK], document_scores, strict=True):
            run[query_id] = best_documents(document_ids, scores, limit)
    return run


def rank_by_bm25(
    query_ids: Sequence[str], queries: Sequence[str], document_ids: Sequence[str], texts: Sequence[str], *, limit: int = 100
) -> dict[str, dict[str, float]]:
    """Return each query's best `limit` documents by BM25 (Lucene's formula, English stop words, no stemming)."""
    import bm25s

    # One call for both sides, so that they share one vocabulary.
    retriever = bm25s.BM25(method="lucene", k1=BM25_K1, b=BM25_B)
    retriever.index(bm25s.tokenize(list(texts), stopwords="en", show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(list(queries), stopwords="en", return_ids=False, show_progress=False)
    run: dict[str, dict[str, float]] = {}
    for query_id, words in zip(query_ids, tokens, strict=True):
        scores = retriever.get_scores(words) if words else np.zeros(len(texts), dtype=np.float32)
        ranked = best_documents(document_ids, scores, limit)
        # A document without a word of the query is no answer of BM25.
        run[query_id] = {document: score for document, score in ranked.items() if score > 0}
    return run


def answer_scores(answer: Mapping[str, Any]) -> list[float]:
    """Return scores for the hits of a search answer, in their order, for a run.

    A fused score compares the candidates of one look alone, and its ties have a stated order: there, the place decides. A cosine
    and a sum of words are those of the offline rankings, ties included.
    """
    hits = answer["hits"]
    if answer.get("mode") == "hybrid":
        return [float(len(hits) - place) for place in range(len(hits))]
    return [float(hit["score"]) for hit in hits]


def best_documents(document_ids: Sequence[str], scores: NDArray[np.float32], limit: int) -> dict[str, float]:
    """Return the `limit` highest scores by document id, ties cut in trec_eval's order: id descending."""
    if len(scores) > limit:
        threshold = np.partition(scores, -limit)[-limit]
        candidates = np.flatnonzero(scores >= threshold)
    else:
        candidates = np.arange(len(scores))
    by_id_descending = sorted(candidates.tolist(), key=lambda row: document_ids[row], reverse=True)
    best = sorted(by_id_descending, key=lambda row: -float(scores[row]))[:limit]
    return {document_ids[row]: float(scores[row]) for row in best}
