"""The evaluation stage's held-out part for the formats: questions with judgements and slices, and chunks of documents."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.encoder.params import QualityParams
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import MismatchError


@dataclass(frozen=True, slots=True)
class HeldOutPart:
    """Questions with judgements and slices, and the chunks of each document."""

    queries: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]
    slices: Mapping[str, Sequence[str]]
    document_ids: Sequence[str]
    chunk_counts: Sequence[int]
    chunk_texts: Sequence[str]


def read_held_out(folder: Path, preprocessor: Preprocessor) -> HeldOutPart:
    """Read the held-out part from the evaluation stage.

    Raises:
        MismatchError: it was written under another contract.
    """
    import pyarrow.parquet as pq

    questions: dict[str, Any] = json.loads((folder / "questions.json").read_bytes())
    if questions["contract"] != preprocessor.contract.fingerprint:
        raise MismatchError(
            f"{folder} was written under contract {questions['contract'][:12]}, the encoder has "
            f"{preprocessor.contract.fingerprint[:12]}: evaluate again (`dvc repro encoder-evaluate`)"
        )
    table = pq.read_table(folder / "chunks.parquet")
    counts: dict[str, int] = {}
    for document in table["document"].to_pylist():
        counts[document] = counts.get(document, 0) + 1
    return HeldOutPart(
        questions["queries"],
        questions["judgements"],
        questions["slices"],
        list(counts),
        list(counts.values()),
        table["text"].to_pylist(),
    )


def sample(part: HeldOutPart, params: QualityParams) -> HeldOutPart:
    """Return the first `max_queries` questions with all relevant documents, filled up to `max_documents`; 0: all.

    The evaluation drew its sample by a seed, so the order of the questions is random.
    """
    queries = dict(list(part.queries.items())[: params.max_queries or None])
    judgements = {query: part.judgements[query] for query in queries}
    needed = {document for grades in judgements.values() for document in grades}
    others = [document for document in part.document_ids if document not in needed]
    room = max(0, params.max_documents - len(needed)) if params.max_documents else len(others)
    step = max(1, len(others) // room) if room else 1
    kept = needed | set(others[::step][:room])
    documents: list[str] = []
    counts: list[int] = []
    texts: list[str] = []
    start = 0
    for document, count in zip(part.document_ids, part.chunk_counts, strict=True):
        if document in kept:
            documents.append(document)
            counts.append(count)
            texts += part.chunk_texts[start : start + count]
        start += count
    slices = {name: [query for query in members if query in queries] for name, members in part.slices.items()}
    return HeldOutPart(queries, judgements, slices, documents, counts, texts)
