"""The whole offline line by DVC, in a copy of the checkout, on a data set that it has never seen."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.train.conftest import WORDS, write_tiny_base
from twinline.clients.params import set_params
from twinline.contract.release.manifest import Manifest
from twinline.contract.release.verdict import WRITTEN_CHECKS

ROOT = Path(__file__).resolve().parents[2]
OF_THE_ENCODER = ("pairs", "train", "evaluate", "export", "parity", "quality", "profile", "package")
STAGES = ["ingest", "prepare", *(f"encoder-{name}" for name in OF_THE_ENCODER)]
DOCUMENTS = 60


def write_beir(folder: Path) -> Path:
    """Write a BEIR folder: each document has words of its own, each query asks for one of them."""
    (folder / "qrels").mkdir(parents=True)
    documents = []
    for number in range(DOCUMENTS):
        body = " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 36))
        documents.append({"_id": f"d{number}", "title": f"{WORDS[number % 26]} {number}", "text": f"number {number} {body}"})
    queries = [{"_id": f"q{number}", "text": f"what is {WORDS[number % 26]} {number}"} for number in range(DOCUMENTS)]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, numbers in (("train", range(40)), ("test", range(40, DOCUMENTS))):
        lines = ["query-id\tcorpus-id\tscore", *(f"q{number}\td{number}\t1" for number in numbers)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def copy_checkout(target: Path, changes: dict[str, Any]) -> Path:
    """Copy what Git tracks or would track, as a repository of its own, with some parameters changed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    params = yaml.safe_load((target / "params.yaml").read_text())
    set_params(params, changes)
    (target / "params.yaml").write_text(yaml.safe_dump(params))
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "copy"]):
        subprocess.run(["git", *command], cwd=target, check=True)
    return target


def dvc(checkout: Path, home: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TWINLINE_HOME": str(home),
        # The copy's own packages, not those of the checkout that is installed.
        "PYTHONPATH": str(checkout),
    }
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.timeout(600)
def test_the_pipeline_runs_on_a_data_set_it_has_never_seen_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    changes = {
        "source": f"beir:{write_beir(tmp_path / 'beir')}",
        "encoder.base_model": str(write_tiny_base(tmp_path / "base")),
        "encoder.contract.overlap_tokens": 4,
        "encoder.contract.title_max_tokens": 8,
        "encoder.train.max_steps": 3,
        "encoder.train.batch_size": 8,
        "encoder.train.mini_batch_size": 4,
        # a gate that this encoder of random weights fails: the stages after it must still run
        "encoder.evaluate.margin": 0.0,
    }
    checkout, home = copy_checkout(tmp_path / "checkout", changes), tmp_path / "home"

    first = dvc(checkout, home, "repro")
    assert [stage for stage in STAGES if f"Running stage '{stage}'" not in first] == []

    manifest = Manifest.load(checkout / "models" / "release")
    assert manifest.release.startswith("r")
    training = json.loads((checkout / "models" / "encoder" / "training.json").read_text())
    assert manifest.space == training["space"]
    assert training["steps"] == 3
    verdict = json.loads((checkout / "models" / "evaluation" / "verdict.json").read_text())
    assert [check["name"] for check in verdict["checks"]] == list(WRITTEN_CHECKS)
    assert all(check["statement"] for check in verdict["checks"])
    # the manifest carries the verdict, and the figures of every format
    assert manifest.metrics["verdict"] == verdict
    assert all(entry.quality is not None and entry.quality.lost == 0 for entry in manifest.formats)
    evaluation = json.loads((checkout / "models" / "evaluation" / "evaluation.json").read_text())
    assert evaluation["corpus"]["documents_in_total"] == DOCUMENTS
    assert "test" not in evaluation, "the test split is not to be looked at unless asked"
    assert (checkout / "plots" / "train.tsv").read_text().startswith("step\t")

    again = dvc(checkout, home, "repro")
    assert "Running stage" not in again
    assert "up to date" in again

    # A number of the evaluation makes the evaluation stale, and the training not.
    written = (checkout / "params.yaml").read_text()
    params = yaml.safe_load(written)
    params["encoder"]["evaluate"]["bootstrap_samples"] = 500
    (checkout / "params.yaml").write_text(yaml.safe_dump(params))
    status = json.loads(dvc(checkout, home, "status", "--json"))
    assert "encoder-evaluate" in status
    assert "encoder-train" not in status

    # A change to drift concerns what live texts are compared with, and the package that carries it.
    (checkout / "params.yaml").write_text(written)
    with (checkout / "twinline" / "contract" / "monitor" / "drift.py").open("a") as file:
        file.write("# one more line\n")
    status = json.loads(dvc(checkout, home, "status", "--json"))
    assert set(status) == {"encoder-profile", "encoder-package"}
