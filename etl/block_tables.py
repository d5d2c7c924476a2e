"""Tables in blocks: a stage holds one block of a corpus in memory, and some bytes a document.

Rows go into row groups of a fixed size, so the written files do not depend on the blocks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

ROW_GROUP: Final = 1_000
_BLOCK_ROWS: Final = 8_000
_BLOCK_BYTES: Final = 32 << 20
# Limits of one run during a merge. All runs are open at once where rows came in random order.
_RUN_ROWS: Final = 256
_RUN_BYTES: Final = 256 << 10


class TableWriter:
    """One Parquet file, written in row groups of `ROW_GROUP` rows; the last may have fewer."""

    def __init__(self, path: Path, schema: pa.Schema, **options: Any) -> None:
        self.rows = 0
        self._schema = schema
        self._left: list[pa.Table] = []
        self._waiting = 0
        options = {"store_schema": False, **options}
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", version="2.6", **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._waiting:
            self._write(pa.concat_tables(self._left))
        self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Add rows, in the columns of the schema or more."""
        table = table.select(self._schema.names).cast(self._schema)
        self.rows += table.num_rows
        self._left.append(table)
        self._waiting += table.num_rows
        if self._waiting >= ROW_GROUP:
            whole = pa.concat_tables(self._left)
            ready = whole.num_rows - whole.num_rows % ROW_GROUP
            self._write(whole.slice(0, ready))
            self._left, self._waiting = [whole.slice(ready)], whole.num_rows - ready

    def _write(self, table: pa.Table) -> None:
        # Each group from one piece of memory: the pages of a column must not depend on its chunks.
        for start in range(0, table.num_rows, ROW_GROUP):
            self._writer.write_table(table.slice(start, ROW_GROUP).combine_chunks(), row_group_size=ROW_GROUP)


def read_blocks(paths: Iterable[Path], schema: pa.Schema, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows of Parquet files, one file after the other, in the types of a schema, in blocks of bounded size."""
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    yield from _blocks(table for path in paths for table in _rows_of(path, wanted))


def read_open_file(file: pq.ParquetFile, schema: pa.Schema, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield some columns of an open file as `read_blocks` does, even if another file has its name by now."""
    wanted = pa.schema([schema.field(name) for name in columns])
    yield from _blocks(_batches(file, wanted))


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a file; checksums are compared where it has them."""
    return pq.ParquetFile(path, page_checksum_verification=True)


def _rows_of(path: Path, wanted: pa.Schema) -> Iterator[pa.Table]:
    with open_parquet(path) as file:
        yield from _batches(file, wanted)


def _batches(file: pq.ParquetFile, wanted: pa.Schema) -> Iterator[pa.Table]:
    for batch in file.iter_batches(batch_size=ROW_GROUP, columns=wanted.names):
        yield pa.table(batch).cast(wanted)


def _blocks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        held.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
        if rows >= _BLOCK_ROWS or size >= _BLOCK_BYTES:
            yield pa.concat_tables(held)
            held, rows, size = [], 0, 0
    if held:
        yield pa.concat_tables(held)


class Taker:
    """Gives the next n rows of blocks of any size."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._held: list[pa.Table] = []

    def rows(self, count: int) -> pa.Table:
        """Return the next `count` rows, at least one; the caller knows that so many are left."""
        while sum(table.num_rows for table in self._held) < count:
            self._held.append(next(self._tables))
        whole = pa.concat_tables(self._held)
        self._held = [whole.slice(count)]
        return whole.slice(0, count)


class RisingRows:
    """Gives rows of blocks by their numbers, in rising order."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._held: list[pa.Table] = []
        self._first = 0

    def rows(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return some rows, at least one; all come after the rows of the last call."""
        first, last = int(rows[0]), int(rows[-1])
        while self._first + sum(table.num_rows for table in self._held) <= last:
            self._held.append(next(self._tables))
            while self._held and self._first + self._held[0].num_rows <= first:
                self._first += self._held.pop(0).num_rows
        return pa.concat_tables(self._held).take(rows - self._first)


def interleaved(known: pa.Table | None, new: pa.Table | None, is_new: NDArray[np.bool_]) -> pa.Table:
    """Return the rows of both in one order: at each place the next row of `new`, or of `known`."""
    pieces = [table for table in (known, new) if table is not None]
    if len(pieces) == 1:
        return pieces[0]
    places = np.empty(len(is_new), np.int64)
    places[~is_new] = np.arange(len(is_new) - is_new.sum())
    places[is_new] = len(is_new) - is_new.sum() + np.arange(is_new.sum())
    return pa.concat_tables(pieces).take(places)


@dataclass(frozen=True, slots=True)
class Run:
    """Sorted rows.

    Args:
        keys: the columns of the order, in memory.
        rows: all columns, in blocks.
        row_bytes: the size of a row, if known.
    """

    keys: pa.Table
    rows: Iterator[pa.Table]
    row_bytes: int = 0


def write_run(path: Path, table: pa.Table, keys: Sequence[str]) -> Run:
    """Sort a block and write it to disk for a merge."""
    ordered = table.sort_by([(name, "ascending") for name in keys])
    row_bytes = ordered.nbytes // max(1, ordered.num_rows)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(str(path), ordered.schema, options=options) as writer:
        writer.write_table(ordered, max_chunksize=_rows_in(_RUN_BYTES, row_bytes, _RUN_ROWS))
    return Run(ordered.select(keys).combine_chunks(), _run_rows(path), row_bytes)


def _rows_in(size: int, row_bytes: int, most: int) -> int:
    return max(1, min(most, size // max(1, row_bytes)))


def _run_rows(path: Path) -> Iterator[pa.Table]:
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            yield pa.table(reader.get_batch(number))


def merge(runs: Sequence[Run], keys: Sequence[str], together: Sequence[str] = ()) -> Iterator[pa.Table]:
    """Yield the rows of several runs in one order.

    Memory holds the keys of all rows, one block, and some rows of each run. The files of all runs are open meanwhile.

    Args:
        together: rows with equal values in these first keys come in one block.
    """
    runs = [run for run in runs if run.keys.num_rows]
    if not runs:
        return
    ordered_by = pa.concat_tables([run.keys for run in runs])
    order = pc.sort_indices(ordered_by, sort_keys=[(name, "ascending") for name in keys]).to_numpy()
    run_of = np.repeat(np.arange(len(runs)), [run.keys.num_rows for run in runs])[order]
    row_bytes = max(run.row_bytes for run in runs)
    begins = _block_begins(ordered_by, order, together, _rows_in(_BLOCK_BYTES, row_bytes, _BLOCK_ROWS))
    del ordered_by, order
    takers = [Taker(run.rows) for run in runs]
    for start, end in zip(begins, [*begins[1:], len(run_of)], strict=True):
        yield _merged_block(takers, run_of[start:end])


def _merged_block(takers: Sequence[Taker], run_of: NDArray[np.int64]) -> pa.Table:
    counts = np.bincount(run_of, minlength=len(takers))
    present = np.flatnonzero(counts).tolist()
    pieces = [takers[number].rows(int(counts[number])) for number in present]
    places = np.empty(len(run_of), np.int64)
    first = 0
    for number in present:
        places[run_of == number] = first + np.arange(counts[number])
        first += int(counts[number])
    whole = pa.concat_tables(pieces)
    return whole if len(present) == 1 else whole.take(places)


def _block_begins(keys: pa.Table, order: NDArray[np.uint64], together: Sequence[str], rows: int) -> list[int]:
    """Return where blocks of about `rows` rows begin, never between two rows that belong together."""

    def names(place: int) -> dict[str, Any]:
        found: dict[str, Any] = keys.slice(int(order[place]), 1).select(together).to_pylist()[0]
        return found

    begins, at = [0], rows
    while at < len(order):
        if together and names(at - 1) == names(at):
            at += 1
        else:
            begins.append(at)
            at += rows
    return begins
