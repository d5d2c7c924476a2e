"""The report of retrieval quality: a row for each encoder, contract, mode and split, the best of them, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.offline import MODES, Ranked
from bench.queries import Questions
from twinline.contract.canonical import JSON
from twinline.contract.release.manifest import Manifest
from twinline.scoring.grouping import ScoredGroups
from twinline.scoring.intervals import paired_bootstrap
from twinline.scoring.retrieval import METRICS, PerQuery, Run, means, score_queries

METRIC = "ndcg_at_10"
Which = tuple[str, str]
"""An encoder and a contract."""


@dataclass(frozen=True)
class Answers:
    """The answers of all releases, by encoder and contract; `live` is empty without a live run."""

    questions: Mapping[str, Questions]
    manifests: Mapping[Which, Manifest]
    offline: Mapping[Which, Ranked]
    live: Mapping[Which, Mapping[str, Mapping[str, Run]]] = field(default_factory=dict)

    @property
    def measured(self) -> str:
        """Return the kind of run that comparisons rest on."""
        return "live" if self.live else "offline"

    def runs(self, which: Which) -> Mapping[str, Mapping[str, Run]]:
        """Return mode -> split -> run, of that kind."""
        return self.live[which] if self.live else self.offline[which].runs


def rows(answers: Answers) -> list[dict[str, Any]]:
    """Return one row for each encoder, contract, mode and split."""
    return [_row(answers, which, mode, split) for which in answers.manifests for mode in MODES for split in answers.questions]


def best(found: Sequence[Mapping[str, Any]], measured: str) -> dict[str, JSON]:
    """Return encoder, contract and mode of the best row of the first split: values of several splits cannot be compared."""
    first = found[0]["split"]
    value = f"{measured}_ndcg10"
    row = max((row for row in found if row["split"] == first), key=lambda row: float(row[value]))
    return {name: row[name] for name in ("encoder", "contract", "mode", "split", value)}


def comparisons(answers: Answers) -> dict[str, JSON]:
    """Return paired differences, query by query.

    Between encoders under each contract, and from each contract to the first, by vectors alone; and from vectors alone to words
    and to both.
    """
    scored: dict[tuple[str, str, str], dict[str, PerQuery]] = {
        (*which, mode): {
            split: score_queries(answers.runs(which)[mode][split], asked.judgements) for split, asked in answers.questions.items()
        }
        for which in answers.manifests
        for mode in MODES
    }

    def row(
        candidate: Which, reference: Which, split: str, modes: tuple[str, str] = ("dense", "dense"), **about: JSON
    ) -> dict[str, JSON]:
        difference = paired_bootstrap(scored[*candidate, modes[0]][split][METRIC], scored[*reference, modes[1]][split][METRIC])
        return {**about, "split": split, "measured": answers.measured, **asdict(difference)}

    encoders = list(dict.fromkeys(encoder for encoder, _ in answers.manifests))
    contracts = list(dict.fromkeys(contract for _, contract in answers.manifests))
    tuned: list[JSON] = [
        row(("tuned", contract), ("base", contract), split, contract=contract)
        for contract in contracts
        if set(encoders) == {"base", "tuned"}
        for split in answers.questions
    ]
    first, *others = contracts
    to_first: list[JSON] = [
        row((encoder, contract), (encoder, first), split, encoder=encoder, contract=contract)
        for encoder in encoders
        for contract in others
        for split in answers.questions
    ]
    modes: list[JSON] = [
        row(which, which, split, (mode, "dense"), encoder=which[0], contract=which[1], mode=mode)
        for which in answers.manifests
        for mode in ("words", "hybrid")
        for split in answers.questions
    ]
    return {"tuned_minus_base": tuned, "minus_first_contract": to_first, "minus_dense": modes}


def _row(answers: Answers, which: Which, mode: str, split: str) -> dict[str, Any]:
    asked, manifest = answers.questions[split], answers.manifests[which]
    row: dict[str, Any] = {
        "encoder": which[0],
        "contract": which[1],
        "mode": mode,
        "split": split,
        "queries": len(asked.texts),
        "release": manifest.release,
        "space": manifest.space,
        "served_format": manifest.serving.format,
    }
    scores = {"offline": score_queries(answers.offline[which].runs[mode][split], asked.judgements)}
    if answers.live:
        scores["live"] = score_queries(answers.live[which][mode][split], asked.judgements)
    for kind, values in scores.items():
        row[f"{kind}_ndcg10"] = means(values)[METRIC]
        row[f"{kind}_interval"] = _interval(values[METRIC])
        row[kind] = {metric: means(values)[metric] for metric in METRICS}
    if "live" in scores:
        row["live_minus_offline"] = means(scores["live"])[METRIC] - means(scores["offline"])[METRIC]
    row["grouped"] = _grouped(answers.offline[which].grouped[mode][split], scores["offline"][METRIC])
    return row


def _grouped(groups: ScoredGroups, plain: Mapping[str, float]) -> dict[str, JSON]:
    """Return the offline figure with copies listed under their hit, and its difference from the one without groups."""
    found = groups.to_json()
    return {
        "offline_ndcg10": found[METRIC],
        "offline_interval": _interval(groups.judged),
        "minus_ungrouped": asdict(paired_bootstrap(groups.judged, plain)),
        "hits_alone_ndcg10": found[f"{METRIC}_hits_alone"],
        "documents_listed": groups.listed,
    }


def _interval(values: Mapping[str, float]) -> list[JSON]:
    interval = paired_bootstrap(values, dict.fromkeys(values, 0.0))
    return [interval.low, interval.high]
