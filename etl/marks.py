"""Rows by hash: 128 bits a row in two sorted columns of numbers, 24 bytes a row and no Python object."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MARK_BYTES = 16


class Marks:
    """Rows by mark; where several rows have one mark, any of them is found."""

    def __init__(self, marks: NDArray[np.uint64]) -> None:
        self._order = np.argsort(marks[:, 0], kind="stable")
        self._sorted = marks[self._order]

    def rows(self, marks: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each mark, -1 for an unknown one."""
        if not len(self._order):
            return np.full(len(marks), -1, np.int64)
        places = np.minimum(np.searchsorted(self._sorted[:, 0], marks[:, 0]), len(self._order) - 1)
        # The second half decides; of two rows that share the first half alone, one may count as unknown.
        found: NDArray[np.int64] = np.where((self._sorted[places] == marks).all(axis=1), self._order[places], -1)
        return found


def marks_of_bytes(marks: Iterable[bytes]) -> NDArray[np.uint64]:
    """Return marks, each of `MARK_BYTES` bytes, as numbers."""
    return np.frombuffer(b"".join(marks), dtype=np.uint64).reshape(-1, 2)


def marks_of_hashes(hashes: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return the first half of SHA-256 hashes in hexadecimal digits."""
    raw = bytes.fromhex("".join(hashes.to_pylist()))
    return np.ascontiguousarray(np.frombuffer(raw, dtype=np.uint64).reshape(-1, 4)[:, :2])
