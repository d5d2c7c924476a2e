"""The stage cache: a stage's result for each document, by content hash. The next run computes only new ones.

    <home>/kept/STAGE-IDENTITY.parquet

The identity covers everything beside the document that decides the result: parameters, versions, and the code itself. A cached
result equals a computed one, byte for byte, and removing the folder costs time only. A file holds the documents of the last run
and no others, in their order; it is read in blocks, as the documents are.
"""

import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from etl.block_tables import RisingRows, TableWriter, interleaved, open_parquet, read_open_file
from etl.marks import Marks, marks_of_hashes
from twinline.clients.code import code_hashes
from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.documents.cleaning import DEFAULT_CLEANING
from twinline.contract.errors import ContractError

HASH = "content_hash"
CLEANING_CODE = ("twinline.contract.documents.cleaning",)

Documents = Callable[[Sequence[str]], Iterator[pa.Table]]


class StageCache:
    """The cached results of one stage under one identity.

    Args:
        folder: the folder of all caches; None caches nothing.
        stage: part of the file's name.
        identity: everything beside the document that decides the result; see `code_hashes`.
        schema: the columns of a result.
    """

    def __init__(self, folder: Path | None, stage: str, identity: Mapping[str, JSON], schema: pa.Schema) -> None:
        self._path = folder / f"{stage}-{fingerprint(dict(identity))[:16]}.parquet" if folder else None
        self._stage, self._schema = stage, schema
        self._stored = schema.append(pa.field(HASH, pa.large_string()))

    def made(
        self, documents: Documents, columns: Sequence[str], make: Callable[[pa.Table], pa.Table]
    ) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yield blocks of documents, and their results, a row a document.

        Args:
            documents: gives some columns of all documents, from the first, in the same order in every run. The column
                `content_hash` differs for each document.
            columns: the columns to yield; `make` gets them with the hash.
            make: returns a row for each new document, in the given order.

        Raises:
            ContractError: the cached file is damaged.
        """
        with self._opened() as file:
            cached = [marks_of_hashes(block[HASH]) for block in self._blocks(file, [HASH])]
            known = np.concatenate([np.empty((0, 2), np.uint64), *cached])
            marks = Marks(known)
            found = [marks.rows(marks_of_hashes(block[HASH])) for block in documents([HASH])]
            rows = np.concatenate([np.empty(0, np.int64), *found])
            is_unchanged = file is not None and np.array_equal(rows, np.arange(len(known)))
            old, at = RisingRows(self._blocks(file, self._schema.names)), 0
            with self._writer(is_unchanged) as writer:
                for block in documents([*columns, HASH]):
                    here = rows[at : at + block.num_rows]
                    at += block.num_rows
                    is_new = here < 0
                    results = interleaved(
                        old.rows(here[~is_new]) if not is_new.all() else None,
                        make(block.filter(pa.array(is_new))).cast(self._schema) if is_new.any() else None,
                        is_new,
                    )
                    if writer is not None:
                        writer.write(results.append_column(HASH, block[HASH]))
                    yield block.select(columns), results

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile | None]:
        """Open the cached file, once: another run may replace it at any time."""
        try:
            opened = open_parquet(self._path) if self._path is not None else None
        except FileNotFoundError:
            opened = None
        except (OSError, pa.ArrowException, UnicodeError) as exc:
            raise self._damaged(exc) from exc
        with opened or nullcontext() as file:
            yield file

    def _blocks(self, file: pq.ParquetFile | None, columns: Sequence[str]) -> Iterator[pa.Table]:
        if file is None:
            return
        try:
            yield from read_open_file(file, self._stored, columns)
        except (OSError, pa.ArrowException, UnicodeError) as exc:  # a damaged name breaks Arrow's own message
            raise self._damaged(exc) from exc

    def _damaged(self, why: Exception) -> ContractError:
        return ContractError(f"{self._path} is damaged ({why}): remove it; the stage makes it again")

    @contextmanager
    def _writer(self, is_unchanged: bool) -> Iterator[TableWriter | None]:
        """Give the writer of the new file, which replaces the old one at the end; None where nothing changed."""
        if self._path is None or is_unchanged:
            yield None
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for left in self._path.parent.glob(f".{self._stage}-*.parquet.*"):
            if not psutil.pid_exists(int(left.name.rpartition(".")[2])):
                left.unlink(missing_ok=True)
        # The process id is in the name: two runs at once each write a whole file.
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            with TableWriter(beside, self._stored, write_page_checksum=True) as writer:
                yield writer
            # Files of other parameters or code are of no use to the next run.
            for old in self._path.parent.glob(f"{self._stage}-*.parquet"):
                if old != self._path:
                    old.unlink(missing_ok=True)
            beside.replace(self._path)
        finally:
            beside.unlink(missing_ok=True)


def cleaning_identity() -> dict[str, JSON]:
    """Return the identity of cleaning: the rules, their code, and the Unicode tables of this Python."""
    rules: list[JSON] = [f"{name}@{version}" for name, version in DEFAULT_CLEANING]
    return {"rules": rules, "unicode": unicodedata.unidata_version, **code_hashes(*CLEANING_CODE)}
