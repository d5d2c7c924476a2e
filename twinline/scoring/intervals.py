"""The paired bootstrap: the mean difference of two rankings on the same queries, with an interval.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), percentile interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean difference with its bootstrap confidence interval."""

    mean: float
    low: float
    high: float

    def is_within(self, margin: float) -> bool:
        """Say whether the candidate is surely not worse by more than `margin`; equal answers are within any, also one of 0."""
        return self.low > -margin or self.low == self.high == 0


def paired_bootstrap(
    candidate: Mapping[str, float],
    reference: Mapping[str, float],
    *,
    samples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return mean(candidate - reference) over the same queries, with a percentile interval.

    Args:
        candidate, reference: query id -> value of one metric; both must hold the same queries.
        samples: number of resamples of the queries, with replacement.
    """
    if set(candidate) != set(reference):
        raise ValueError(f"not paired: {len(candidate)} and {len(reference)} queries, not the same ones")
    queries = sorted(candidate)
    difference = np.array([candidate[query] - reference[query] for query in queries])
    generator = np.random.default_rng(seed)
    # Counts per query instead of drawn indices: one matrix product gives every resampled mean.
    counts = generator.multinomial(len(queries), np.full(len(queries), 1 / len(queries)), size=samples)
    resampled = counts @ difference / len(queries)
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(mean=float(difference.mean()), low=float(low), high=float(high))
