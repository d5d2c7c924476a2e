"""The offline evaluator's rankings of a release: torch, the release's own contract, exact search over all chunks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.queries import Questions
from bench.workspace import Workspace
from twinline.contract.errors import ContractError
from twinline.contract.sparse.fusion import Fusion
from twinline.scoring.hybrid import Chunks, Queries, WordIndex, rank_by_fusions, rank_by_words
from twinline.scoring.retrieval import Run

MODES: Final = ("dense", "words", "hybrid")


def offline_run(release: Path, workspace: Workspace, questions: Mapping[str, Questions]) -> dict[str, dict[str, Run]]:
    """Return mode -> split -> query -> document -> score, the best hundred documents a query."""
    from twinline.scoring.ranking import rank_by_vectors

    corpus = _Corpus(release, workspace)
    runs: dict[str, dict[str, Run]] = {mode: {} for mode in MODES}
    for split, asked in questions.items():
        queries, chunks = corpus.sides(split, asked)
        runs["dense"][split] = rank_by_vectors(queries.ids, queries.vectors, chunks.document_ids, chunks.counts, chunks.vectors)
        runs["words"][split] = rank_by_words(queries, chunks)
        runs["hybrid"][split] = rank_by_fusions(queries, chunks, {"hybrid": corpus.fusion})["hybrid"]
    return runs


def choose_by_development(release: Path, workspace: Workspace, development: Questions) -> tuple[Fusion, str]:
    """Return the fusion that the development questions choose for a release, and the reason."""
    from train.encoder.fusion_choice import choose_fusion
    from train.encoder.gate import GATE_METRIC
    from train.encoder.params import EvaluateParams
    from twinline.clients.params import load_params
    from twinline.scoring.ranking import rank_by_vectors
    from twinline.scoring.retrieval import score_queries

    queries, chunks = _Corpus(release, workspace).sides("dev", development)
    dense = rank_by_vectors(queries.ids, queries.vectors, chunks.document_ids, chunks.counts, chunks.vectors)
    params = load_params("encoder.evaluate", EvaluateParams, workspace.folder / "params.yaml")
    scores = score_queries(dense, development.judgements)[GATE_METRIC]
    choice = choose_fusion(queries, chunks, scores, development.judgements, params)
    return choice.fusion, choice.check.detail


class _Corpus:
    """The documents of a workspace, cut and encoded under a release."""

    def __init__(self, release: Path, workspace: Workspace) -> None:
        from train.encoder.cache import cached_vectors
        from train.encoder.heldout import read_corpus
        from train.encoder.torch_encoder import TorchEncoder
        from twinline.contract.release.folder import ReleaseFolder

        opened = ReleaseFolder.load(release)
        if opened.words is None or opened.manifest.fusion is None:
            raise ContractError(f"{release} was packaged without words: make it again")
        self.fusion = opened.manifest.fusion
        self._preprocessor = opened.preprocessor
        self._encoder = TorchEncoder.load(release / "encoder", self._preprocessor)
        (documents,) = sorted((workspace.folder / "data" / "snapshot").glob("documents-*.parquet"))
        self._corpus = read_corpus(documents, [], self._preprocessor, max_documents=0, seed=0)
        self._cache, self._name = workspace.folder / "vectors", release.name
        texts = self._corpus.chunk_texts
        self._vectors = cached_vectors(self._encoder, texts, "document", self._cache, progress=f"{self._name}: documents")
        self._words = WordIndex(opened.words, texts)

    def sides(self, split: str, asked: Questions) -> tuple[Queries, Chunks]:
        """Return the questions of a split, and all chunks, with vectors and words."""
        from train.encoder.cache import cached_vectors

        texts = [self._preprocessor.query_text(text) for text in asked.texts.values()]
        vectors = cached_vectors(self._encoder, texts, "query", self._cache, progress=f"{self._name}: {split} queries")
        corpus = self._corpus
        chunks = Chunks(corpus.document_ids, corpus.chunk_counts, self._vectors, self._words)
        return Queries(list(asked.texts), vectors, texts), chunks
