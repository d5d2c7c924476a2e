"""Clusters of near-duplicates from MinHash values.

Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3. The values come from Daft, in native code; the rest is too little for a library.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# A bucket this full is boilerplate (a licence, a template): its members are compared with its first ones only.
_FULL_BUCKET = 512
_PAIRS_AT_ONCE = 4_096


class Groups:
    """Disjoint sets of numbers 0..n-1; a set is named by its smallest member."""

    def __init__(self, size: int) -> None:
        self._parents: NDArray[np.int64] = np.arange(size)

    def find(self, member: int) -> int:
        """Return the smallest member of the set."""
        parents = self._parents
        while (parent := int(parents[member])) != member:
            parents[member] = parents[parent]
            member = int(parents[member])
        return member

    def join(self, one: int, other: int) -> None:
        """Make two sets one."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parents[high] = low

    def names(self) -> NDArray[np.int64]:
        """Return the smallest member of each number's set."""
        # A parent is never larger than its child, so a few jumps reach every root.
        while not np.array_equal(found := self._parents[self._parents], self._parents):
            self._parents = found
        return self._parents


class Signed(Protocol):
    """Documents by number, with their MinHash values."""

    count: int

    def band(self, number: int) -> NDArray[np.uint64]:
        """Return the hash of one band of every document."""
        ...

    def rows(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the MinHash values of some documents, (documents, hashes)."""
        ...


def near_duplicates(documents: Signed, bands: int, similarity: float) -> NDArray[np.int64]:
    """Return, per document, the number of the first document of its cluster.

    Args:
        documents: two with equal MinHash values count as equal.
        bands: documents that agree on all values of one of so many bands are compared.
        similarity: share of agreeing values, an estimate of Jaccard similarity, from which two documents are joined.
    """
    groups = Groups(documents.count)
    for band in range(bands):
        for pairs in _candidates(documents.band(band), groups.names()):
            names = groups.names()
            _join_similar(groups, documents, pairs[names[pairs[:, 0]] != names[pairs[:, 1]]], similarity)
    return groups.names()


def _candidates(values: NDArray[np.uint64], names: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield pairs of documents that share a value, many at a time; in a full bucket, pairs with one of its first members.

    Args:
        values: by document.
        names: by document, of its set so far; a bucket within one set gives no pairs.
    """
    # The caller scans all documents for each batch, so a batch holds at least as many pairs.
    enough = max(_PAIRS_AT_ONCE, len(values))
    held, count = list[NDArray[np.int64]](), 0
    for pairs in _pieces(values, names):
        held.append(pairs)
        count += len(pairs)
        if count >= enough:
            yield np.concatenate(held)
            held, count = [], 0
    if held:
        yield np.concatenate(held)


def _pieces(values: NDArray[np.uint64], names: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    if not len(values):
        return
    order = np.argsort(values, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])
    sizes = np.diff(np.r_[begins, len(values)])
    own = names[order]
    is_open = np.minimum.reduceat(own, begins) != np.maximum.reduceat(own, begins)
    # All neighbours first, then all pairs two apart, and so on: the largest small bucket sets the number of steps.
    is_small = is_open & (sizes <= _FULL_BUCKET)
    after = np.repeat(np.where(is_small, sizes, 0), sizes) - (np.arange(len(values)) - np.repeat(begins, sizes)) - 1
    ones, distance = np.flatnonzero(after > 0), 0
    while len(ones):
        distance += 1
        yield np.stack([order[ones], order[ones + distance]], axis=1)
        ones = ones[after[ones] > distance]
    # A full bucket takes one step for each of its first members.
    is_full = is_open & (sizes > _FULL_BUCKET)
    for begin, size in zip(begins[is_full], sizes[is_full], strict=True):
        bucket = order[begin : begin + size]
        for place in range(_FULL_BUCKET - 1):
            others = bucket[place + 1 :]
            yield np.stack([np.full(len(others), bucket[place]), others], axis=1)


def _join_similar(groups: Groups, documents: Signed, pairs: NDArray[np.int64], similarity: float) -> None:
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = pairs[start : start + _PAIRS_AT_ONCE]
        rows, places = np.unique(some, return_inverse=True)
        values, places = documents.rows(rows), places.reshape(some.shape)
        agreement = (values[places[:, 0]] == values[places[:, 1]]).mean(axis=1)
        for one, other in some[agreement >= similarity]:
            groups.join(int(one), int(other))
