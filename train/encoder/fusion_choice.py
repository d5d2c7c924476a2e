"""The choice of the fusion: on one half of the held-out queries, checked on the other, with `dense` as a legal outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from train.encoder.gate import GATE_METRIC, difference
from train.encoder.params import EvaluateParams
from twinline.contract.canonical import JSON
from twinline.contract.release.checks import Check
from twinline.contract.release.verdict import FUSION
from twinline.contract.sparse.fusion import Fusion
from twinline.scoring.hybrid import Chunks, Queries, best_chunks_by_fusions, run_of
from twinline.scoring.retrieval import Judgements, score_queries

# Tried in this order; of equally good ones the first is taken.
CANDIDATES: Final = (
    *(Fusion("scores", dense_percent=percent) for percent in (50, 40, 60, 30, 70, 20)),
    *(Fusion("ranks", k=k) for k in (60, 10)),
)


@dataclass(frozen=True)
class Choice:
    """The fusion for the release, the reason, and each query's documents, best first, with the row of their best chunk."""

    fusion: Fusion
    check: Check
    found: Mapping[str, Mapping[str, int]]


def choose_fusion(
    queries: Queries, chunks: Chunks, dense: Mapping[str, float], judgements: Judgements, params: EvaluateParams
) -> Choice:
    """Choose by nDCG@10 on the first half of the queries; the second half must gain, and surely lose less than the margin.

    Args:
        dense: nDCG@10 of each query by vectors alone.
    """
    by_label = {fusion.label: fusion for fusion in CANDIDATES}
    default, alone = Fusion(), Fusion("dense")
    listed = best_chunks_by_fusions(queries, chunks, {**by_label, alone.label: alone})
    scores = {label: score_queries(run_of(listed[label]), judgements) for label in by_label}
    if len(queries.ids) < params.min_queries:
        said = (
            f"{default.label} by default: {len(queries.ids)} held-out queries, fewer than {params.min_queries}, are too few to "
            "choose by; add questions with their documents (`twinline questions add`)"
        )
        return Choice(default, Check(FUSION, True, said, {"fusion": default.to_json()}), listed[default.label])
    first = [query for query in queries.ids if _is_in_first_half(query)]
    second = [query for query in queries.ids if not _is_in_first_half(query)]
    found = {label: _mean(values[GATE_METRIC], first) for label, values in scores.items()}
    best = max(found, key=lambda label: found[label])
    interval = difference(
        {query: scores[best][GATE_METRIC][query] for query in second}, {query: dense[query] for query in second}, params
    )
    numbers: dict[str, JSON] = {
        "first_half": {**found, "dense": _mean(dense, first)},
        "second_half": {best: _mean(scores[best][GATE_METRIC], second), "dense": _mean(dense, second)},
        "difference": asdict(interval),
        "queries": [len(first), len(second)],
    }
    said = (
        f"{best} is best on {len(first)} queries ({GATE_METRIC} {found[best]:.4f}, vectors alone {_mean(dense, first):.4f}); on "
        f"the other {len(second)} its difference from vectors alone is {interval.mean:+.4f}, interval {interval.low:+.4f} to "
        f"{interval.high:+.4f}"
    )
    if interval.mean > 0 and interval.low > -params.margin:
        return Choice(by_label[best], Check(FUSION, True, said, {"fusion": by_label[best].to_json(), **numbers}), listed[best])
    told = f"{said}: vectors alone are served, words when asked for"
    return Choice(alone, Check(FUSION, True, told, {"fusion": alone.to_json(), **numbers}), listed[alone.label])


def _is_in_first_half(query: str) -> bool:
    return hashlib.sha256(query.encode()).digest()[0] % 2 == 0


def _mean(values: Mapping[str, float], queries: list[str]) -> float:
    return sum(values[query] for query in queries) / max(len(queries), 1)
