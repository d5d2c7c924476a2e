"""The demo in short: a real Airflow runs the three DAGs on a small corpus to an answer, and stops at a refused gate."""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bench.gates import plant
from bench.gates_cases import CASES, Case
from bench.gates_clone import Clone
from clients.settings import CHECKOUT
from contract.verdict import BETTER_THAN_BASE
from release.git import git
from release.registry import Registry
from tests.integration.conftest import Stack
from twinline.demo import chain

MODULES = ("json", "csv", "shutil", "textwrap", "random", "statistics", "heapq", "zipfile", "argparse", "datetime", "itertools")
# A few steps on few documents: what is tested is the way, not the encoder.
SMALL = {
    "train.max_steps": 2,
    "train.batch_size": 8,
    "train.mini_batch_size": 8,
    "evaluate.max_documents": 40,
    "evaluate.max_queries": 8,
    "evaluate.bootstrap_samples": 200,
    "evaluate.margin": 1.0,
    "parity.sample_chunks": 8,
    "quality.max_queries": 8,
    "quality.max_documents": 16,
}


class Project:
    """A clone of the checkout: its registry, cache and parameters are its own."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        self.folder, self.stack = folder, stack
        self.set_params(SMALL)
        self.before = self.state()

    def state(self) -> tuple[str, str, str]:
        """Return what a pipeline run must leave alone: the branch, its commit, and the workspace with its changes."""
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
        for name, value in values.items():
            section, key = name.split(".")
            assert key in params[section], f"params.yaml has no {name}"
            params[section][key] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def project(make_stack: Callable[[str], Stack], short_folder: Path) -> Iterator[Project]:
    folder = short_folder / "clone"
    git(CHECKOUT, "clone", "--quiet", str(CHECKOUT), str(folder))
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


def test_the_encoder_is_registered_in_production_and_the_branch_is_as_it_was(
    project: Project, demo: subprocess.CompletedProcess[str]
) -> None:
    assert demo.returncode == 0
    (entry,) = Registry(project.folder).versions()
    assert (entry.version, entry.stages) == ("v1.0.0", ("prod",))
    assert project.state() == project.before
    assert not (project.folder / "models").exists()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", [case for case in CASES if case.short], ids=lambda case: case.name)
def test_a_bad_encoder_is_refused_by_the_right_gate_and_nothing_changes(
    project: Project, demo: subprocess.CompletedProcess[str], case: Case
) -> None:
    assert demo.returncode == 0
    # eight queries can tell a broken encoder from a whole one, and no more: the margin is wide where quality is not the point
    margin = {"evaluate.margin": 0.02} if case.gate == BETTER_THAN_BASE else {}
    planted = replace(case, params={**case.params, **margin})
    outcome = plant(Clone(project.folder, project.stack.environment), _snapshot(project), planted)
    assert outcome.problems == ()
    assert (outcome.stopped_at, outcome.right) == ("gate", True)
    assert case.gate in outcome.refused_by
    assert [entry.version for entry in Registry(project.folder).versions()] == ["v1.0.0"]


def _snapshot(project: Project) -> str:
    stored = [path.name for path in project.stack.settings.snapshots.glob("s*") if (path / "snapshot.json").is_file()]
    assert len(stored) == 1
    return stored[0]
