"""The table that pairs are chosen from: (query, document) with texts, kind, split, grade and cluster, by Daft."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

import etl.natural
from contract.canonical import JSON
from etl.kept import Kept, cleaning_identity, code_hashes
from etl.natural import natural_pair
from etl.params import PairsParams
from etl.storage import PREPARED, read_rows, read_table

if TYPE_CHECKING:
    from daft import DataFrame

_MADE = ("query_id", "query", "title", "text")
_COLUMNS = ("query_id", "query", "kind", "split", "grade", "source", "key", "title", "text", "cluster_id")


def gather_pairs(snapshot: Path, documents: Path, params: PairsParams, kept: Path | None = None) -> "DataFrame":
    """Return judged and, where wanted, natural pairs, in a fixed order.

    A judged document that the snapshot does not hold has no cluster. `kept` is where natural pairs are kept for the next run.
    """
    judged = _judged(snapshot, documents)
    has_train = any(row["split"] == "train" for row in read_rows(snapshot / "judgements.parquet", columns=["split"]))
    if params.natural == "never" or (params.natural == "auto" and has_train):
        pairs = judged
    else:
        pairs = judged.concat(_natural(documents, params, kept))
    return pairs.sort(["kind", "split", "query_id", "source", "key"])


def _judged(snapshot: Path, documents: Path) -> "DataFrame":
    import daft
    from daft import col, lit

    judgements = daft.read_parquet(str(snapshot / "judgements.parquet"))
    queries = daft.read_parquet(str(snapshot / "queries.parquet")).with_column_renamed("text", "query")
    prepared = daft.read_parquet(str(documents)).select(
        "source", "key", col("clean_title").alias("title"), col("clean_text").alias("text"), "cluster_id"
    )
    asked = judgements.join(queries, on=["query_id", "split"])
    return asked.join(prepared, on=["source", "key"], how="left").with_column("kind", lit("judged")).select(*_COLUMNS)


def _natural(documents: Path, params: PairsParams, kept: Path | None) -> "DataFrame":
    import daft
    from daft import DataType, col, lit

    columns = ("source", "key", "content_hash", "clean_title", "clean_text", "cluster_id")
    prepared = read_table([documents], PREPARED, columns)
    pairs = Kept(kept, "pairs", _identity(params)).made(prepared, lambda new: _make(new, params))
    for name in columns[:2] + columns[-1:]:
        pairs = pairs.append_column(name, prepared[name])
    found = daft.from_arrow(pairs.filter(pc.is_valid(pairs["query_id"]))).select(
        *_MADE,
        lit("natural").alias("kind"),
        lit("").alias("split"),
        lit(1).cast(DataType.int32()).alias("grade"),
        *(col(name) for name in ("source", "key", "cluster_id")),
    )
    return found.select(*_COLUMNS)


def _identity(params: PairsParams) -> dict[str, JSON]:
    words: dict[str, JSON] = {
        "min_body_words": params.min_body_words,
        "min_query_words": params.min_query_words,
        "max_query_words": params.max_query_words,
    }
    return {**cleaning_identity(), **words, **code_hashes([etl.natural, sys.modules[__name__]])}


def _make(documents: pa.Table, params: PairsParams) -> pa.Table:
    """Return the natural pair of each prepared document, in order; nulls where it has none."""
    import daft
    from daft import DataType, col

    @daft.func(return_dtype=DataType.struct({name: DataType.string() for name in _MADE}))
    def pair(title: str, text: str) -> dict[str, str] | None:
        found = natural_pair(title, text, params)
        return None if found is None else {name: getattr(found, name) for name in _MADE}

    frame = daft.from_arrow(documents.select(["source", "key", "clean_title", "clean_text"]))
    frame = frame.with_column("pair", pair(col("clean_title"), col("clean_text"))).sort(["source", "key"])
    table = frame.select(*(col("pair").get(name).alias(name) for name in _MADE)).to_arrow()
    return table.cast(pa.schema([(name, pa.large_string()) for name in _MADE]))
