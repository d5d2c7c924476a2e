"""The offline evaluator's ranking of a release: torch, the release's own contract, exact search over all chunks."""

from collections.abc import Mapping
from pathlib import Path

from bench.queries import Questions
from bench.workspace import Workspace
from twinline.scoring.retrieval import Run


def offline_run(release: Path, workspace: Workspace, questions: Mapping[str, Questions]) -> dict[str, Run]:
    """Return split -> query -> document -> score, the best hundred documents a query."""
    from train.encoder.cache import cached_vectors
    from train.encoder.heldout import read_corpus
    from train.encoder.torch_encoder import TorchEncoder
    from twinline.contract.encoder.preprocess import Preprocessor
    from twinline.scoring.ranking import rank_by_vectors

    preprocessor = Preprocessor.load(release)
    encoder = TorchEncoder.load(release / "encoder", preprocessor)
    (documents,) = sorted((workspace.folder / "data" / "snapshot").glob("documents-*.parquet"))
    corpus = read_corpus(documents, [], preprocessor, max_documents=0, seed=0)
    cache = workspace.folder / "vectors"
    vectors = cached_vectors(encoder, corpus.chunk_texts, "document", cache, progress=f"{release.name}: documents")
    runs: dict[str, Run] = {}
    for split, asked in questions.items():
        texts = [preprocessor.query_text(text) for text in asked.texts.values()]
        queries = cached_vectors(encoder, texts, "query", cache, progress=f"{release.name}: {split} queries")
        runs[split] = rank_by_vectors(list(asked.texts), queries, corpus.document_ids, corpus.chunk_counts, vectors)
    return runs
