"""Retrieval quality, offline and live, for base and tuned encoder under each contract, on the same queries in one run.

data set ─> snapshot, pairs ─> tuned encoder (the set's own train split)
for each encoder and contract:  release ─> offline: torch, exact search
                                        └> live: Kafka ─> consumer ─> Triton ─> store ─> search API

Settings are chosen on the development questions. The test splits are scored once, after that.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from bench.live import live_run
from bench.offline import OfflineIndex, Ranked, has_withheld
from bench.passages import is_passages, write_beir
from bench.quality_report import METRIC, Answers, Which, best, comparisons, rows
from bench.queries import read_development, read_questions
from bench.workspace import Workspace, make_workspace, running_stack
from twinline.clients.base_model import DEFAULT_BASE_MODEL
from twinline.clients.code import BASE_RELEASE, code_hashes
from twinline.clients.params import read_params
from twinline.contract.artefacts import ENCODER, PAIRS, TRAIN_PAIRS
from twinline.contract.canonical import JSON, canonical_json, sha256_hex
from twinline.contract.encoder.encoder_record import TRAINING_FILE
from twinline.contract.release.manifest import MANIFEST_FILE, Manifest
from twinline.contract.sparse.fusion import Fusion
from twinline.scoring.grouping import RULE
from twinline.scoring.retrieval import Run

# Chosen on the development split of the training queries; see docs/figures/quality.md.
TUNING: Mapping[str, Any] = {
    "encoder.train.epochs": 2,
    "encoder.train.max_steps": 0,
    "encoder.train.batch_size": 32,
    "encoder.train.mini_batch_size": 16,
    "encoder.train.max_tokens": 128,
    "encoder.train.learning_rate": 4e-5,
}
# All that decides a trained encoder beside its pairs and its parameters.
_TRAINING_CODE: Final = (
    *("train.encoder.fit", "train.encoder.trainer", "train.encoder.trainable", "train.encoder.model", "train.encoder.pairs"),
    *("train.encoder.batches", "train.encoder.grouping", "train.encoder.base_contract", "train.encoder.params"),
    *("train.hardware", "train.weights", "twinline.contract.documents", "twinline.contract.encoder"),
)
# Of training and export.
_PACKAGES: Final = (*("torch", "transformers", "sentence-transformers", "tokenizers"), *("onnx", "onnxscript", "openvino"))


@dataclass(frozen=True)
class QualityRun:
    """The parameters of a run."""

    data: Path
    encoders: tuple[str, ...]
    contracts: tuple[str, ...]
    live: bool


class Parts:
    """The seconds that each part of a run took."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - began

    def to_json(self) -> dict[str, JSON]:
        """Return the seconds of the whole run, and of each part."""
        whole = time.perf_counter() - self._began
        return {"seconds": round(whole, 1), "seconds_by_part": {part: round(took, 1) for part, took in self.seconds.items()}}


def measure_quality(run: QualityRun, workspace_root: Path) -> dict[str, JSON]:
    """Measure, and return one JSON object.

    Args:
        run: the parameters.
        workspace_root: a folder is made below it for each data set; weights and vectors there are reused.
    """
    parts = Parts()
    with parts.timed("data"):
        data, converted = as_beir(run.data, workspace_root)
        workspace = data_workspace(workspace_root, data, TUNING)
        for stage in (("etl", "ingest"), ("etl", "prepare"), ("etl", "pairs")):
            workspace.module(*stage)
    trained: JSON = None
    if "tuned" in run.encoders:
        with parts.timed("train"):
            trained = train_once(workspace)
    development = read_development(workspace.folder)
    questions = {split: read_questions(workspace.folder / "data" / "snapshot", split) for split in test_splits(workspace)}
    with parts.timed("releases"):
        releases = {
            (encoder, contract): _release(workspace, encoder, contract) for encoder in run.encoders for contract in run.contracts
        }
    choices: dict[Which, str] = {}
    offline: dict[Which, Ranked] = {}
    for which, folder in releases.items():
        with parts.timed("corpus"):
            index = OfflineIndex(folder, workspace)
        with parts.timed("choice"):
            fusion, choices[which] = index.choose(development)
            write_own_fusion(folder, fusion)
        with parts.timed("offline"):
            offline[which] = index.rank(questions, fusion)
    live: dict[Which, dict[str, dict[str, Run]]] = {}
    if run.live:
        with parts.timed("live"), running_stack(workspace):
            workspace.module("twinline", "publish", "--source", f"beir:{data}", "--all")
            for which, folder in releases.items():
                live[which] = live_run(folder, workspace, questions)
    answers = Answers(questions, {which: Manifest.load(folder) for which, folder in releases.items()}, offline, live)
    found = rows(answers)
    return {
        "data": str(run.data),
        "metric": METRIC,
        "encoders": [*found],
        "best": best(found, answers.measured),
        "fusions": [
            {"encoder": encoder, "contract": contract, "fusion": _fusion(releases[encoder, contract]), "why": why}
            for (encoder, contract), why in choices.items()
        ],
        **comparisons(answers),
        "splits": converted,
        "settings": {"chosen_on": origin_of_development(workspace.folder), "questions": len(development.texts)},
        "group_rule": RULE,
        "trained": trained,
        **parts.to_json(),
    }


def as_beir(data: Path, workspace_root: Path) -> tuple[Path, JSON]:
    """Return a BEIR data set as it is, and a set of questions with answers as a BEIR folder, with the rule of its splits."""
    if not is_passages(data):
        return data, None
    folder = workspace_root / "beir" / data.name
    return folder, write_beir(data, folder)


def data_workspace(root: Path, data: Path, changes: Mapping[str, Any] | None = None) -> Workspace:
    """Make the folder of a data set."""
    name = f"{data.stem}-{sha256_hex(str(data).encode())[:8]}"
    return make_workspace(root / name, {"source": f"beir:{data}", **(changes or {})})


def test_splits(workspace: Workspace) -> list[str]:
    """Return the names of an ingested data set's test splits."""
    import pyarrow.parquet as pq

    splits = set(pq.read_table(workspace.folder / "data/snapshot/judgements.parquet", columns=["split"])["split"].to_pylist())
    return sorted(split for split in splits if split.startswith("test"))


def origin_of_development(project: Path) -> str:
    """Return the origin of the questions that settings are chosen on."""
    if "dev" not in json.loads((project / PAIRS / "report.json").read_bytes())["splits_made_here"]:
        return "the set's own development questions"
    if has_withheld(project):
        return "titles or first sentences of a tenth of the documents, searched in the documents without them"
    return "a tenth of the training questions, by cluster of documents, left out of the training"


def train_once(workspace: Workspace) -> str:
    """Train the workspace's encoder, unless the one there was made from the same pairs, parameters, code and libraries."""
    params = read_params(workspace.folder / "params.yaml")["encoder"]
    inputs: dict[str, JSON] = {
        "pairs": sha256_hex((workspace.folder / TRAIN_PAIRS).read_bytes()),
        "params": {name: params[name] for name in ("base_model", "contract", "train")},
        "code": code_hashes(*_TRAINING_CODE),
    }
    return _made_once(workspace.folder / ENCODER.trained / TRAINING_FILE, inputs, lambda: workspace.module("train", "fit"))


def _made_once(file: Path, inputs: Mapping[str, JSON], make: Callable[[], None]) -> str:
    """Make the folder of a file, unless it was made from the same inputs by the same libraries; say which."""
    made_by = canonical_json({**inputs, "versions": {name: metadata.version(name) for name in _PACKAGES}})
    record = file.parent.with_name(f"{file.parent.name}.made-by.json")
    if file.is_file() and record.is_file() and record.read_bytes() == made_by:
        return "kept: same inputs, parameters, code and libraries"
    # What ends halfway leaves no record, neither of its own nor of what stood there before.
    record.unlink(missing_ok=True)
    make()
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_bytes(made_by)
    return "now"


def _release(workspace: Workspace, encoder: str, contract: str) -> Path:
    out = workspace.folder / "releases" / f"{encoder}-{contract}"
    trained = workspace.folder / ENCODER.trained
    base = DEFAULT_BASE_MODEL if encoder == "base" else str(trained)
    name, _, version = contract.partition("@")
    options = ["--chunker-version", version] if version else []
    (documents,) = sorted((workspace.folder / "data" / "snapshot").glob("documents-*.parquet"))
    options += ["--documents", str(documents)]
    command = ["export", "base", "--out", str(out), "--base-model", base, "--chunker", name, *options]
    inputs: dict[str, JSON] = {
        "command": command,
        "documents": sha256_hex(documents.read_bytes()),
        "encoder": None if encoder == "base" else sha256_hex((trained / TRAINING_FILE).read_bytes()),
        "code": code_hashes(*BASE_RELEASE),
    }
    _made_once(out / MANIFEST_FILE, inputs, lambda: workspace.module(*command))
    return out


def _fusion(release: Path) -> JSON:
    fusion = Manifest.load(release).fusion
    return None if fusion is None else fusion.to_json()


def write_own_fusion(release: Path, fusion: Fusion) -> None:
    """Make a release folder that of another fusion, id included."""
    other = replace(Manifest.load(release), fusion=fusion)
    replace(other, release=other.content_id).save(release)
