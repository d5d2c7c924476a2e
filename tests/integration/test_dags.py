"""The demo in short: a real Airflow runs the three DAGs on a small corpus to an answer, and stops at a refused gate."""

import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from proofs.gates.cases import CASES, Case
from proofs.gates.clone import Clone
from proofs.gates.run import plant
from tests.checkout import CHECKOUT
from tests.integration.conftest import Stack
from twinline.clients.airflow import Airflow, DagRun
from twinline.clients.params import set_params
from twinline.contract.artefacts import ENCODER
from twinline.contract.errors import TransientError
from twinline.contract.release.verdict import BETTER_THAN_BASE
from twinline.demo import chain
from twinline.registry.git import git
from twinline.registry.versions import Registry

MODULES = ("json", "csv", "shutil", "textwrap", "random", "statistics", "heapq", "zipfile", "argparse", "datetime", "itertools")
# A few steps on few documents: what is tested is the way, not the encoder.
SMALL = {
    # so that so few documents leave eight questions to judge by
    "encoder.pairs.dev_share": 0.3,
    "encoder.train.max_steps": 2,
    "encoder.train.batch_size": 8,
    "encoder.train.mini_batch_size": 8,
    "encoder.evaluate.max_documents": 40,
    "encoder.evaluate.max_queries": 8,
    "encoder.evaluate.min_queries": 2,
    "encoder.evaluate.bootstrap_samples": 200,
    "encoder.evaluate.margin": 1.0,
    "encoder.parity.sample_chunks": 8,
    "encoder.quality.max_queries": 8,
    "encoder.quality.max_documents": 16,
}


class Project:
    """A clone of the checkout: its registry, cache and parameters are its own."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        self.folder, self.stack = folder, stack
        self.set_params(SMALL)
        self.before = self.state()

    def state(self) -> tuple[str, str, str]:
        """Return the state that a pipeline run must not change: the branch, its commit, and the workspace with its changes."""
        return (
            git(self.folder, "branch", "--show-current"),
            git(self.folder, "rev-parse", "HEAD"),
            git(self.folder, "status", "--porcelain"),
        )

    def run(self, *arguments: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        """Run `twinline ARGUMENTS` of the clone."""
        command = [sys.executable, "-m", "twinline", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.stack.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def set_params(self, values: Mapping[str, float]) -> None:
        """Change values of params.yaml; a name that is not there is an error."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        set_params(params, values)
        path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def project(make_stack: Callable[[str], Stack], short_folder: Path) -> Iterator[Project]:
    folder = short_folder / "clone"
    # Without tags: those of a demo in this checkout name releases whose files the clone does not have.
    git(CHECKOUT, "clone", "--quiet", "--no-tags", str(CHECKOUT), str(folder))
    for name in git(CHECKOUT, "diff", "--name-only", "--diff-filter=AM", "HEAD").split():
        shutil.copy2(CHECKOUT / name, folder / name)
    (folder / ".venv-server").symlink_to(CHECKOUT / ".venv-server")
    made = Project(folder, make_stack("dags"))
    yield made
    made.run("down")


@pytest.fixture(scope="module")
def documents(short_folder: Path) -> Path:
    """Text that every machine has: docstrings of the standard library, one file each."""
    folder = short_folder / "docs"
    folder.mkdir()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name, member in sorted(vars(module).items()):
            text = inspect.getdoc(member) if callable(member) and not name.startswith("_") else None
            if text and len(text.split()) > 30:
                (folder / f"{module_name}.{name}.md").write_text(f"# {module_name}.{name}\n\n{text}\n")
    assert len(list(folder.iterdir())) > 60
    return folder


@pytest.fixture(scope="module")
def demo(project: Project, documents: Path) -> subprocess.CompletedProcess[str]:
    return project.run("demo", "--source", f"files:{documents}", "--question", "wrap text into lines", timeout=900)


@pytest.mark.timeout(1000)
def test_the_demo_goes_from_files_to_an_answer(project: Project, demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout[-3000:] + demo.stderr[-3000:]
    for dag_id, tasks in chain.CHAIN:
        for task in tasks:
            assert f"{dag_id}.{task}: success" in demo.stdout
    assert "textwrap" in demo.stdout
    assert re.search(r"found \d+ ms later", demo.stdout)


def test_a_task_that_takes_long_has_held_no_worker(project: Project, demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0
    logs = project.stack.home / "airflow" / "logs"
    # what a triggerer writes while it follows a command, which is what a person reads meanwhile
    (followed,) = logs.glob("dag_id=train_encoder/*/task_id=train/attempt=1.log.trigger.*")
    assert " s] encoder-train" in followed.read_text()
    # and nothing of the command is left behind
    assert [path for path in (project.stack.home / "commands").rglob("*") if path.is_file()] == []


def test_the_verification_is_in_airflow_with_its_numbers_and_the_promotion_names_its_run(
    project: Project, demo: subprocess.CompletedProcess[str]
) -> None:
    assert demo.returncode == 0
    with closing(_airflow(project)) as airflow:
        (run,) = airflow.runs("release_encoder", "asset_triggered")
        checks = {check["name"]: check for check in airflow.returned("release_encoder", run.run_id, "verify")["checks"]}
        gate = airflow.returned("train_encoder", airflow.runs("train_encoder", "asset_triggered")[-1].run_id, "gate")
    assert checks["whole"]["numbers"]["missing"] == 0
    assert "live quality" in checks
    assert all(check["passed"] for check in gate["checks"])
    done = project.run("release", "show", "prod", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["served"]["active"] is True
    assert shown["verdict"]["accepted"] is True
    assert shown["data"]["counts"]["documents"] > 60
    (promotion,) = shown["promotions"]
    assert promotion["by"] == f"airflow release_encoder {run.run_id}"
    assert project.run("release", "show", "v1.0.0").returncode == 0


def test_a_roll_back_without_an_earlier_release_is_refused_once_with_the_reason(
    project: Project, demo: subprocess.CompletedProcess[str]
) -> None:
    assert demo.returncode == 0
    active = _active(project)
    with closing(_airflow(project)) as airflow:
        airflow.unpause("rollback_release")
        run_id = airflow.trigger("rollback_release", {})
        with pytest.raises(chain.TaskFailedError):
            for _ in chain.follow_run(airflow, "rollback_release", run_id, chain.Progress()):
                pass
        assert "no release was active before" in airflow.returned("rollback_release", run_id, "rollback")["refused"]
        (task,) = airflow.tasks("rollback_release", run_id)
    assert task.attempt == 1
    assert _active(project) == active


def test_the_encoder_is_registered_in_production_and_the_branch_is_as_it_was(
    project: Project, demo: subprocess.CompletedProcess[str]
) -> None:
    assert demo.returncode == 0
    (entry,) = Registry(project.folder, ENCODER).versions()
    assert (entry.version, entry.stages) == ("v1.0.0", ("prod",))
    assert project.state() == project.before
    assert not (project.folder / "models").exists()


@pytest.mark.timeout(600)
# One of them here; `python -m proofs gates` plants all.
@pytest.mark.parametrize("case", [case for case in CASES if case.short][:1], ids=lambda case: case.name)
def test_a_bad_encoder_is_refused_by_the_right_gate_and_nothing_changes(
    project: Project, demo: subprocess.CompletedProcess[str], case: Case
) -> None:
    assert demo.returncode == 0
    # eight queries can tell a broken encoder from a whole one, and no more: the margin is wide where quality is not the point
    margin = {"encoder.evaluate.margin": 0.02} if case.gate == BETTER_THAN_BASE else {}
    planted = replace(case, params={**case.params, **margin})
    outcome = plant(Clone(project.folder, project.stack.environment), _snapshot(project), planted)
    assert outcome.problems == ()
    assert (outcome.stopped_at, outcome.right) == ("gate", True)
    assert case.gate in outcome.refused_by
    assert [entry.version for entry in Registry(project.folder, ENCODER).versions()] == ["v1.0.0"]


# The last one: the documents are others after it.
@pytest.mark.timeout(400)
def test_documents_that_did_not_change_train_nothing_and_neither_does_a_back_fill(
    project: Project, documents: Path, demo: subprocess.CompletedProcess[str]
) -> None:
    assert demo.returncode == 0
    conf = {"source": f"files:{documents}"}
    with closing(_airflow(project)) as airflow:
        run_id = airflow.trigger("ingest_documents", conf)
        assert "0.0% of" in _why_nothing_was_trained(airflow, run_id)
        # other documents, for an interval of the past
        for path in sorted(documents.iterdir())[:20]:
            path.write_text(path.read_text() + "\nOne sentence more than before.\n")
        airflow.backfill("ingest_documents", "2026-01-05T00:00:00Z", conf)
        (run,) = _until(lambda: airflow.runs("ingest_documents", "backfill"))
        assert "is a back-fill" in _why_nothing_was_trained(airflow, run.run_id)
        # and Airflow has made up for no midnight meanwhile, with documents that nobody named
        assert airflow.runs("ingest_documents", "scheduled") == []
    assert [entry.version for entry in Registry(project.folder, ENCODER).versions()] == ["v1.0.0"]


def _why_nothing_was_trained(airflow: Airflow, run_id: str) -> str:
    """Follow an ingest to its training, and return the reason why the training was skipped."""
    for _ in chain.follow_run(airflow, "ingest_documents", run_id, chain.Progress()):
        pass
    (started,) = _until(lambda: _started(airflow, run_id))
    for _ in chain.follow_run(airflow, "train_encoder", started.run_id, chain.Progress()):
        pass
    tasks = {task.task_id: task for task in airflow.tasks("train_encoder", started.run_id)}
    assert {name: task.state for name, task in tasks.items()} == dict.fromkeys(
        ("changed", "train", "gate", "register"), "skipped"
    )
    return "\n".join(airflow.log("train_encoder", started.run_id, tasks["changed"]))


def _started(airflow: Airflow, run_id: str) -> list[DagRun]:
    try:
        return [run for run in airflow.runs_started_by("ingest_documents", run_id) if run.dag_id == "train_encoder"]
    except TransientError:
        return []  # so it answers while the run is there and has not begun


def _until(found: Callable[[], list[DagRun]]) -> list[DagRun]:
    give_up = time.monotonic() + 90
    while not (runs := found()):
        assert time.monotonic() < give_up
        time.sleep(0.5)
    return runs


def _airflow(project: Project) -> Airflow:
    return Airflow(project.stack.settings.airflow_url, project.stack.home / "airflow")


def _active(project: Project) -> str:
    done = project.run("search", "text", "--json")
    assert done.returncode == 0, done.stderr
    found = re.search(r'"release": "(r[0-9a-f]{12})"', done.stdout)
    assert found is not None
    return found[1]


def _snapshot(project: Project) -> str:
    stored = [path for path in project.stack.settings.snapshots.glob("s*") if (path / "snapshot.json").is_file()]
    return min(stored, key=lambda path: path.stat().st_mtime).name
