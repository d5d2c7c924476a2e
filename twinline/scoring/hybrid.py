"""Rank documents by vectors and words together, offline as in search: exactly, and with the same fusion."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from twinline.contract.documents.ids import point_id
from twinline.contract.sparse.fusion import NEXT_REACH, Candidate, Fusion, fuse
from twinline.contract.sparse.vector import Sparse
from twinline.contract.sparse.weights import Words

# Rows of the score matrix in memory at once.
_QUERY_BLOCK = 256


class WordIndex:
    """The sparse vectors of a corpus's chunks, by term. Scores are those of the store, to the last digit."""

    def __init__(self, words: Words, chunk_texts: Sequence[str]) -> None:
        rows: dict[int, list[int]] = {}
        weights: dict[int, list[int]] = {}
        for row, text in enumerate(chunk_texts):
            vector = words.document(text)
            for identity, weight in zip(vector.ids, vector.weights, strict=True):
                rows.setdefault(identity, []).append(row)
                weights.setdefault(identity, []).append(weight)
        self._words = words
        self._chunks = len(chunk_texts)
        self._rows = {identity: np.array(found, np.int64) for identity, found in rows.items()}
        self._weights = {identity: np.array(found, np.int64) for identity, found in weights.items()}

    def query(self, text: str) -> Sparse:
        """Return the sparse vector of a clean query."""
        return self._words.query(text)

    def scores(self, query: Sparse) -> NDArray[np.int64]:
        """Return the score of every chunk, `(chunks,)`; 0 where it shares no term with the query."""
        scores = np.zeros(self._chunks, np.int64)
        for identity, weight in zip(query.ids, query.weights, strict=True):
            if identity in self._rows:
                scores[self._rows[identity]] += weight * self._weights[identity]
        return scores


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries by id, with their dense vectors `(queries, dim)` and clean texts."""

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Chunks:
    """A corpus: documents by message key, each with its number of chunks, and all chunks' vectors `(chunks, dim)` and words."""

    document_ids: Sequence[str]
    counts: Sequence[int]
    vectors: NDArray[np.float32]
    words: WordIndex


def rank_by_fusions(
    queries: Queries, chunks: Chunks, fusions: Mapping[str, Fusion], *, limit: int = 100
) -> dict[str, dict[str, dict[str, float]]]:
    """Return, for each fusion by its name, each query's best `limit` documents by their best chunk.

    Scores only say the order: `limit` for the first document, one less for each next.
    """
    found = best_chunks_by_fusions(queries, chunks, fusions, limit=limit)
    return {name: run_of(documents, limit) for name, documents in found.items()}


def run_of(found: Mapping[str, Mapping[str, int]], limit: int = 100) -> dict[str, dict[str, float]]:
    """Return a run of each query's documents, which `found` lists best first; see `places`."""
    return {query: places(documents, limit) for query, documents in found.items()}


def places(documents: Iterable[str], limit: int) -> dict[str, float]:
    """Return scores that only say the order of documents, best first: `limit` for the first one, one less for each next."""
    return {document: float(limit - place) for place, document in enumerate(documents)}


def best_chunks_by_fusions(
    queries: Queries, chunks: Chunks, fusions: Mapping[str, Fusion], *, limit: int = 100
) -> dict[str, dict[str, dict[str, int]]]:
    """Return, for each fusion by its name, each query's best `limit` documents, best first, with the row of the best chunk."""
    owners = np.repeat(np.arange(len(chunks.document_ids)), chunks.counts)
    starts = np.concatenate([[0], np.cumsum(chunks.counts)[:-1]]).astype(np.int64)

    @lru_cache(maxsize=1_000_000)
    def id_of(row: int) -> UUID:
        owner = owners[row]
        source, key = json.loads(chunks.document_ids[owner])
        return point_id(source, key, int(row - starts[owner]))

    runs: dict[str, dict[str, dict[str, int]]] = {name: {} for name in fusions}
    for begin in range(0, len(queries.ids), _QUERY_BLOCK):
        block = slice(begin, begin + _QUERY_BLOCK)
        cosines = queries.vectors[block] @ chunks.vectors.T
        for query_id, text, cosine in zip(queries.ids[block], queries.texts[block], cosines, strict=True):
            terms = chunks.words.query(text)
            shared = chunks.words.scores(terms)
            for name, fusion in fusions.items():
                documents: dict[str, int] = {}
                for row in _ranked_rows(cosine, shared, fusion.of(terms), id_of, limit, owners):
                    documents.setdefault(chunks.document_ids[owners[row]], row)
                    if len(documents) == limit:
                        break
                runs[name][query_id] = documents
    return runs


def rank_by_words(queries: Queries, chunks: Chunks, *, limit: int = 100) -> dict[str, dict[str, float]]:
    """Return each query's best `limit` documents by words alone; none without a word of the query."""
    run: dict[str, dict[str, float]] = {}
    starts = np.concatenate([[0], np.cumsum(chunks.counts)[:-1]]).astype(np.intp)
    for query_id, text in zip(queries.ids, queries.texts, strict=True):
        scores = np.maximum.reduceat(chunks.words.scores(chunks.words.query(text)), starts)
        best = sorted(np.flatnonzero(scores).tolist(), key=lambda row: (-int(scores[row]), chunks.document_ids[row]))[:limit]
        run[query_id] = {chunks.document_ids[row]: float(scores[row]) for row in best}
    return run


def _ranked_rows(
    cosine: NDArray[np.float32],
    shared: NDArray[np.int64],
    fusion: Fusion,
    id_of: Callable[[int], UUID],
    limit: int,
    owners: NDArray[np.int64],
) -> list[int]:
    """Return rows best first, of `limit` documents at least where there are so many.

    As in search, a deeper look comes after what was found before.
    """
    found: dict[int, None] = {}
    depth = fusion.depth
    while True:
        candidates = _candidates(cosine, shared, depth, id_of)
        found |= dict.fromkeys(candidates[ranked.candidate] for ranked in fuse(fusion, list(candidates)))
        if depth >= len(cosine) or len({int(owners[row]) for row in found}) >= limit:
            return list(found)
        depth *= NEXT_REACH


def _candidates(
    cosine: NDArray[np.float32], shared: NDArray[np.int64], depth: int, id_of: Callable[[int], UUID]
) -> dict[Candidate[UUID], int]:
    rows = {*_top(cosine, depth, id_of), *_top(shared, depth, id_of, least=1)}
    return {Candidate(id_of(row), float(cosine[row]), float(shared[row])): row for row in rows}


def _top(
    scores: NDArray[np.float32] | NDArray[np.int64], depth: int, id_of: Callable[[int], UUID], least: float = -np.inf
) -> list[int]:
    """Return the rows of the `depth` highest scores; among those that tie at the cut, the first by id."""
    eligible = np.flatnonzero(scores >= least)
    if len(eligible) <= depth:
        found: list[int] = eligible.tolist()
        return found
    cut = np.partition(scores[eligible], -depth)[-depth]
    above: list[int] = eligible[scores[eligible] > cut].tolist()
    tied: list[int] = eligible[scores[eligible] == cut].tolist()
    wanted = depth - len(above)
    return above + (tied if len(tied) == wanted else sorted(tied, key=id_of)[:wanted])
