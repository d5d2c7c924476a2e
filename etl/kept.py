"""What a stage made of each document, kept by the document's content hash: the next run makes only what is new.

    <home>/kept/STAGE-IDENTITY.parquet

The identity covers all that decides the result beside the document: parameters, versions, and the code itself. So what is kept is
what would be made again, byte for byte, and removing the folder costs time only. A file holds the documents of the last run and
no others.
"""

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

import contract.cleaning
from contract.canonical import JSON, fingerprint, sha256_hex
from contract.cleaning import DEFAULT_CLEANING
from contract.errors import ContractError

HASH = "content_hash"


class Kept:
    """The results of one stage under one identity.

    Args:
        folder: where files of all stages lie; None keeps nothing.
        stage: part of the file's name.
        identity: what else decides the result; see `code_hashes`.
    """

    def __init__(self, folder: Path | None, stage: str, identity: Mapping[str, JSON]) -> None:
        self._path = folder / f"{stage}-{fingerprint(dict(identity))[:16]}.parquet" if folder else None
        self._stage = stage

    def made(self, documents: pa.Table, make: Callable[[pa.Table], pa.Table]) -> pa.Table:
        """Return one row of results a document, in the documents' order.

        Args:
            documents: with the column `content_hash`, which is different for each.
            make: given the documents that are new, in their order, returns their rows, in the same order.

        Raises:
            ContractError: the kept file is damaged.
        """
        hashes = documents[HASH].combine_chunks()
        known = self._read()
        places = None if known is None else pc.index_in(hashes, value_set=known[HASH].combine_chunks())
        if known is None or places is None or places.null_count == len(hashes):
            found = _with_hashes(make(documents), hashes)
            new = len(hashes)
        else:
            is_new = places.is_null()
            new = places.null_count
            found = known.take(pc.fill_null(places, 0))
            if new:
                rows = _with_hashes(make(documents.filter(is_new)), hashes.filter(is_new)).cast(known.schema)
                found = pa.concat_tables([known, rows]).take(_merged(places, is_new, known.num_rows))
        if new or known is None or known.num_rows != len(hashes):
            self._write(found)
        return found.drop_columns([HASH])

    def _read(self) -> pa.Table | None:
        if self._path is None or not self._path.is_file():
            return None
        try:
            return pq.ParquetFile(self._path, page_checksum_verification=True).read()
        except (OSError, pa.ArrowException) as exc:
            raise ContractError(f"{self._path} is damaged ({exc}): remove it; the stage makes it again") from exc

    def _write(self, table: pa.Table) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Under another parameter or code nobody asks for these again; two runs at once each write a whole file.
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        pq.write_table(table, beside, compression="zstd", write_page_checksum=True)
        for old in self._path.parent.glob(f"{self._stage}-*.parquet"):
            if old != self._path:
                old.unlink(missing_ok=True)
        beside.replace(self._path)


def cleaning_identity() -> dict[str, JSON]:
    """Return what decides a clean text: the rules, their code, and the Unicode tables of this Python."""
    rules: list[JSON] = [f"{name}@{version}" for name, version in DEFAULT_CLEANING]
    return {"rules": rules, "unicode": unicodedata.unidata_version, **code_hashes([contract.cleaning])}


def code_hashes(modules: Iterable[ModuleType]) -> dict[str, JSON]:
    """Return the hash of each module's file: what was made by other code is not what this code would make."""
    return {module.__name__: sha256_hex(Path(str(module.__file__)).read_bytes()) for module in modules}


def _with_hashes(rows: pa.Table, hashes: pa.Array) -> pa.Table:
    return rows.append_column(HASH, hashes)


def _merged(places: pa.Array, is_new: pa.Array, known: int) -> NDArray[np.int64]:
    """Return, by document, its row in the known rows followed by the new ones."""
    new = np.asarray(is_new)
    rows: NDArray[np.int64] = pc.fill_null(places, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows[new] = known + np.arange(int(new.sum()))
    return rows
