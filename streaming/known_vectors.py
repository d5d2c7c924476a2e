"""Known vectors: a text that a release has embedded once is not embedded again, in any document, batch or restart.

A bounded file under home for each release, and so for one space, one served format and one contract. It only saves time: it may
be deleted at any time, and a file that cannot be used is left alone for the rest of the process.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from twinline.clients.release import Release
from twinline.clients.settings import Settings

Vector = NDArray[np.float32]

_log = logging.getLogger(__name__)
# A place of its own below the offline line's vectors: an erasure removes both (`twinline/upkeep/erase/removal.py`).
_FOLDER: Final = Path("cache", "vectors", "served")
# SQLite's default limit of variables in one statement is at least this.
_LOOKUP_BLOCK: Final = 500
# What a row takes beside its vector: hash, checksum, keys of both trees, free space in pages.
_ROW_BYTES: Final = 320
_CRC_BYTES: Final = 4
# The number is the order of writing.
_TABLE: Final = "CREATE TABLE IF NOT EXISTS vectors (number INTEGER PRIMARY KEY, hash TEXT UNIQUE NOT NULL, vector BLOB NOT NULL)"
_MIB: Final = 1024 * 1024


class KnownVectors:
    """The vectors `(dim,)` of one release by content hash; the oldest go once the file is full. Safe in several processes.

    Args:
        folder: of the files.
        release: the id of the release; it decides space, format and contract.
        dimension: of its vectors.
        max_bytes: of the file, about.
    """

    def __init__(self, folder: Path, release: str, dimension: int, max_bytes: int) -> None:
        self._folder = folder
        self._release = release
        self._dimension = dimension
        self._most = max(1, max_bytes // (4 * dimension + _ROW_BYTES))
        # None: not to be used any more.
        self._file: Path | None = folder / f"{release}.sqlite"

    @classmethod
    def of(cls, settings: Settings, release: Release, max_mib: int) -> "KnownVectors | None":
        """Return those of a release under home; None where they are turned off (0 MiB)."""
        if max_mib == 0:
            return None
        return cls(settings.home / _FOLDER, release.info.release, release.info.dimension, max_mib * _MIB)

    @classmethod
    def drop(cls, settings: Settings, release: str) -> None:
        """Remove those of a release that is retired."""
        cls(settings.home / _FOLDER, release, 1, 1).forget()

    def follow(self, erasures: str) -> None:
        """Forget everything when the list of erased documents has changed: a text can be guessed from its vector.

        Args:
            erasures: the fingerprint of the list; empty for an empty one.
        """
        if self._file is None:
            return
        wanted = self._folder / f"{self._release}{f'-{erasures[:16]}' if erasures else ''}.sqlite"
        self._file = wanted
        for file in self._files():
            # Its journal stays too: another thread may be writing.
            if not file.name.startswith(wanted.name):
                file.unlink(missing_ok=True)

    def forget(self) -> None:
        """Forget everything, such as before a collection is built from nothing."""
        for file in self._files():
            file.unlink(missing_ok=True)

    def read(self, hashes: Sequence[str]) -> dict[str, Vector]:
        """Return the vectors that are known, by content hash."""
        found: dict[str, Vector] = {}
        with self._opened() as database:
            if database is None:
                return {}
            for start in range(0, len(hashes), _LOOKUP_BLOCK):
                block = hashes[start : start + _LOOKUP_BLOCK]
                marks = ",".join("?" * len(block))
                rows = database.execute(f"SELECT hash, vector FROM vectors WHERE hash IN ({marks})", block)  # noqa: S608
                found |= {content_hash: self._unpacked(content_hash, packed) for content_hash, packed in rows}
            return found
        return {}

    def write(self, vectors: Iterable[tuple[str, Vector]]) -> None:
        """Keep vectors, and drop the oldest beyond the bound."""
        with self._opened() as database:
            if database is None:
                return
            with database:
                database.executemany(
                    "INSERT OR IGNORE INTO vectors (hash, vector) VALUES (?, ?)", ((of, _packed(of, v)) for of, v in vectors)
                )
                database.execute("DELETE FROM vectors WHERE number <= (SELECT max(number) FROM vectors) - ?", (self._most,))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection | None]:
        """Open the file for one call, since calls come from several threads; give None, or end the block, if it is unusable."""
        # Another thread may set it to None meanwhile.
        file = self._file
        if file is None:
            yield None
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(file, timeout=10)) as database:
                # No order on disk is needed: a file that a power cut damaged is found out by its checksums, and left.
                database.execute("PRAGMA synchronous = OFF")
                database.execute(_TABLE)
                yield database
        except (sqlite3.Error, OSError) as exc:
            _log.warning("known_vectors_lost", extra={"file": str(file), "error": str(exc)})
            self._file = None

    def _files(self) -> list[Path]:
        return [*self._folder.glob(f"{self._release}.sqlite*"), *self._folder.glob(f"{self._release}-*.sqlite*")]

    def _unpacked(self, content_hash: str, packed: bytes) -> Vector:
        vector, checksum = packed[:-_CRC_BYTES], packed[-_CRC_BYTES:]
        if len(vector) != 4 * self._dimension or _checksum(content_hash, vector) != checksum:
            raise sqlite3.DatabaseError(f"the row of {content_hash} is damaged: remove the file")
        return np.frombuffer(vector, dtype="<f4").astype(np.float32)


def _packed(content_hash: str, vector: Vector) -> bytes:
    raw = vector.astype("<f4").tobytes()
    return raw + _checksum(content_hash, raw)


def _checksum(content_hash: str, raw: bytes) -> bytes:
    return crc32(raw, crc32(content_hash.encode())).to_bytes(_CRC_BYTES, "little")
