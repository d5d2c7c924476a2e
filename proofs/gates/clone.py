"""A clone of the checkout for planted faults: registry, cache, parameters and DAGs of its own, and a stack that runs them."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from bench.checkout import CHECKOUT
from twinline.clients.airflow import Airflow
from twinline.clients.params import set_params
from twinline.clients.settings import Settings, load_settings
from twinline.contract.artefacts import PARAMS
from twinline.contract.errors import ContractError, TransientError
from twinline.contract.release.checks import Check
from twinline.registry.git import git, resolve_commit
from twinline.registry.revisions import GitRevision
from twinline.release.kinds import ENCODER
from twinline.upkeep.training.experiment import experiment_name

DAG: Final = "train_encoder"
_POLL_SECONDS: Final = 1.0
_RUN_LIMIT_SECONDS: Final = 1800.0


@dataclass(frozen=True)
class Patch:
    """A change of one file of the clone: `old` is in it once, and `new` replaces it."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class TrainingRun:
    """The outcome of one run of the DAG.

    State and attempts of each task, the gate's log and its return value in Airflow, and the checks of its experiment.
    """

    states: Mapping[str, str]
    attempts: Mapping[str, int]
    log: Sequence[str]
    returned: Mapping[str, Any]
    checks: Sequence[Check]


class Clone:
    """A clone of the checkout, driven as by a person: by its commands and its DAGs.

    Args:
        folder: of the clone.
        environment: home and ports of its stack.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = dict(environment)

    @property
    def settings(self) -> Settings:
        """Return the settings of the clone's commands."""
        before = dict(os.environ)
        os.environ.update(self._environment)
        try:
            return load_settings()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def run(self, *arguments: str) -> str:
        """Run `twinline ARGUMENTS` of the clone, its notes on standard error; return its output.

        Raises:
            ContractError: it failed; its own message is above.
        """
        command = [sys.executable, "-m", "twinline", *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.stderr.write(done.stdout)
            raise ContractError(f"`twinline {' '.join(arguments)}` in {self.folder} ended with {done.returncode}: see above")
        return done.stdout

    @contextmanager
    def planted(self, params: Mapping[str, Any], patches: Sequence[Patch]) -> Iterator[None]:
        """Change parameters and code while the block runs, then restore them.

        Raises:
            ContractError: the code has changed, and the fault's place in it is gone.
        """
        names = {PARAMS, *(patch.path for patch in patches)}
        before = {name: (self.folder / name).read_text() for name in names}
        try:
            self._set_params(params)
            for patch in patches:
                text = (self.folder / patch.path).read_text()
                if text.count(patch.old) != 1:
                    raise ContractError(f"{patch.path} has {text.count(patch.old)} times {patch.old!r}, not once: fix the fault")
                (self.folder / patch.path).write_text(text.replace(patch.old, patch.new))
            yield
        finally:
            for name, text in before.items():
                (self.folder / name).write_text(text)

    def train(self, snapshot: str) -> TrainingRun:
        """Trigger the DAG, wait until it ends, and return its outcome."""
        settings = self.settings
        with closing(Airflow(settings.airflow_url, settings.home / "airflow")) as airflow:
            airflow.unpause(DAG)
            run_id = airflow.trigger(DAG, {"snapshot": snapshot})
            give_up = time.monotonic() + _RUN_LIMIT_SECONDS
            while airflow.run(DAG, run_id).state not in ("success", "failed"):
                if time.monotonic() > give_up:
                    raise TransientError(f"{DAG} {run_id} has not ended after {_RUN_LIMIT_SECONDS:.0f} s")
                time.sleep(_POLL_SECONDS)
            tasks = {task.task_id: task for task in airflow.tasks(DAG, run_id)}
            states = {name: task.state for name, task in tasks.items()}
            if states["train"] != "success":
                lines = airflow.log(DAG, run_id, tasks["train"])[-25:]
                raise ContractError("\n".join([f"{DAG}.train ended as {states['train']}: the fault broke the pipeline", *lines]))
            attempts = {name: task.attempt for name, task in tasks.items()}
            log = airflow.log(DAG, run_id, tasks["gate"])
            returned = airflow.returned(DAG, run_id, "gate")
        revision = GitRevision(self.folder, resolve_commit(self.folder, experiment_name(run_id)))
        return TrainingRun(states, attempts, log, returned, ENCODER.read_checks(revision))

    def versions(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the registered versions with their stages."""
        return [(entry.version, entry.stages) for entry in ENCODER.registry(self.folder).versions()]

    def active(self) -> str:
        """Return the release behind a search's answer."""
        found = re.search(r'"release": "(r[0-9a-f]{12})"', self.run("search", "text", "--json"))
        if found is None:
            raise ContractError("a search names no release: nothing is active")
        return found[1]

    def snapshot(self) -> str:
        """Return the id of the one stored snapshot."""
        stored = [path.parent.name for path in self.settings.snapshots.glob("s*/snapshot.json")]
        if len(stored) != 1:
            raise ContractError(f"{self.settings.snapshots} holds the snapshots {stored}, not one")
        return stored[0]

    def _set_params(self, values: Mapping[str, Any]) -> None:
        path = self.folder / PARAMS
        params = yaml.safe_load(path.read_text())
        set_params(params, values)
        path.write_text(yaml.safe_dump(params, sort_keys=False))


def make_clone(folder: Path) -> Path:
    """Clone the checkout, uncommitted changes of tracked files included."""
    # Without tags: those of a demo in this checkout name releases whose files the clone does not have.
    git(CHECKOUT, "clone", "--quiet", "--no-tags", str(CHECKOUT), str(folder))
    for name in git(CHECKOUT, "diff", "--name-only", "--diff-filter=AM", "HEAD").split():
        shutil.copy2(CHECKOUT / name, folder / name)
    (folder / ".venv-server").symlink_to(CHECKOUT / ".venv-server")
    return folder
