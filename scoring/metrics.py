"""nDCG@10, MRR@10 and recall@100 as trec_eval computes them, and the paired bootstrap that compares two encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

METRICS: Final = ("ndcg_at_10", "mrr_at_10", "recall_at_100")

Run = Mapping[str, Mapping[str, float]]
"""query id -> document id -> score"""
Judgements = Mapping[str, Mapping[str, int]]
"""query id -> document id -> grade"""
PerQuery = dict[str, dict[str, float]]
"""metric -> query id -> value"""


@dataclass(frozen=True)
class Interval:
    """A mean difference with its bootstrap confidence interval."""

    mean: float
    low: float
    high: float


def trec_order(scores: Mapping[str, float]) -> list[str]:
    """Return document ids best first; equal scores by id, descending, as trec_eval does."""
    by_id_descending = sorted(scores, reverse=True)
    return sorted(by_id_descending, key=lambda document: -scores[document])


def score_queries(run: Run, judgements: Judgements) -> PerQuery:
    """Score every judged query. A judged query for which the run has no answer scores 0; it is never left out."""
    import pytrec_eval

    graded = {query: {d: int(g) for d, g in grades.items()} for query, grades in judgements.items()}
    answered = {query: {d: float(s) for d, s in run[query].items()} for query in graded if run.get(query)}
    # trec_eval's reciprocal rank has no cut-off: a run that ends after ten documents gives MRR@10.
    first_ten = {query: {d: scores[d] for d in trec_order(scores)[:10]} for query, scores in answered.items()}
    deep = pytrec_eval.RelevanceEvaluator(graded, {"ndcg_cut_10", "recall_100"}).evaluate(answered)
    shallow = pytrec_eval.RelevanceEvaluator(graded, {"recip_rank"}).evaluate(first_ten)
    return {
        "ndcg_at_10": {query: deep.get(query, {}).get("ndcg_cut_10", 0.0) for query in graded},
        "mrr_at_10": {query: shallow.get(query, {}).get("recip_rank", 0.0) for query in graded},
        "recall_at_100": {query: deep.get(query, {}).get("recall_100", 0.0) for query in graded},
    }


def means(values: PerQuery) -> dict[str, float]:
    """Return the mean of each metric over its queries."""
    return {metric: float(np.mean(list(per_query.values()))) for metric, per_query in values.items()}


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
        samples: how many times the queries are drawn again, with replacement.
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
