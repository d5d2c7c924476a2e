"""MinHash signatures of a corpus on disk: written block by block, read again only where two documents may be alike.

A second file holds the hashes of the bands, band by band, so that memory holds one band of all documents at a time.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

# Odd numbers of 64 bits: two different bands mix to one value once in 2**64.
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


class Signatures:
    """A file of signatures and one of band hashes, under a name of their own.

    Args:
        path: of the signatures; the bands' file lies beside it until this is closed.
        capacity: the largest number of documents.
    """

    def __init__(self, path: Path, capacity: int, hashes: int, bands: int) -> None:
        self.count = 0
        self._capacity, self._hashes, self._bands = capacity, hashes, bands
        self._bands_path = path.with_name(f"{path.name}.bands")
        self._file = path.open("w+b")
        self._bands_file = self._bands_path.open("w+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._bands_file.close()
        self._bands_path.unlink()

    def add(self, signatures: NDArray[np.uint32]) -> None:
        """Write the signatures of the next documents."""
        os.pwrite(self._file.fileno(), signatures.tobytes(), self.count * self._hashes * 4)
        values = band_hashes(signatures, self._bands)
        for band in range(self._bands):
            place = (band * self._capacity + self.count) * 8
            os.pwrite(self._bands_file.fileno(), np.ascontiguousarray(values[:, band]).tobytes(), place)
        self.count += len(signatures)

    def band(self, number: int) -> NDArray[np.uint64]:
        """Return the hash of one band of every document."""
        raw = os.pread(self._bands_file.fileno(), self.count * 8, number * self._capacity * 8)
        return np.frombuffer(raw, np.uint64)

    def rows(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the signatures of some documents."""
        size, file = self._hashes * 4, self._file.fileno()
        raw = b"".join([os.pread(file, size, int(row) * size) for row in rows])
        return np.frombuffer(raw, np.uint32).reshape(-1, self._hashes)


def band_hashes(signatures: NDArray[np.uint32], bands: int) -> NDArray[np.uint64]:
    """Return a hash of the values of each band, (documents, bands)."""
    values = signatures.reshape(len(signatures), bands, -1).astype(np.uint64)
    mixed = np.zeros(values.shape[:2], np.uint64)
    for place in range(values.shape[2]):
        mixed = (mixed ^ values[:, :, place]) * _MIX
        mixed ^= mixed >> _SHIFT
    return mixed
