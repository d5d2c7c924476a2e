"""The held-out part as files, so that exported formats answer the same questions without pairs, splits and chunks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from train.encoder.heldout import Corpus, HeldOut

HELD_OUT_FOLDER: Final = "heldout"
QUESTIONS_FILE: Final = "questions.json"
CHUNKS_FILE: Final = "chunks.parquet"


def write_held_out(
    folder: Path, contract_fingerprint: str, part: HeldOut, corpus: Corpus, slices: Mapping[str, Sequence[str]]
) -> None:
    """Write questions with judgements and slices, and every chunk's encoder text, under one contract."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    questions = {
        "contract": contract_fingerprint,
        "queries": dict(zip(part.query_ids, part.queries, strict=True)),
        "judgements": part.judgements,
        "slices": {name: list(queries) for name, queries in slices.items()},
    }
    (folder / QUESTIONS_FILE).write_text(json.dumps(questions, indent=1, ensure_ascii=False) + "\n", "utf-8")
    documents = [name for name, count in zip(corpus.document_ids, corpus.chunk_counts, strict=True) for _ in range(count)]
    table = pa.table(
        {"document": pa.array(documents, pa.large_string()), "text": pa.array(corpus.chunk_texts, pa.large_string())}
    )
    pq.write_table(table, folder / CHUNKS_FILE)
