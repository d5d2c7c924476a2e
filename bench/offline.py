"""The offline evaluator's rankings of a release: torch, the release's own contract, exact search over all chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.queries import Questions
from bench.workspace import Workspace
from twinline.contract.artefacts import WITHHELD
from twinline.contract.errors import ContractError
from twinline.contract.sparse.fusion import Fusion
from twinline.scoring.grouping import ScoredGroups, scored_groups
from twinline.scoring.hybrid import Chunks, Queries, WordIndex, best_chunks_by_fusions, rank_by_words, run_of
from twinline.scoring.retrieval import Run, trec_order

if TYPE_CHECKING:
    from train.encoder.heldout import Corpus

MODES: Final = ("dense", "words", "hybrid")
_LIMIT: Final = 100


@dataclass(frozen=True)
class Ranked:
    """The rankings of a release: mode -> split -> the best hundred documents of each query, as they are and grouped."""

    runs: Mapping[str, Mapping[str, Run]]
    grouped: Mapping[str, Mapping[str, ScoredGroups]]


class OfflineIndex:
    """The documents of a workspace under a release: cut, encoded and indexed by words once, for all that is asked."""

    def __init__(self, release: Path, workspace: Workspace) -> None:
        from train.encoder.torch_encoder import TorchEncoder
        from twinline.contract.release.folder import ReleaseFolder

        opened = ReleaseFolder.load(release)
        if opened.words is None:
            raise ContractError(f"{release} was packaged without words: make it again")
        self._words, self._preprocessor = opened.words, opened.preprocessor
        self._encoder = TorchEncoder.load(release / "encoder", self._preprocessor)
        self._workspace, self._name = workspace, release.name
        self._corpus, self._chunks = self._read(None)

    def choose(self, development: Questions) -> tuple[Fusion, str]:
        """Return the fusion that the development questions choose, and the reason."""
        from train.encoder.fusion_choice import choose_fusion
        from train.encoder.gate import GATE_METRIC
        from train.encoder.params import EvaluateParams
        from twinline.clients.params import load_params
        from twinline.scoring.ranking import rank_by_vectors
        from twinline.scoring.retrieval import score_queries

        queries, chunks = self._queries("dev", development), self._chunks
        if withheld := has_withheld(self._workspace.folder):
            # These questions were taken from the documents, and words would find them there.
            _, chunks = self._read(withheld)
        dense = rank_by_vectors(queries.ids, queries.vectors, chunks.document_ids, chunks.counts, chunks.vectors)
        params = load_params("encoder.evaluate", EvaluateParams, self._workspace.folder / "params.yaml")
        scores = score_queries(dense, development.judgements)[GATE_METRIC]
        choice = choose_fusion(queries, chunks, scores, development.judgements, params)
        return choice.fusion, choice.check.detail

    def rank(self, questions: Mapping[str, Questions], fusion: Fusion) -> Ranked:
        """Rank the documents for the questions of each split, by every mode."""
        from twinline.scoring.ranking import rank_by_vectors

        chunks = self._chunks
        runs: dict[str, dict[str, Run]] = {mode: {} for mode in MODES}
        grouped: dict[str, dict[str, ScoredGroups]] = {mode: {} for mode in MODES}
        for split, asked in questions.items():
            queries = self._queries(split, asked)
            dense = rank_by_vectors(
                queries.ids, queries.vectors, chunks.document_ids, chunks.counts, chunks.vectors, limit=_LIMIT
            )
            words = rank_by_words(queries, chunks, limit=_LIMIT)
            hybrid = best_chunks_by_fusions(queries, chunks, {"hybrid": fusion}, limit=_LIMIT)["hybrid"]
            runs["dense"][split], runs["words"][split] = dense, words
            runs["hybrid"][split] = run_of(hybrid, _LIMIT)
            for mode, found in (*best_chunks(queries, chunks, {"dense": dense, "words": words}).items(), ("hybrid", hybrid)):
                grouped[mode][split] = scored_groups(found, self._corpus.said, asked.judgements)
        return Ranked(runs, grouped)

    def _queries(self, split: str, asked: Questions) -> Queries:
        from train.encoder.cache import cached_vectors

        texts = [self._preprocessor.query_text(text) for text in asked.texts.values()]
        cache, said = self._workspace.folder / "vectors", f"{self._name}: {split} queries"
        return Queries(list(asked.texts), cached_vectors(self._encoder, texts, "query", cache, progress=said), texts)

    def _read(self, withheld: Path | None) -> tuple[Corpus, Chunks]:
        from train.encoder.cache import cached_vectors
        from train.encoder.heldout import read_corpus

        (documents,) = sorted((self._workspace.folder / "data" / "snapshot").glob("documents-*.parquet"))
        corpus = read_corpus(documents, [], self._preprocessor, max_documents=0, seed=0, withheld=withheld)
        cache, said = self._workspace.folder / "vectors", f"{self._name}: documents"
        vectors = cached_vectors(self._encoder, corpus.chunk_texts, "document", cache, progress=said)
        words = WordIndex(self._words, corpus.chunk_texts)
        return corpus, Chunks(corpus.document_ids, corpus.chunk_counts, vectors, words)


def has_withheld(project: Path) -> Path | None:
    """Return the file of the documents from which development questions were taken; None where none were."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = project / WITHHELD
    return path if pq.read_table(path, columns=["split"], filters=pc.field("split") == "dev").num_rows else None


def best_chunks(queries: Queries, chunks: Chunks, runs: Mapping[str, Run]) -> dict[str, dict[str, dict[str, int]]]:
    """Return each run with its documents, best first, each with the row of the chunk that ranks it.

    Args:
        runs: by one side, `dense` or `words`, of these queries over these chunks.
    """
    ends = np.cumsum(chunks.counts)
    spans = {
        document: (int(end - count), int(end))
        for document, end, count in zip(chunks.document_ids, ends, chunks.counts, strict=True)
    }
    found: dict[str, dict[str, dict[str, int]]] = {side: {} for side in runs}
    for query, vector, text in zip(queries.ids, queries.vectors, queries.texts, strict=True):
        for side, run in runs.items():
            scores = chunks.vectors @ vector if side == "dense" else chunks.words.scores(chunks.words.query(text))
            rows = {}
            for document in trec_order(run[query]):
                start, end = spans[document]
                rows[document] = start + int(np.argmax(scores[start:end]))
            found[side][query] = rows
    return found
