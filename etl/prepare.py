"""Stage prepare: clean the documents of a snapshot and cluster the near-duplicates among them.

Nothing is removed because it is a duplicate: what to do with a cluster is for whoever uses it. The index and every
evaluation see all documents; only training pairs take one of each.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clients.erasures import Erasures
from contract.cleaning import DEFAULT_CLEANING, clean
from etl.clusters import cluster_near_duplicates
from etl.erased import erased_in
from etl.params import PrepareParams
from etl.snapshots import document_files, read_snapshot
from etl.sources.items import ERASED, Reject
from etl.storage import DOCUMENTS, REJECTS, frame_rows, replaced_folder, write_table

if TYPE_CHECKING:
    from daft import DataFrame

Row = dict[str, Any]

PREPARED = pa.schema(
    [
        *DOCUMENTS,
        pa.field("clean_title", pa.large_string()),
        pa.field("clean_text", pa.large_string()),
        pa.field("cluster_id", pa.large_string()),
    ]
)


def prepare(snapshot: Path, out: Path, params: PrepareParams, erasures: Erasures | None = None) -> dict[str, Any]:
    """Write documents.parquet, rejects.parquet and report.json, and return the report.

    What was erased since the snapshot was taken is left out before anything is made of it: a cluster has a document's name.
    """
    record = read_snapshot(snapshot)
    erased = erased_in(document_files(snapshot), erasures or Erasures())
    frame = _without(erased, _cleaned([str(path) for path in document_files(snapshot)]))
    clusters = _clusters(frame, params)
    rejects = [Reject(record.uri, ERASED, why) for why in erased.values()]
    with replaced_folder(out) as folder:
        rows = _with_clusters(frame_rows(frame), clusters, rejects)
        kept = write_table(folder / "documents.parquet", PREPARED, rows)
        write_table(folder / "rejects.parquet", REJECTS, map(asdict, rejects))
        report = {
            "snapshot": record.id,
            "documents": kept,
            "rejects": len(rejects),
            "cleaning": [f"{name}@{version}" for name, version in DEFAULT_CLEANING],
            **_cluster_counts(clusters, params),
        }
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def _cleaned(files: list[str]) -> "DataFrame":
    """Return the documents in the snapshot's order, with clean title and clean text."""
    import daft

    @daft.func(return_dtype=daft.DataType.string())
    def cleaned(text: str) -> str:
        return clean(text, DEFAULT_CLEANING).text

    frame = daft.read_parquet(files)
    frame = frame.with_column("clean_title", cleaned(frame["title"])).with_column("clean_text", cleaned(frame["text"]))
    return frame.sort(["source", "key"]).collect()


def _without(erased: Collection[tuple[str, str]], frame: "DataFrame") -> "DataFrame":
    if not erased:
        return frame
    import daft

    @daft.func(return_dtype=daft.DataType.bool())
    def stays(source: str, key: str) -> bool:
        return (source, key) not in erased

    return frame.where(stays(frame["source"], frame["key"])).collect()


def _clusters(frame: "DataFrame", params: PrepareParams) -> dict[tuple[str, str], str]:
    """Return the cluster of every document that has text, named by the cluster's first document.

    Case, punctuation and white space make no difference: two texts that differ only there are exact duplicates.
    """
    import numpy as np
    from daft import col, functions

    words = functions.regexp_replace(functions.lower(col("clean_text")), r"[^\pL\pN]+", " ")
    signature = functions.minhash(functions.strip(words), num_hashes=params.hashes, ngram_size=params.shingle_words, seed=1)
    with_text = frame.where("clean_text != '' or clean_title != ''")
    # A document that is only its title is compared by it: an empty text would make all of them duplicates.
    words_of = with_text.with_column(
        "clean_text", functions.when(col("clean_text") == "", col("clean_title")).otherwise(col("clean_text"))
    )
    table = words_of.select(col("source"), col("key"), signature.alias("signature")).sort(["source", "key"]).to_arrow()
    names = list(zip(table["source"].to_pylist(), table["key"].to_pylist(), strict=True))
    if not names:
        return {}
    values = table["signature"].combine_chunks().values.to_numpy()
    signatures = np.asarray(values, dtype=np.uint32).reshape(len(names), params.hashes)
    firsts = cluster_near_duplicates(signatures, params.bands, params.near_duplicate_similarity)
    return {name: json.dumps(names[first], ensure_ascii=False) for name, first in zip(names, firsts, strict=True)}


def _with_clusters(rows: Iterable[Row], clusters: dict[tuple[str, str], str], rejects: list[Reject]) -> Iterator[Row]:
    for row in rows:
        cluster = clusters.get((row["source"], row["key"]))
        if cluster is None:
            detail = "no text is left after cleaning: the consumer refuses it for the same reason"
            rejects.append(Reject(row["source"], "no_text", detail, key=row["key"]))
        else:
            yield {**row, "cluster_id": cluster}


def _cluster_counts(clusters: dict[tuple[str, str], str], params: PrepareParams) -> dict[str, Any]:
    sizes = Counter(clusters.values())
    return {
        "clusters": len(sizes),
        "clusters_of_several": sum(size > 1 for size in sizes.values()),
        "documents_with_near_duplicates": sum(size for size in sizes.values() if size > 1),
        "largest_cluster": max(sizes.values(), default=0),
        "near_duplicate_similarity": params.near_duplicate_similarity,
    }
