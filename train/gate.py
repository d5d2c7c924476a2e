"""The gate after an evaluation: a pure function of the numbers. A refusal is written down, never raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from contract.canonical import JSON
from scoring.metrics import Interval

GATE_METRIC = "ndcg_at_10"


@dataclass(frozen=True)
class Verdict:
    """Whether the encoder may be released, why, and the numbers that say so."""

    accepted: bool
    reasons: list[str]
    numbers: dict[str, JSON] = field(default_factory=dict)


def judge(
    tuned: Mapping[str, float], base: Mapping[str, float], difference: Interval, *, margin: float, confidence: float, queries: int
) -> Verdict:
    """Accept the encoder unless it may be worse than its base model by more than the margin.

    Args:
        tuned, base: metric -> mean over the held-out queries.
        difference: tuned - base in nDCG@10, paired, with its interval at `confidence`.
        margin: how much worse the lower end of the interval may be.
    """
    numbers: dict[str, JSON] = {
        "metric": GATE_METRIC,
        "queries": queries,
        "tuned": tuned[GATE_METRIC],
        "base": base[GATE_METRIC],
        "difference": asdict(difference),
        "confidence": confidence,
        "margin": margin,
    }
    measured = (
        f"{GATE_METRIC} {tuned[GATE_METRIC]:.4f} against {base[GATE_METRIC]:.4f} of the base model on {queries} held-out "
        f"queries: difference {difference.mean:+.4f}, {confidence:.0%} interval {difference.low:+.4f} to {difference.high:+.4f}"
    )
    # An encoder that was not tuned equals its base exactly, and passes a margin of 0.
    if difference.low > -margin or difference.low == difference.high == 0:
        return Verdict(True, [f"{measured}; not worse by more than the margin {margin}"], numbers)
    remedy = "train on more pairs or with a lower learning rate, hold out more queries, or state a wider evaluate.margin"
    return Verdict(False, [f"{measured}; may be worse by more than the margin {margin}: {remedy}"], numbers)
