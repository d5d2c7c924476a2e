"""Stage prepare: clean the documents of a snapshot and cluster the near-duplicates among them.

Nothing is removed because it is a duplicate: what to do with a cluster is for whoever uses it. The index and every
evaluation see all documents; only training pairs take one of each.
"""

import json
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clients.erasures import Erasures
from contract.canonical import JSON
from contract.cleaning import DEFAULT_CLEANING, clean
from etl.clusters import cluster_near_duplicates
from etl.erased import erased_in
from etl.kept import Kept, cleaning_identity, code_hashes
from etl.params import PrepareParams
from etl.snapshots import document_files, read_snapshot
from etl.sources.items import ERASED, Reject
from etl.storage import DOCUMENTS, PREPARED, REJECTS, read_table, replaced_folder, write_arrow, write_table

Row = dict[str, Any]


def prepare(
    snapshot: Path, out: Path, params: PrepareParams, erasures: Erasures | None = None, kept: Path | None = None
) -> dict[str, Any]:
    """Write documents.parquet, rejects.parquet and report.json, and return the report.

    What was erased since the snapshot was taken is left out before anything is made of it: a cluster has a document's name.

    Args:
        kept: folder in which what was made of each document is kept for the next run; None: all is made anew.
    """
    record = read_snapshot(snapshot)
    erased = erased_in(document_files(snapshot), erasures or Erasures())
    documents = read_table(document_files(snapshot), DOCUMENTS).sort_by([("source", "ascending"), ("key", "ascending")])
    documents = _without(erased, documents)
    made = Kept(kept, "prepare", _identity(params)).made(documents, lambda new: _make(new, params))
    prepared = documents
    for name in ("clean_title", "clean_text"):
        prepared = prepared.append_column(name, made[name])
    has_text = pc.or_(pc.not_equal(made["clean_title"], ""), pc.not_equal(made["clean_text"], ""))
    clustered = prepared.filter(has_text)
    clusters = _clusters(clustered, made["signature"].filter(has_text), params)
    rejects = [_no_text(row) for row in prepared.filter(pc.invert(has_text)).select(["source", "key"]).to_pylist()]
    rejects += [Reject(record.uri, ERASED, why) for why in erased.values()]
    with replaced_folder(out) as folder:
        whole = clustered.append_column("cluster_id", pa.array(clusters, pa.large_string()))
        write_arrow(folder / "documents.parquet", PREPARED, whole)
        write_table(folder / "rejects.parquet", REJECTS, map(asdict, rejects))
        report = {
            "snapshot": record.id,
            "documents": whole.num_rows,
            "rejects": len(rejects),
            "cleaning": [f"{name}@{version}" for name, version in DEFAULT_CLEANING],
            **_cluster_counts(clusters, params),
        }
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def _identity(params: PrepareParams) -> dict[str, JSON]:
    numbers: dict[str, JSON] = {"shingle_words": params.shingle_words, "hashes": params.hashes}
    return {**cleaning_identity(), **numbers, **code_hashes([sys.modules[__name__]]), "daft": metadata.version("daft")}


def _make(documents: pa.Table, params: PrepareParams) -> pa.Table:
    """Return clean title, clean text and MinHash signature of each document, in order.

    Case, punctuation and white space make no difference to the signature: two texts that differ only there are exact duplicates.
    """
    import daft
    from daft import col, functions

    @daft.func(return_dtype=daft.DataType.string())
    def cleaned(text: str) -> str:
        return clean(text, DEFAULT_CLEANING).text

    frame = daft.from_arrow(documents.select(["source", "key", "title", "text"]))
    frame = frame.with_column("clean_title", cleaned(col("title"))).with_column("clean_text", cleaned(col("text")))
    # A document that is only its title is compared by it: an empty text would make all of them duplicates.
    compared = functions.when(col("clean_text") == "", col("clean_title")).otherwise(col("clean_text"))
    words = functions.regexp_replace(functions.lower(compared), r"[^\pL\pN]+", " ")
    signature = functions.minhash(functions.strip(words), num_hashes=params.hashes, ngram_size=params.shingle_words, seed=1)
    # Sorted again: a cluster of machines may give rows back in another order.
    frame = frame.select("source", "key", "clean_title", "clean_text", signature.alias("signature")).sort(["source", "key"])
    table = frame.to_arrow()
    values = table["signature"].combine_chunks().values.to_numpy()
    size = params.hashes * np.dtype(np.uint32).itemsize
    packed = pa.py_buffer(np.ascontiguousarray(values, dtype=np.uint32))
    signatures = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), table.num_rows, [None, packed])
    texts = {name: table[name].cast(pa.large_string()) for name in ("clean_title", "clean_text")}
    return pa.table({**texts, "signature": signatures})


def _without(erased: Collection[tuple[str, str]], documents: pa.Table) -> pa.Table:
    if not erased:
        return documents
    names = zip(documents["source"].to_pylist(), documents["key"].to_pylist(), strict=True)
    return documents.filter(pa.array([name not in erased for name in names], pa.bool_()))


def _clusters(documents: pa.Table, signatures: pa.ChunkedArray, params: PrepareParams) -> list[str]:
    """Return the cluster of every document, named by the cluster's first document."""
    names = list(zip(documents["source"].to_pylist(), documents["key"].to_pylist(), strict=True))
    if not names:
        return []
    raw = b"".join(signatures.to_pylist())
    values = np.frombuffer(raw, dtype=np.uint32).reshape(len(names), params.hashes)
    firsts = cluster_near_duplicates(values, params.bands, params.near_duplicate_similarity)
    return [json.dumps(names[first], ensure_ascii=False) for first in firsts]


def _no_text(row: Row) -> Reject:
    detail = "no text is left after cleaning: the consumer refuses it for the same reason"
    return Reject(row["source"], "no_text", detail, key=row["key"])


def _cluster_counts(clusters: Sequence[str], params: PrepareParams) -> dict[str, Any]:
    sizes = Counter(clusters)
    return {
        "clusters": len(sizes),
        "clusters_of_several": sum(size > 1 for size in sizes.values()),
        "documents_with_near_duplicates": sum(size for size in sizes.values() if size > 1),
        "largest_cluster": max(sizes.values(), default=0),
        "near_duplicate_similarity": params.near_duplicate_similarity,
    }
