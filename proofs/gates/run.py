"""Proof that the right gate refuses every bad encoder, in a real run of the real DAG.

clone and stack ─> control ─> for each case: plant, run `train_encoder`, undo ─> control again ─> report
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.workspace import make_workspace
from proofs.gates.cases import CASES, Case
from proofs.gates.clone import Clone, TrainingRun, make_clone
from twinline.clients.settings import in_project
from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError, SettingsError

# Docstrings of modules on every machine: about 750 documents, 220 development queries.
SOURCE: Final = (
    "pydocs:asyncio,collections,concurrent,difflib,email,http,json,logging,multiprocessing,pathlib,statistics,subprocess,"
    "unittest,urllib,zipfile,argparse,typer,tqdm,kafka"
)
# The gates' own limits stay: only the data are small.
SIZES: Final = {
    "encoder.pairs.dev_share": 0.3,
    "encoder.pairs.test_share": 0.02,
    "encoder.train.max_steps": 8,
    "encoder.train.batch_size": 32,
    "encoder.train.mini_batch_size": 32,
    "encoder.evaluate.max_documents": 150,
    "encoder.evaluate.max_queries": 120,
    "encoder.quality.max_queries": 40,
    "encoder.quality.max_documents": 60,
    "encoder.parity.sample_chunks": 8,
    "encoder.profile.documents": 40,
    "encoder.profile.queries": 40,
}
# Another value that changes no encoder, so that the control at the end is computed and not taken from the cache.
AGAIN: Final = {"encoder.evaluate.bootstrap_samples": 9_999}


@dataclass(frozen=True)
class Outcome:
    """The outcome of one bad encoder."""

    name: str
    planted: str
    expected: str
    refused_by: tuple[str, ...]
    stopped_at: str
    problems: tuple[str, ...]
    statement: str
    seconds: float

    @property
    def right(self) -> bool:
        """Return whether the right gate refused it, and nothing else happened."""
        return not self.problems


def measure_gates(folder: Path, only: Sequence[str] = (), *, short: bool = False) -> dict[str, JSON]:
    """Plant each case in a clone with a stack of its own, and return one JSON object.

    Args:
        folder: of clone and stack; it must not exist.
        only: names of cases; none: all.
        short: two of them.

    Raises:
        SettingsError: there is no case of that name.
        ContractError: the control was refused.
    """
    cases = choose(only, short=short)
    with running_clone(folder) as clone:
        started = time.perf_counter()
        with clone.planted({"source": SOURCE, **SIZES}, []):
            clone.run("demo", "--source", SOURCE, "--question", "wait for several coroutines")
            return plant_cases(clone, cases, started)


def plant_cases(clone: Clone, cases: Sequence[Case], started: float) -> dict[str, JSON]:
    """Plant each case alone in a clone with its own encoder in production; return the report."""
    snapshot = clone.snapshot()
    before = _control(clone, snapshot, "before")
    outcomes = []
    for number, case in enumerate(cases, start=1):
        outcomes.append(plant(clone, snapshot, case))
        found = outcomes[-1]
        said = "; ".join(found.problems) or f"refused by {', '.join(found.refused_by)}"
        print(f"{number:>2}/{len(cases)} {found.name}: {said} ({found.seconds} s)", file=sys.stderr, flush=True)
    after = _control(clone, snapshot, "after")
    return {
        "planted": len(outcomes),
        "refused": sum(bool(outcome.refused_by) for outcome in outcomes),
        "by_the_right_gate": sum(outcome.right for outcome in outcomes),
        "cases": [asdict(outcome) for outcome in outcomes],
        "control": {"before": before, "after": after},
        "seconds": round(time.perf_counter() - started, 1),
    }


def plant(clone: Clone, snapshot: str, case: Case) -> Outcome:
    """Plant one case, run the DAG, undo the case, and return its outcome."""
    versions, active = clone.versions(), clone.active()
    started = time.perf_counter()
    with clone.planted(case.params, case.patches):
        run = clone.train(snapshot)
    seconds = round(time.perf_counter() - started, 1)
    refused = tuple(check.name for check in run.checks if not check.passed)
    problems = [*_not_refused_rightly(case, run, refused)]
    if clone.versions() != versions:
        problems.append(f"the registry has {clone.versions()}, it had {versions}")
    if clone.active() != active:
        problems.append(f"release {clone.active()} answers, {active} did")
    stopped = next((name for name in ("train", "gate", "register") if run.states[name] == "failed"), "nowhere")
    statement = next((check.detail for check in run.checks if check.name == case.gate), "")
    return Outcome(case.name, case.planted, case.gate, refused, stopped, tuple(problems), statement, seconds)


def _not_refused_rightly(case: Case, run: TrainingRun, refused: Sequence[str]) -> Iterator[str]:
    wanted = {"changed": "success", "train": "success", "gate": "failed", "register": "upstream_failed"}
    if dict(run.states) != wanted:
        yield f"the tasks ended as {dict(run.states)}, not {wanted}"
    if run.attempts["gate"] != 1:
        yield f"the gate was asked {run.attempts['gate']} times: a verdict does not change"
    if case.gate not in refused:
        yield f"`{case.gate}` let it pass"
    if strangers := [name for name in refused if name != case.gate and name not in case.also]:
        yield f"refused by {', '.join(strangers)} as well, where the fault does not show"
    if not any("refused" in line and case.gate in line for line in run.log):
        yield f"the log of the task `gate` does not name `{case.gate}`"
    if case.gate not in [check["name"] for check in run.returned.get("checks", []) if not check["passed"]]:
        yield f"what the task `gate` returned does not name `{case.gate}`"


def _control(clone: Clone, snapshot: str, when: str) -> dict[str, JSON]:
    versions, active = clone.versions(), clone.active()
    if not any("prod" in stages for _, stages in versions):
        raise ContractError(f"control {when}: no version is in stage prod ({versions}): there is no champion to compare with")
    with clone.planted(AGAIN if when == "after" else {}, []):
        run = clone.train(snapshot)
    failed = [f"{check.name}: {check.detail}" for check in run.checks if not check.passed]
    if failed or run.states["register"] != "success":
        raise ContractError(f"control {when}: a clean run was refused ({dict(run.states)}): {'; '.join(failed)}")
    return {
        "passed": True,
        "versions": [version for version, _ in versions],
        "active": active,
        "checks": {check.name: check.detail for check in run.checks},
    }


def passed(report: dict[str, Any]) -> bool:
    """Return whether every case was refused by the right gate."""
    return bool(report["planted"] == report["by_the_right_gate"])


def choose(only: Sequence[str], *, short: bool) -> tuple[Case, ...]:
    """Return the wanted cases.

    Raises:
        SettingsError: a name is unknown.
    """
    known = {case.name: case for case in CASES}
    if unknown := [name for name in only if name not in known]:
        raise SettingsError(f"no case is called {', '.join(unknown)}: there are {', '.join(known)}")
    return tuple(known[name] for name in only) if only else tuple(case for case in CASES if case.short or not short)


@contextmanager
def running_clone(folder: Path) -> Iterator[Clone]:
    """Make clone and stack, and run them while the block runs."""
    if (folder / "clone").exists():
        raise SettingsError(f"{folder}/clone is there already: remove {folder}, or name another --workspace")
    workspace = make_workspace(folder, {})
    environment = {name: value for name, value in workspace.environment.items() if name != "PYTHONPATH"}
    place = make_clone(folder / "clone")
    clone = Clone(place, in_project(place, environment))
    try:
        yield clone
    finally:
        clone.run("down")
