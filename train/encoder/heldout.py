"""The data of an evaluation: held-out queries of one split, their judgements, and the documents to search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twinline.clients.questions import is_asked
from twinline.contract.documents.records import Document, encode_key
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import ContractError, DocumentError, TooSmallError
from twinline.scoring.grouping import ChunkText

Split = Literal["dev", "test"]


@dataclass(frozen=True)
class HeldOut:
    """Clean queries and graded judgements of one split. Document ids are message keys, `["source","key"]`."""

    split: Split
    query_ids: list[str]
    queries: list[str]
    judgements: dict[str, dict[str, int]]
    queries_in_split: int


@dataclass(frozen=True)
class Corpus:
    """Documents with their chunks, as in the index; `said`: what each chunk says, by which copies are grouped."""

    document_ids: list[str]
    full_texts: list[str]
    chunk_texts: list[str]
    chunk_counts: list[int]
    documents_in_total: int
    set_aside: dict[str, int]
    said: list[ChunkText] = field(default_factory=list)


def read_held_out(pairs: Path, split: Split, preprocessor: Preprocessor, *, max_queries: int, seed: int) -> HeldOut:
    """Read one split. The seed draws at most `max_queries` (0: all) of the queries with a relevant document.

    The project's own questions are always taken.

    Raises:
        TooSmallError: the split has no judged query.
    """
    judgements: dict[str, dict[str, int]] = {}
    in_split = pc.field("split") == split
    for row in pq.read_table(pairs / "judgements.parquet", filters=in_split).to_pylist():
        judgements.setdefault(row["query_id"], {})[document_id(row["source"], row["key"])] = int(row["grade"])
    judged = {query for query, grades in judgements.items() if max(grades.values()) > 0}
    texts = {
        row["query_id"]: preprocessor.query_text(row["text"])
        for row in pq.read_table(pairs / "queries.parquet", filters=in_split).to_pylist()
        if row["query_id"] in judged
    }
    if not texts:
        raise TooSmallError(
            f"{pairs}: no judged query in the split {split!r}, so there is nothing to measure with: bring more documents, or "
            "questions with their documents (`twinline questions add`); data/pairs/report.json has the counts"
        )
    # The project's own questions are never left to chance.
    asked = sorted(filter(is_asked, texts))
    others = sorted(texts.keys() - set(asked))
    drawn = _sample(others, max(max_queries - len(asked), 0), seed, zero_is_all=max_queries == 0)
    chosen = [*asked, *drawn]
    return HeldOut(split, chosen, [texts[q] for q in chosen], {q: judgements[q] for q in chosen}, len(texts))


def read_corpus(
    documents: Path,
    needed: Iterable[str],
    preprocessor: Preprocessor,
    *,
    max_documents: int,
    seed: int,
    withheld: Path | None = None,
) -> Corpus:
    """Read and chunk the documents.

    With `max_documents` (0: all), the needed documents are read, and the seed draws others to fill up. Scores on such a corpus
    are higher than on the whole, so compare them only with each other.

    Args:
        withheld: documents without the held-out query that was taken from them; they replace the whole ones. With the query
            in its text, a search by words would always win.

    Raises:
        ContractError: a judged document is not among the documents.
    """
    table = pq.read_table(documents, columns=["source", "key", "title", "text"])
    ids = [document_id(s, k) for s, k in zip(table["source"].to_pylist(), table["key"].to_pylist(), strict=True)]
    row_of = {identity: row for row, identity in enumerate(ids)}
    wanted = sorted(set(needed))
    absent = [identity for identity in wanted if identity not in row_of]
    if absent:
        raise ContractError(f"{documents} lacks {len(absent)} judged documents, {absent[0]} first: run the pairs stage again")
    rest = sorted(set(ids) - set(wanted))
    extra = rest if max_documents == 0 else _sample(rest, max(max_documents - len(wanted), 0), seed, zero_is_all=False)
    chosen = sorted(wanted + extra)
    corpus = Corpus([], [], [], [], len(ids), {})
    set_aside: Counter[str] = Counter()
    rows = table.take([row_of[identity] for identity in chosen]).to_pylist()
    without_query = _by_id(withheld) if withheld else {}
    for identity, whole in zip(chosen, rows, strict=True):
        row = without_query.get(identity, whole)
        try:
            chunks = preprocessor.chunks(Document(row["source"], row["key"], row["text"], title=row["title"] or ""))
        except DocumentError as error:
            set_aside[error.reason] += 1
            continue
        corpus.document_ids.append(identity)
        corpus.full_texts.append(f"{row['title'] or ''} {row['text']}".strip())
        corpus.chunk_texts.extend(chunk.encoder_text for chunk in chunks)
        corpus.chunk_counts.append(len(chunks))
        corpus.said.extend(ChunkText(chunk.content_hash, chunk.text) for chunk in chunks)
    return replace(corpus, set_aside=dict(set_aside))


def document_id(source: str, key: str) -> str:
    """Return the id of a document in a ranking: its message key as text."""
    return encode_key(source, key).decode()


def _by_id(documents: Path) -> dict[str, dict[str, str]]:
    rows = pq.read_table(documents, columns=["source", "key", "title", "text"]).to_pylist()
    return {document_id(row["source"], row["key"]): row for row in rows}


def _sample(ids: list[str], limit: int, seed: int, *, zero_is_all: bool = True) -> list[str]:
    if (limit == 0 and zero_is_all) or limit >= len(ids):
        return ids
    rows = np.random.default_rng(seed).choice(len(ids), size=limit, replace=False)
    return [ids[row] for row in sorted(rows)]
