"""Clusters of near-duplicates from MinHash values: pure, on arrays.

Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3. The values come from Daft, in native code; what is left is too little for a library.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# A bucket this full is boilerplate (a licence, a template): its members are compared with its first ones only.
_FULL_BUCKET = 512


class Groups:
    """Disjoint sets of numbers 0..n-1; a set is named by its smallest member."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def find(self, member: int) -> int:
        """Return the smallest member of the set."""
        while (parent := self._parents[member]) != member:
            self._parents[member] = self._parents[parent]
            member = self._parents[member]
        return member

    def join(self, one: int, other: int) -> None:
        """Make two sets one."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parents[high] = low

    def names(self) -> list[int]:
        """Return the smallest member of each number's set."""
        return [self.find(member) for member in range(len(self._parents))]


def cluster_near_duplicates(signatures: NDArray[np.uint32], bands: int, similarity: float) -> list[int]:
    """Return, per row, the number of the first row of its cluster.

    Args:
        signatures: MinHash values, (documents, hashes); equal rows are equal documents as far as this can tell.
        bands: rows that agree on all values of one of so many bands are compared.
        similarity: share of agreeing values, an estimate of Jaccard similarity, from which two rows are joined.
    """
    count, hashes = signatures.shape
    groups = Groups(count)
    width = hashes // bands
    for band in range(bands):
        values = np.ascontiguousarray(signatures[:, band * width : (band + 1) * width])
        for bucket in _buckets(values):
            _join_similar(groups, signatures, bucket, similarity)
    return groups.names()


def _buckets(values: NDArray[np.uint32]) -> Iterable[list[int]]:
    """Yield the rows, in order, of each value that several rows have."""
    order = np.lexsort(values.T)
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)]) if len(values) else np.empty(0, np.intp)
    ends = np.r_[starts[1:], len(values)]
    return (order[start:end].tolist() for start, end in zip(starts, ends, strict=True) if end - start > 1)


def _join_similar(groups: Groups, signatures: NDArray[np.uint32], bucket: list[int], similarity: float) -> None:
    rows = np.array(bucket)
    for position, row in enumerate(bucket[: _FULL_BUCKET - 1]):
        others = rows[position + 1 :]
        if all(groups.find(int(other)) == groups.find(row) for other in others):
            continue
        agreement = (signatures[others] == signatures[row]).mean(axis=1)
        for other in others[agreement >= similarity]:
            groups.join(row, int(other))
