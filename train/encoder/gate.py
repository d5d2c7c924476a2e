"""The gate's conditions on quality: pure functions of the numbers. A refusal is written down, never raised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from train.encoder.params import EvaluateParams
from twinline.contract.canonical import JSON
from twinline.contract.release.checks import Check
from twinline.contract.release.verdict import (
    BETTER_THAN_BASE,
    ENOUGH_QUESTIONS,
    EXACT_NAMES,
    GUARDED_SLICES,
    NOT_WORSE_THAN_CHAMPION,
    TRAINED_AS_SERVED,
)
from twinline.contract.sparse.fusion import Fusion
from twinline.scoring.exact_names import Form, Planted, not_first, shares_first
from twinline.scoring.intervals import Interval, paired_bootstrap
from twinline.scoring.retrieval import Run

GATE_METRIC = "ndcg_at_10"
# Queries that a check names.
_SHOWN = 10

Scores = Mapping[str, float]
"""query id -> value of the gate's metric"""


@dataclass(frozen=True)
class Reference:
    """A contender's scores, and its name in the verdict."""

    name: str
    scores: Scores


def judge_base(tuned: Scores, references: Sequence[Reference], params: EvaluateParams) -> Check:
    """Accept an encoder that loses at most the margin to its base model, under every contract that was tried."""
    return _judge(BETTER_THAN_BASE, tuned, references, params)


def judge_champion(tuned: Scores, champion: Reference | None, params: EvaluateParams) -> Check:
    """Accept an encoder that loses at most the margin to the release in production."""
    if champion is None:
        said = "encoder.evaluate.champion is empty: no release is in production, so there is none to compare with"
        return Check(NOT_WORSE_THAN_CHAMPION, True, said, {"champion": None})
    return _judge(NOT_WORSE_THAN_CHAMPION, tuned, [champion], params)


def judge_slices(
    tuned: Scores, references: Sequence[Reference], slices: Mapping[str, Sequence[str]], params: EvaluateParams
) -> Check:
    """Accept an encoder that loses at most the margin on every guarded slice; a slice of too few queries is only reported."""
    few = {name: len(queries) for name, queries in slices.items() if len(queries) < params.slice_min_queries}
    rows: list[dict[str, JSON]] = []
    refused: list[str] = []
    lines: list[tuple[float, str]] = []
    for name, queries in slices.items():
        if name in few:
            continue
        own = {query: tuned[query] for query in queries}
        for reference in references:
            other = {query: reference.scores[query] for query in queries}
            found = difference(own, other, params)
            held = _holds(found, params.slice_margin)
            rows.append(
                _numbers(own, reference.name, other, found, params.slice_margin, params) | {"slice": name, "passed": held}
            )
            line = f"{name} ({len(queries)}), against {reference.name} {_interval(found, params)}"
            lines.append((found.low, line))
            if not held:
                refused.append(line)
    too_few = "; ".join(f"{name} ({count})" for name, count in few.items())
    unjudged = f"; fewer than {params.slice_min_queries} queries, too few to judge: {too_few}" if few else ""
    numbers: dict[str, JSON] = {"slices": [*rows], "too_few_to_judge": dict(few), "margin": params.slice_margin}
    if not rows:
        return Check(GUARDED_SLICES, True, f"no slice could be judged{unjudged}", numbers)
    if refused:
        where = "; ".join(refused)
        said = f"may be worse by more than the margin {params.slice_margin} on {where}{unjudged}: train on more pairs like these"
        return Check(GUARDED_SLICES, False, said, numbers)
    judged = len(slices) - len(few)
    said = f"{judged} slices, none worse by more than the margin {params.slice_margin}; nearest to it: {min(lines)[1]}{unjudged}"
    return Check(GUARDED_SLICES, True, said, numbers)


def judge_questions(queries: int, in_split: int, params: EvaluateParams) -> Check:
    """Say whether the queries are enough to measure a difference; see docs/decisions/undecided.md for the number."""
    numbers: dict[str, JSON] = {"queries": queries, "queries_in_split": in_split, "min_queries": params.min_queries}
    if queries >= params.min_queries:
        return Check(ENOUGH_QUESTIONS, True, f"{queries} held-out queries, at least {params.min_queries}", numbers)
    said = (
        f"{queries} held-out queries, fewer than {params.min_queries}: too few to tell better from worse. Add questions with "
        "their documents (`twinline questions add`), or more documents, and train again; or accept it by name "
        "(`twinline release register EXPERIMENT --allow-undecided NAME`)"
    )
    return Check(ENOUGH_QUESTIONS, False, said, numbers)


def judge_exact_names(planted: Planted, runs: Mapping[str, Run], fusion: Fusion, params: EvaluateParams) -> Check:
    """Accept a fusion that finds names and codes first; vectors alone are a legal choice, so they refuse nothing.

    Args:
        runs: of each mode, over the planted queries; `hybrid` is by the default fusion where `fusion` is of vectors alone.
    """
    shares = {mode: shares_first(planted.queries, run) for mode, run in runs.items()}
    least: dict[Form, float] = {"bare": params.exact_names_bare, "in a sentence": params.exact_names_in_sentence}
    numbers: dict[str, JSON] = {
        "names": planted.names,
        "queries": len(planted.queries),
        "fusion": fusion.label,
        "first": {mode: {str(form): share for form, share in by_form.items()} for mode, by_form in shares.items()},
        "least": {str(form): share for form, share in least.items()},
    }
    if not planted.queries:
        said = f"{planted.names} names or codes are one document's alone, fewer than {params.exact_names_min}: too few to judge"
        return Check(EXACT_NAMES, True, said, numbers)
    missed = not_first(planted.queries, runs["hybrid"])
    numbers["missed"] = [*missed[:_SHOWN]]
    said = f"{len(planted.queries)} planted queries, right answer first: {_listed(shares['hybrid'])}"
    if fusion.rule == "dense":
        told = (
            f"vectors alone are served, which refuses nothing; {said} by {Fusion().label}, {_listed(shares['dense'])} by vectors"
        )
        return Check(EXACT_NAMES, True, told, numbers)
    if all(share >= least[form] for form, share in shares["hybrid"].items()):
        return Check(EXACT_NAMES, True, f"{said} by {fusion.label}", numbers)
    remedy = f"ask for one of them in mode `words`, such as {missed[0]!r}: the analyzer or the statistics have lost it"
    return Check(EXACT_NAMES, False, f"{said} by {fusion.label}, wanted {_listed(least)}: {remedy}", numbers)


def state_training(deviations: Sequence[str]) -> Check:
    """Name where training differed from serving. By a person's choice, so it refuses nothing; skew and manifest name it too."""
    said = f"named deviation: {'; '.join(deviations)}" if deviations else "texts were trained on as they are served"
    return Check(TRAINED_AS_SERVED, True, said, {"deviations": list(deviations)})


def difference(tuned: Scores, other: Scores, params: EvaluateParams) -> Interval:
    """Return the paired difference tuned - other over the same queries, with its interval."""
    return paired_bootstrap(tuned, other, samples=params.bootstrap_samples, confidence=params.confidence, seed=params.seed)


def _judge(name: str, tuned: Scores, references: Sequence[Reference], params: EvaluateParams) -> Check:
    compared = [(reference, difference(tuned, reference.scores, params)) for reference in references]
    passed = all(_holds(found, params.margin) for _, found in compared)
    measured = "; ".join(
        f"{GATE_METRIC} {_mean(tuned):.4f} against {_mean(reference.scores):.4f} of {reference.name} on {len(tuned)} held-out "
        f"queries: {_interval(found, params)}"
        for reference, found in compared
    )
    numbers: dict[str, JSON] = {
        "comparisons": [_numbers(tuned, r.name, r.scores, found, params.margin, params) for r, found in compared]
    }
    if passed:
        return Check(name, True, f"{measured}; not worse by more than the margin {params.margin}", numbers)
    remedy = "train on more pairs or with a lower learning rate, hold out more queries, or state a wider evaluate.margin"
    return Check(name, False, f"{measured}; may be worse by more than the margin {params.margin}: {remedy}", numbers)


def _holds(found: Interval, margin: float) -> bool:
    # An encoder equal to its reference passes a margin of 0.
    return found.low > -margin or found.low == found.high == 0


def _interval(found: Interval, params: EvaluateParams) -> str:
    return f"difference {found.mean:+.4f}, {params.confidence:.0%} interval {found.low:+.4f} to {found.high:+.4f}"


def _numbers(tuned: Scores, name: str, other: Scores, found: Interval, margin: float, params: EvaluateParams) -> dict[str, JSON]:
    return {
        "against": name,
        "metric": GATE_METRIC,
        "queries": len(tuned),
        "tuned": _mean(tuned),
        "reference": _mean(other),
        "difference": asdict(found),
        "confidence": params.confidence,
        "margin": margin,
    }


def _listed(shares: Mapping[Form, float]) -> str:
    return ", ".join(f"{share:.1%} {form}" for form, share in shares.items())


def _mean(scores: Scores) -> float:
    return sum(scores.values()) / len(scores)
