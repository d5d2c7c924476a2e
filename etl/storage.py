"""Tables on disk: fixed schemas, file names and row order, so that the same rows are the same bytes.

pyarrow writes Parquet in one thread. Daft names its files at random, so it computes results and writes nothing.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from etl.block_tables import TableWriter

ROWS_PER_FILE = 50_000
_BATCH_ROWS = 1_000

# large_string: offsets of 64 bits, for columns of more than 2 GiB.
_TEXT = pa.large_string()


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


DOCUMENTS = _schema(
    source=_TEXT, key=_TEXT, version=pa.int64(), title=_TEXT, text=_TEXT, metadata=_TEXT, tenant=_TEXT,
    content_hash=_TEXT, log_timestamp_ms=pa.int64(), log_partition=pa.int32(), log_offset=pa.int64(),
    place=_TEXT, line=pa.int64(),
)  # fmt: skip
# A snapshot's documents, cleaned, each with its cluster of near-duplicates.
PREPARED = pa.schema([*DOCUMENTS, *(pa.field(name, _TEXT) for name in ("clean_title", "clean_text", "cluster_id"))])
DELETIONS = _schema(
    source=_TEXT, key=_TEXT, version=pa.int64(),
    log_timestamp_ms=pa.int64(), log_partition=pa.int32(), log_offset=pa.int64(),
)  # fmt: skip
QUERIES = _schema(query_id=_TEXT, text=_TEXT, split=_TEXT)
JUDGEMENTS = _schema(query_id=_TEXT, source=_TEXT, key=_TEXT, grade=pa.int32(), split=_TEXT)
REJECTS = _schema(place=_TEXT, line=pa.int64(), key=_TEXT, reason=_TEXT, detail=_TEXT, raw=_TEXT)

Rows = Iterable[Mapping[str, Any]]


def write_table(path: Path, schema: pa.Schema, rows: Rows) -> int:
    """Write rows to one file in the order given and return their number."""
    return sum(_write_batches(path, schema, batches(schema, rows)))


def read_table(paths: Sequence[Path], schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of files, one file after the other, in the types of a schema."""
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    return pa.concat_tables([pq.ParquetFile(path).read(columns=wanted.names).cast(wanted) for path in paths])


class DocumentsWriter:
    """Writes documents-00000.parquet and as many more as needed; at least one file, even an empty one."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._folder, self._schema = folder, schema
        self._part = 0
        self._writer = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.__exit__(kind, error, trace)

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        while table.num_rows:
            if self._writer.rows == ROWS_PER_FILE:
                self._writer.__exit__(None, None, None)
                self._part += 1
                self._writer = self._open()
            piece = table.slice(0, ROWS_PER_FILE - self._writer.rows)
            self._writer.write(piece)
            self.rows += piece.num_rows
            table = table.slice(piece.num_rows)

    def _open(self) -> TableWriter:
        return TableWriter(self._folder / f"documents-{self._part:05}.parquet", self._schema)


def read_rows(*paths: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of files, one file after the other."""
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1_000, columns=columns):
            yield from batch.to_pylist()


def use_daft(runner: str) -> None:
    """Choose, once in a process, where Daft computes: `native`, in this process, or `ray`, the cluster of RAY_ADDRESS.

    Daft reads the variable at its first use, so a run without new documents does not even import it.
    """
    os.environ["DAFT_RUNNER"] = runner


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write into; it replaces `folder` on success and is removed on failure."""
    with _folder_beside(folder) as beside:
        yield beside
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)


@contextmanager
def added_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write into; it becomes `folder`, unless another process has made the same one meanwhile."""
    with _folder_beside(folder) as beside:
        yield beside
        try:
            beside.rename(folder)
        except OSError as exc:
            # Renaming onto a folder that is not empty fails: it belongs to the other process and stays.
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


@contextmanager
def _folder_beside(folder: Path) -> Iterator[Path]:
    """Give an empty folder on the same file system, for this process alone; remove the folders of killed processes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*.new"):
        if not psutil.pid_exists(int(left.name.split(".")[-2])):
            shutil.rmtree(left, ignore_errors=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def batches(schema: pa.Schema, rows: Rows, size: int = _BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Yield rows in batches of one size; the last may be smaller."""
    chunk: list[Mapping[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield pa.RecordBatch.from_pylist(chunk, schema=schema)
            chunk = []
    if chunk:
        yield pa.RecordBatch.from_pylist(chunk, schema=schema)


def _write_batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[int]:
    with pq.ParquetWriter(path, schema, compression="zstd", version="2.6", store_schema=False) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield batch.num_rows
