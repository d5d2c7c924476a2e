"""The table that pairs are chosen from: (query, document) with texts, kind, split, grade and cluster."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import etl.natural
from contract.canonical import JSON
from etl.kept import Kept, cleaning_identity, code_hashes
from etl.natural import natural_pair
from etl.params import PairsParams
from etl.storage import JUDGEMENTS, PREPARED, read_table

_MADE = ("query_id", "query", "title", "text")
_COLUMNS = ("query_id", "query", "kind", "split", "grade", "source", "key", "title", "text", "cluster_id")
GATHERED = pa.schema([(name, pa.int32() if name == "grade" else pa.large_string()) for name in _COLUMNS])


def gather_pairs(snapshot: Path, documents: Path, params: PairsParams, kept: Path | None = None) -> pa.Table:
    """Return judged and, where wanted, natural pairs, in a fixed order.

    A judged document that the snapshot does not hold has no cluster. `kept` is where natural pairs are kept for the next run.
    """
    splits = set(read_table([snapshot / "judgements.parquet"], JUDGEMENTS, ["split"])["split"].unique().to_pylist())
    pairs = _judged(snapshot, documents) if splits else GATHERED.empty_table()
    if params.natural == "always" or (params.natural == "auto" and "train" not in splits):
        pairs = pa.concat_tables([pairs, _natural(documents, params, kept)])
    return pairs.sort_by([(name, "ascending") for name in ("kind", "split", "query_id", "source", "key")])


def _judged(snapshot: Path, documents: Path) -> pa.Table:
    import daft
    from daft import col, lit

    judgements = daft.read_parquet(str(snapshot / "judgements.parquet"))
    queries = daft.read_parquet(str(snapshot / "queries.parquet")).with_column_renamed("text", "query")
    prepared = daft.read_parquet(str(documents)).select(
        "source", "key", col("clean_title").alias("title"), col("clean_text").alias("text"), "cluster_id"
    )
    asked = judgements.join(queries, on=["query_id", "split"])
    whole = asked.join(prepared, on=["source", "key"], how="left").with_column("kind", lit("judged"))
    return whole.select(*GATHERED.names).to_arrow().cast(GATHERED)


def _natural(documents: Path, params: PairsParams, kept: Path | None) -> pa.Table:
    columns = ("source", "key", "content_hash", "clean_title", "clean_text", "cluster_id")
    prepared = read_table([documents], PREPARED, columns)
    pairs = Kept(kept, "pairs", _identity(params)).made(prepared, lambda new: _make(new, params))
    for name in columns[:2] + columns[-1:]:
        pairs = pairs.append_column(name, prepared[name])
    found = pairs.filter(pc.is_valid(pairs["query_id"]))
    for name, value in (("kind", "natural"), ("split", ""), ("grade", 1)):
        found = found.append_column(name, pa.repeat(pa.scalar(value, GATHERED.field(name).type), found.num_rows))
    return found.select(GATHERED.names).cast(GATHERED)


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
