"""Stage prepare: clean the documents of a snapshot and cluster the near-duplicates among them.

1. sign: a first pass cleans new documents and computes their MinHash signatures; the cache has those of the last run
2. cluster: by signatures alone
3. write: a second pass adds clean texts and the names of clusters

No duplicate is removed here. The index and every evaluation see all documents; only training pairs take one of each cluster.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from etl.block_tables import TableWriter, Taker, interleaved, read_blocks
from etl.clusters import near_duplicates
from etl.document_cache import DocumentCache
from etl.erased import erased_in
from etl.params import PrepareParams
from etl.signatures import Signatures
from etl.snapshots import document_files, read_snapshot
from etl.sources.items import ERASED, Reject
from etl.stage_cache import cleaning_identity
from etl.storage import DOCUMENTS, PREPARED, REJECTS, replaced_folder, write_table
from twinline.clients.code import code_hashes
from twinline.clients.erasure_list import Erasures
from twinline.contract.canonical import JSON
from twinline.contract.documents.cleaning import DEFAULT_CLEANING, clean

Row = dict[str, Any]

_CLEAN: Final = ("clean_title", "clean_text")
_TO_MAKE: Final = ("source", "key", "title", "text", "content_hash")


def prepare(
    snapshot: Path,
    out: Path,
    params: PrepareParams,
    erasures: Erasures | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Write documents.parquet, rejects.parquet and report.json, and return the report.

    Documents erased since the snapshot are left out first: even the name of a cluster is a document's name.

    Args:
        cache: folder of the stage caches; None cleans and signs every document again.
    """
    record = read_snapshot(snapshot)
    files = document_files(snapshot)
    erased = erased_in(files, erasures or Erasures())
    known = DocumentCache(cache, "prepare", _identity(params), params.hashes)
    with replaced_folder(out) as folder:
        spool = _Spool(folder)
        capacity = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
        with Signatures(spool.signatures, capacity, params.hashes, params.bands) as signatures:
            with spool:
                for block in _standing(read_blocks(files, DOCUMENTS, _TO_MAKE), erased):
                    _sign(block, known, spool, signatures, params)
            firsts = near_duplicates(signatures, params.bands, params.near_duplicate_similarity)
        rejects = _write(folder / "documents.parquet", _standing(read_blocks(files, DOCUMENTS), erased), known, spool, firsts)
        rejects += [Reject(record.uri, ERASED, why) for why in erased.values()]
        write_table(folder / "rejects.parquet", REJECTS, map(asdict, rejects))
        known.replace(folder / "documents.parquet", spool.signatures)
        spool.remove()
        report = {
            "snapshot": record.id,
            "documents": len(firsts),
            "rejects": len(rejects),
            "cleaning": [f"{name}@{version}" for name, version in DEFAULT_CLEANING],
            **_cluster_counts(firsts, params),
        }
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


class _Spool:
    """The clean texts of new documents, in order, until they are written with the others."""

    def __init__(self, folder: Path) -> None:
        self.signatures = folder / "signatures.new"
        self._path = folder / "made.new"
        self._schema = pa.schema([(name, pa.large_string()) for name in _CLEAN])

    def __enter__(self) -> None:
        self._writer = pa.ipc.new_file(str(self._path), self._schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, made: pa.Table) -> None:
        """Add the clean texts of the next new documents."""
        self._writer.write_table(made.select(_CLEAN).cast(self._schema), max_chunksize=1_000)

    def tables(self) -> Iterator[pa.Table]:
        """Yield them again."""
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                yield pa.table(reader.get_batch(number))

    def remove(self) -> None:
        """Leave nothing behind."""
        self._path.unlink()
        self.signatures.unlink()


def _sign(block: pa.Table, known: DocumentCache, spool: _Spool, signatures: Signatures, params: PrepareParams) -> None:
    """Write the signature of each document of a block that has text; spool the clean texts of new ones."""
    rows = known.rows(block["content_hash"])
    values = np.zeros((block.num_rows, params.hashes), np.uint32)
    has_text = rows >= 0  # the cache holds no document without text
    values[has_text] = known.signatures(rows[has_text])
    new = np.flatnonzero(rows < 0)
    if len(new):
        made = _make(block.take(new), params)
        spool.add(made)
        raw = b"".join(made["signature"].to_pylist())
        values[new] = np.frombuffer(raw, np.uint32).reshape(-1, params.hashes)
        has_text[new] = _has_text(made)
    signatures.add(values[has_text])


def _write(
    path: Path, blocks: Iterator[pa.Table], known: DocumentCache, spool: _Spool, firsts: NDArray[np.int64]
) -> list[Reject]:
    """Write the prepared documents; return the rejects, which have no text."""
    rejects: list[Reject] = []
    names = _Names(firsts)
    made, cached = Taker(spool.tables()), known.texts(_CLEAN)
    with TableWriter(path, PREPARED, write_page_checksum=True) as writer:
        for block in blocks:
            rows = known.rows(block["content_hash"])
            is_new = rows < 0
            old, new = rows[~is_new], int(is_new.sum())
            texts = interleaved(cached.rows(old) if len(old) else None, made.rows(new) if new else None, is_new)
            for name in _CLEAN:
                block = block.append_column(name, texts[name])
            has_text = _has_text(block)
            if not has_text.all():
                empty = block.filter(pa.array(~has_text)).select(["source", "key"]).to_pylist()
                rejects += map(_no_text, empty)
                block = block.filter(pa.array(has_text))
            writer.write(block.append_column("cluster_id", names.of(block)))
    return rejects


class _Names:
    """The name of each document's cluster, block by block: the name of the cluster's first document."""

    def __init__(self, firsts: NDArray[np.int64]) -> None:
        self._firsts = firsts
        self._wanted = np.unique(firsts[firsts != np.arange(len(firsts))])
        self._known: dict[int, str] = {}
        self._at = 0

    def of(self, block: pa.Table) -> pa.Array:
        """Return the names for the next documents."""
        end = self._at + block.num_rows
        own = _own_names(block)
        low, high = np.searchsorted(self._wanted, [self._at, end])
        for first in self._wanted[low:high].tolist():
            self._known[first] = own[first - self._at].as_py()
        firsts = self._firsts[self._at : end]
        others = firsts != np.arange(self._at, end)
        self._at = end
        if others.any():
            own = pc.replace_with_mask(
                own, pa.array(others), pa.array([self._known[first] for first in firsts[others].tolist()], own.type)
            )
        return own


def _own_names(block: pa.Table) -> pa.Array:
    """Return the JSON array of source and key of each document; row by row only where a character must be escaped."""
    columns = [block[name].combine_chunks() for name in ("source", "key")]
    if any(pc.any(pc.match_substring_regex(column, r'["\\\x00-\x1f\x7f]')).as_py() for column in columns):
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        return pa.array([json.dumps(row, ensure_ascii=False) for row in rows], pa.large_string())
    begin, between, end, nothing = (pa.scalar(text, pa.large_string()) for text in ('["', '", "', '"]', ""))
    return pc.binary_join_element_wise(begin, columns[0], between, columns[1], end, nothing)


def _has_text(table: pa.Table) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.or_(*(pc.not_equal(table[name], "") for name in _CLEAN)).to_numpy()
    return found


def _identity(params: PrepareParams) -> dict[str, JSON]:
    numbers: dict[str, JSON] = {"shingle_words": params.shingle_words, "hashes": params.hashes}
    return {**cleaning_identity(), **numbers, **code_hashes("etl.prepare"), "daft": metadata.version("daft")}


def _make(documents: pa.Table, params: PrepareParams) -> pa.Table:
    """Return clean title, clean text and MinHash signature of each document, in order.

    The signature ignores case, punctuation and white space: two texts that differ only there are exact duplicates.
    """
    import daft
    from daft import col, functions

    @daft.func(return_dtype=daft.DataType.string())
    def cleaned(text: str) -> str:
        return clean(text, DEFAULT_CLEANING).text

    frame = daft.from_arrow(documents.select(["source", "key", "title", "text"]))
    frame = frame.with_column("clean_title", cleaned(col("title"))).with_column("clean_text", cleaned(col("text")))
    # A document without text is compared by its title: by their empty texts all of them would be duplicates.
    compared = functions.when(col("clean_text") == "", col("clean_title")).otherwise(col("clean_text"))
    words = functions.regexp_replace(functions.lower(compared), r"[^\pL\pN]+", " ")
    signature = functions.minhash(functions.strip(words), num_hashes=params.hashes, ngram_size=params.shingle_words, seed=1)
    # Sorted again: a cluster of machines may return rows in another order.
    frame = frame.select("source", "key", "clean_title", "clean_text", signature.alias("signature")).sort(["source", "key"])
    table = frame.to_arrow()
    values = table["signature"].combine_chunks().values.to_numpy()
    size = params.hashes * np.dtype(np.uint32).itemsize
    packed = pa.py_buffer(np.ascontiguousarray(values, dtype=np.uint32))
    signatures = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), table.num_rows, [None, packed])
    texts = {name: table[name].cast(pa.large_string()) for name in ("clean_title", "clean_text")}
    return pa.table({**texts, "signature": signatures})


def _standing(blocks: Iterator[pa.Table], erased: Mapping[tuple[str, str], str]) -> Iterator[pa.Table]:
    """Yield the documents that were not erased."""
    for block in blocks:
        if not erased:
            yield block
            continue
        names = zip(block["source"].to_pylist(), block["key"].to_pylist(), strict=True)
        left = block.filter(pa.array([name not in erased for name in names], pa.bool_()))
        if left.num_rows:
            yield left


def _no_text(row: Row) -> Reject:
    detail = "no text is left after cleaning: the consumer refuses it for the same reason"
    return Reject(row["source"], "no_text", detail, key=row["key"])


def _cluster_counts(firsts: NDArray[np.int64], params: PrepareParams) -> dict[str, Any]:
    sizes = np.unique(firsts, return_counts=True)[1].tolist()
    return {
        "clusters": len(sizes),
        "clusters_of_several": sum(size > 1 for size in sizes),
        "documents_with_near_duplicates": sum(size for size in sizes if size > 1),
        "largest_cluster": max(sizes, default=0),
        "near_duplicate_similarity": params.near_duplicate_similarity,
    }
