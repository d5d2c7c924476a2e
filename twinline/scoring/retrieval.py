"""nDCG@10, MRR@10 and recall@100 as trec_eval computes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

METRICS: Final = ("ndcg_at_10", "mrr_at_10", "recall_at_100")

Run = Mapping[str, Mapping[str, float]]
"""query id -> document id -> score"""
Judgements = Mapping[str, Mapping[str, int]]
"""query id -> document id -> grade"""
PerQuery = dict[str, dict[str, float]]
"""metric -> query id -> value"""


def trec_order(scores: Mapping[str, float]) -> list[str]:
    """Return document ids best first; equal scores by id, descending, as trec_eval does."""
    by_id_descending = sorted(scores, reverse=True)
    return sorted(by_id_descending, key=lambda document: -scores[document])


def score_queries(run: Run, judgements: Judgements) -> PerQuery:
    """Score every judged query. A judged query without an answer in the run scores 0; it is never left out."""
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
