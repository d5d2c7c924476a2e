"""The cache of the stage prepare: its last documents by content hash. The next run cleans and signs only new ones.

    <home>/kept/STAGE-IDENTITY.parquet      the stage's output, as a hard link: no copy
    <home>/kept/STAGE-IDENTITY.signatures   a MinHash signature for each of its rows
    <home>/kept/STAGE-IDENTITY.json         size and time of both files when they were cached

The identity covers everything beside the document that decides the result: parameters, versions, and the code itself.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.block_tables import RisingRows, read_blocks
from etl.marks import Marks, marks_of_hashes
from etl.stage_cache import HASH
from etl.storage import PREPARED
from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.errors import ContractError


class DocumentCache:
    """The cached documents of one stage under one identity.

    Args:
        folder: the folder of all caches; None caches nothing.
        hashes: values in a signature.
    """

    def __init__(self, folder: Path | None, stage: str, identity: Mapping[str, JSON], hashes: int) -> None:
        self._folder, self._stage, self._hashes = folder, stage, hashes
        base = (folder or Path()) / f"{stage}-{fingerprint(dict(identity))[:16]}"
        self._path, self._signatures, self._record = (
            base.with_suffix(f".{ending}") for ending in ("parquet", "signatures", "json")
        )
        self._marks = Marks(np.empty((0, 2), np.uint64))
        self._began_with = self._stamps() if folder is not None and self._is_whole() else None
        if self._began_with is not None:
            self._marks = Marks(np.concatenate([marks_of_hashes(block[HASH]) for block in self._blocks([HASH])]))

    def rows(self, hashes: pa.ChunkedArray) -> NDArray[np.int64]:
        """Return the cached row of each document, -1 for a new one; rows rise if the documents come in order."""
        return self._marks.rows(marks_of_hashes(hashes))

    def signatures(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the signatures of some cached rows, given in rising order."""
        if not len(rows):
            return np.empty((0, self._hashes), np.uint32)
        first, last = int(rows.min()), int(rows.max())
        size = self._hashes * 4
        with self._signatures.open("rb") as file:
            raw = os.pread(file.fileno(), (last - first + 1) * size, first * size)
        return np.frombuffer(raw, np.uint32).reshape(-1, self._hashes)[rows - first]

    def texts(self, columns: Sequence[str]) -> RisingRows:
        """Return a reader of some columns of cached rows."""
        return RisingRows(self._blocks(columns) if self._path.is_file() else iter(()))

    def replace(self, documents: Path, signatures: Path) -> None:
        """Cache this run's output instead, by hard links: the folder of the output may be removed.

        Raises:
            ContractError: another run replaced the cache while this one read it.
        """
        if self._folder is None:
            return
        if self._began_with is not None and not (self._is_whole() and self._stamps() == self._began_with):
            raise ContractError(f"{self._path} was replaced by another run while this one read it: run the stage again")
        self._folder.mkdir(parents=True, exist_ok=True)
        # The cache is valid only with its record, so the record goes first and comes back last.
        for old in self._folder.glob(f"{self._stage}-*"):
            old.unlink(missing_ok=True)
        for source, target in ((documents, self._path), (signatures, self._signatures)):
            try:
                target.hardlink_to(source)
            except OSError:  # another file system
                shutil.copy2(source, target)
        beside = self._record.with_name(f".{self._record.name}.{os.getpid()}")
        beside.write_text(json.dumps(self._stamps()))
        beside.replace(self._record)

    def _is_whole(self) -> bool:
        """Return whether the files are still the cached ones; a file overwritten in place is not."""
        try:
            return bool(json.loads(self._record.read_text()) == self._stamps())
        except FileNotFoundError:
            return False
        except ValueError as exc:
            raise ContractError(f"{self._record} is damaged ({exc}): remove it; the stage makes its cache again") from exc

    def _stamps(self) -> dict[str, list[int]]:
        found = {path.name: path.stat() for path in (self._path, self._signatures)}
        return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}

    def _blocks(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        try:
            yield from read_blocks([self._path], PREPARED, columns)
        except (OSError, pa.ArrowException, UnicodeError) as exc:  # a damaged name breaks Arrow's own message
            raise ContractError(f"{self._path} is damaged ({exc}): remove it; the stage makes it again") from exc
