"""Training pairs as the encoder sees texts when it serves: through the contract, in the contract's roles."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import ContractError, DocumentError, TooSmallError

# The contract refuses single pairs (no text left, a query too long). More than this share means a wrong file, not bad rows.
MAX_SET_ASIDE_SHARE = 0.05
# Pairs are each other's negatives: one alone teaches nothing.
LEAST_PAIRS = 2


@dataclass(frozen=True)
class TrainingPairs:
    """Clean queries, and the encoder texts of their documents, row by row."""

    queries: list[str]
    documents: list[str]
    set_aside: dict[str, int]


def read_pairs(path: Path, preprocessor: Preprocessor) -> TrainingPairs:
    """Read `data/pairs/train.parquet` and pre-process both sides.

    The first chunk stands for a document: a judgement names no place in it, and texts name their subject at the beginning.
    With the chunker `none` it is the whole document.

    Raises:
        TooSmallError: none is left, or one alone.
        ContractError: too many pairs were refused.
    """
    rows = pq.read_table(path, columns=["query", "source", "key", "title", "text"]).to_pylist()
    queries: list[str] = []
    documents: list[str] = []
    set_aside: Counter[str] = Counter()
    for row in rows:
        try:
            query = preprocessor.query_text(row["query"])
            first = preprocessor.chunks(Document(row["source"], row["key"], row["text"], title=row["title"] or ""))[0]
        except DocumentError as error:
            set_aside[error.reason] += 1
            continue
        queries.append(query)
        documents.append(first.encoder_text)
    if len(queries) < LEAST_PAIRS:
        raise TooSmallError(
            f"{path} holds {len(queries) or 'no'} usable pair ({dict(set_aside)} of {len(rows)} set aside), and "
            f"{LEAST_PAIRS} are the least to train on: bring more documents, or judgements"
        )
    if set_aside.total() > MAX_SET_ASIDE_SHARE * len(rows):
        raise ContractError(
            f"{path}: {set_aside.total()} of {len(rows)} pairs were refused by the contract ({dict(set_aside)}), more than "
            f"{MAX_SET_ASIDE_SHARE:.0%}: look at the source, or filter such rows in the pairs stage"
        )
    return TrainingPairs(queries, documents, dict(set_aside))
