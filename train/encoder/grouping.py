"""Batches of pairs of similar length, because every token of padding is computed for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers.base.sampler import DefaultBatchSampler

# Lengths are sorted within this many batches of the shuffled order. A larger window would save little padding and put the same
# pairs together in every epoch.
WINDOW_BATCHES = 16


class LengthGroupedBatchSampler(DefaultBatchSampler):
    """Draws each epoch's batches by `grouped_batches`; only epoch and seed decide them."""

    def __init__(self, dataset: Dataset, counts: NDArray[np.int32], batch_size: int, *, drop_last: bool, seed: int) -> None:
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, seed=seed)
        self._counts = counts
        self._texts = _numbered([dataset[name] for name in dataset.column_names])

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the current epoch. A resumed run sets its epoch and skips the finished batches."""
        random = np.random.default_rng([self.seed, self.epoch])
        batches = grouped_batches(self._counts, self._texts, self.batch_size, random)
        if self.drop_last:
            batches = [batch for batch in batches if len(batch) == self.batch_size]
        # The trainer expects a fixed number. Repeated texts can give more, and the short batches come last.
        yield from batches[: len(self)]

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        rows = len(self._counts)
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)


def grouped_batches(
    counts: NDArray[np.int32], texts: NDArray[np.int64], batch_size: int, random: np.random.Generator
) -> list[list[int]]:
    """Return batches of row numbers: every row once, no text twice in a batch, full batches first, in random order.

    Args:
        counts: tokens of each pair's texts, `(n, sides)`. The last side has most padding, so it is the first sort key.
        texts: a number for each text, `(n, sides)`; equal texts have equal numbers.
    """
    order = random.permutation(len(counts))
    window = WINDOW_BATCHES * batch_size
    for start in range(0, len(order), window):
        part = order[start : start + window]
        order[start : start + window] = part[np.lexsort(counts[part].T)]
    batches = _without_repeats(order, texts, batch_size)
    full = [batch for batch in batches if len(batch) == batch_size]
    # Sorted by length the batches would be a curriculum: short texts first in every window.
    shuffled = [full[place] for place in random.permutation(len(full))]
    return shuffled + [batch for batch in batches if len(batch) < batch_size]


def _without_repeats(order: NDArray[np.int64], texts: NDArray[np.int64], batch_size: int) -> list[list[int]]:
    """Cut an order into batches; a row whose text is already in the batch waits for the next batch."""
    batches: list[list[int]] = []
    # Waiting rows are tried first in every new batch.
    waiting: list[int] = []
    rest = iter(order.tolist())
    while True:
        batch: list[int] = []
        seen: set[int] = set()
        again: list[int] = []
        for row in _chain(waiting, rest):
            own = set(texts[row].tolist())
            if seen & own:
                again.append(row)
                continue
            batch.append(row)
            seen |= own
            if len(batch) == batch_size:
                break
        if not batch:
            return batches
        batches.append(batch)
        waiting = again + waiting


def _chain(waiting: list[int], rest: Iterator[int]) -> Iterator[int]:
    """Yield the waiting rows, each removed from its list, then the rest."""
    while waiting:
        yield waiting.pop(0)
    yield from rest


def _numbered(columns: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.array([[numbers.setdefault(text, len(numbers)) for text in row] for row in zip(*columns, strict=True)], np.int64)
