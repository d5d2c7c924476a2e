"""The table that pairs are chosen from: (query, document) with texts, kind, split, grade and cluster, by Daft."""

from pathlib import Path
from typing import TYPE_CHECKING

from etl.natural import natural_pair
from etl.params import PairsParams
from etl.storage import read_rows

if TYPE_CHECKING:
    from daft import DataFrame

_COLUMNS = ("query_id", "query", "kind", "split", "grade", "source", "key", "title", "text", "cluster_id")


def gather_pairs(snapshot: Path, documents: Path, params: PairsParams) -> "DataFrame":
    """Return judged and, where wanted, natural pairs, in a fixed order.

    A judged document that the snapshot does not hold has no cluster.
    """
    judged = _judged(snapshot, documents)
    has_train = any(row["split"] == "train" for row in read_rows(snapshot / "judgements.parquet", columns=["split"]))
    if params.natural == "never" or (params.natural == "auto" and has_train):
        pairs = judged
    else:
        pairs = judged.concat(_natural(documents, params))
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


def _natural(documents: Path, params: PairsParams) -> "DataFrame":
    import daft
    from daft import DataType, col, lit

    fields = {name: DataType.string() for name in ("query_id", "query", "title", "text")}

    @daft.func(return_dtype=DataType.struct(fields))
    def pair(title: str, text: str) -> dict[str, str] | None:
        found = natural_pair(title, text, params)
        return None if found is None else {name: getattr(found, name) for name in fields}

    prepared = daft.read_parquet(str(documents)).with_column("pair", pair(col("clean_title"), col("clean_text")))
    found = prepared.where(col("pair").not_null()).select(
        *(col("pair").get(name).alias(name) for name in fields),
        lit("natural").alias("kind"),
        lit("").alias("split"),
        lit(1).cast(DataType.int32()).alias("grade"),
        *("source", "key", "cluster_id"),
    )
    return found.select(*_COLUMNS)
