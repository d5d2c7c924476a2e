"""A stranger's first hour: set-up -> doctor -> up -> bootstrap -> publish -> search -> schedule -> train -> down.

Every step must end well, or be refused with its reason before anything has started. One machine for each Python that README
names, and one that has all of these: a proxy, a path with a space and parentheses, PYTHONPATH with modules of our names, the
POSIX locale, a HOME that cannot be written, umask 077, another environment active, and a clone without its registry's remote.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from proofs.strange_machine.machines import ODD, Machine, machine, promised
from twinline.clients.airflow import Airflow
from twinline.clients.run import USED_WRONGLY
from twinline.contract.canonical import JSON
from twinline.contract.errors import SettingsError, TwinlineError

SOURCE: Final = "pydocs:json,html,csv,textwrap,statistics"
_QUERY: Final = "parse a JSON document"
_FOUND_SECONDS: Final = 180.0
_RUN_SECONDS: Final = 600.0
# What is tried is the way, not the encoder.
_SMALL: Final = {
    "encoder.train.max_steps": 2,
    "encoder.train.batch_size": 8,
    "encoder.train.mini_batch_size": 8,
    "encoder.evaluate.max_documents": 40,
    "encoder.evaluate.max_queries": 8,
    "encoder.evaluate.min_queries": 2,
    "encoder.evaluate.bootstrap_samples": 100,
    "encoder.parity.sample_chunks": 8,
    "encoder.quality.max_queries": 8,
    "encoder.quality.max_documents": 16,
}
# May refuse the machine: nothing runs yet.
_BEFORE_ANYTHING: Final = ("set-up", "doctor", "up")
Verdict = Literal["green", "refused", "FAILED"]


@dataclass(frozen=True)
class Step:
    """The outcome of one step on one machine; `seen` is its last line, or all of it where it failed."""

    machine: str
    name: str
    verdict: Verdict
    seen: str
    seconds: float


class StepFailedError(TwinlineError):
    """A step ended otherwise than it must; the message has its words."""


def measure_machines(workspace: Path, only: Sequence[str]) -> dict[str, JSON]:
    """Run the first hour on each machine, print every step as it ends, and return the report.

    Args:
        workspace: keeps clones and environments, so that another run begins where set-up is done.
        only: names of machines; none: all.

    Raises:
        SettingsError: a name is unknown.
    """
    names = [*promised(), ODD]
    if unknown := [name for name in only if name not in names]:
        raise SettingsError(f"--only {', '.join(unknown)}: the machines are {', '.join(names)}")
    began = time.monotonic()
    steps = [step for name in only or names for step in _first_hour(name, workspace)]
    return {"steps": [asdict(step) for step in steps], "seconds": round(time.monotonic() - began, 1)}


def passed(report: dict[str, JSON]) -> bool:
    """Say whether no step failed."""
    steps = report["steps"]
    return (
        isinstance(steps, list) and bool(steps) and all(isinstance(step, dict) and step["verdict"] != "FAILED" for step in steps)
    )


def _first_hour(name: str, workspace: Path) -> list[Step]:
    try:
        made = machine(name, workspace)
    except SettingsError as error:
        return [_told(Step(name, "machine", "FAILED", str(error), 0.0))]
    acts: tuple[tuple[str, Callable[[Machine], str]], ...] = (
        ("set-up", _set_up), ("doctor", _doctor), ("up", _up), ("bootstrap", _bootstrap), ("publish", _publish),
        ("search", _search), ("schedule", _schedule), ("train", _train),
    )  # fmt: skip
    steps: list[Step] = []
    try:
        for act, call in acts:
            steps.append(_step(made, act, call))
            if steps[-1].verdict != "green":
                break
    finally:
        if (made.project / ".venv" / "bin" / "twinline").exists():
            steps.append(_step(made, "down", _down))
    return steps


def _step(made: Machine, name: str, call: Callable[[Machine], str]) -> Step:
    began = time.monotonic()
    verdict: Verdict = "green"
    try:
        seen = call(made)
    except SettingsError as error:
        verdict, seen = ("refused" if name in _BEFORE_ANYTHING else "FAILED"), str(error)
    except (TwinlineError, subprocess.TimeoutExpired, OSError, ValueError) as error:
        verdict, seen = "FAILED", str(error)
    return _told(Step(made.name, name, verdict, seen, round(time.monotonic() - began, 1)))


def _told(step: Step) -> Step:
    print(f"{step.machine:<8} {step.name:<10} {step.verdict:<8} {step.seconds:>6.1f} s  {step.seen}", file=sys.stderr, flush=True)
    return step


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line of a command that ended well.

    Raises:
        SettingsError: it was refused, in words and without a traceback.
        StepFailedError: it failed.
    """
    said = done.stdout.strip()
    if "Traceback (most recent call last)" in said:
        raise StepFailedError(f"ended with {done.returncode}, and a traceback: {said[-3000:]}")
    if done.returncode == USED_WRONGLY:
        raise SettingsError(said[-1000:])
    if done.returncode != 0:
        raise StepFailedError(f"ended with {done.returncode}: {said[-3000:]}")
    return said.splitlines()[-1] if said else ""


def _set_up(made: Machine) -> str:
    done = made.run("make", "setup", f"PYTHON={made.python}", limit_seconds=1_800.0, is_set_up=True)
    if done.returncode != 0:
        raise StepFailedError(f"ended with {done.returncode}: {done.stdout[-3000:]}")
    version = made.run(".venv/bin/python", "--version", limit_seconds=60.0).stdout.strip()
    return f"{version}, the model server's {made.run('.venv-server/bin/python', '--version', limit_seconds=60.0).stdout.strip()}"


def _doctor(made: Machine) -> str:
    done = made.twinline("doctor", "--json", limit_seconds=300.0)
    findings = json.loads(done.stdout[done.stdout.index("[\n") :])
    bad = [f"{finding['name']}: {finding['detail']}" for finding in findings if finding["verdict"] == "bad"]
    if bad:
        raise SettingsError("; ".join(bad))
    return f"{len(findings)} findings, none bad"


def _up(made: Machine) -> str:
    return _last_line(made.twinline("up", limit_seconds=600.0))


def _bootstrap(made: Machine) -> str:
    return _last_line(made.twinline("release", "bootstrap", limit_seconds=900.0))


def _publish(made: Machine) -> str:
    return _last_line(made.twinline("publish", "--source", SOURCE, limit_seconds=300.0))


def _search(made: Machine) -> str:
    give_up = time.monotonic() + _FOUND_SECONDS
    while True:
        done = made.twinline("search", _QUERY, "--json", limit_seconds=60.0)
        _last_line(done)
        answer = json.loads(done.stdout[done.stdout.index("{\n") :])
        if answer["hits"]:
            return f"{len(answer['hits'])} hits, the first is {answer['hits'][0]['key']}"
        if time.monotonic() > give_up:
            raise StepFailedError(f"nothing found after {_FOUND_SECONDS:.0f} s")
        time.sleep(1.0)


def _schedule(made: Machine) -> str:
    """Run one DAG: its tasks speak to Airflow's own API over loopback. The training that follows stays paused."""
    url = f"http://127.0.0.1:{made.variables['TWINLINE_AIRFLOW_PORT']}"
    with closing(Airflow(url, made.project / "var" / "airflow")) as airflow:
        airflow.unpause("ingest_documents")
        run_id = airflow.trigger("ingest_documents", {"source": SOURCE})
        give_up = time.monotonic() + _RUN_SECONDS
        while (state := airflow.run("ingest_documents", run_id).state) not in ("success", "failed"):
            if time.monotonic() > give_up:
                raise StepFailedError(f"run {run_id} is {state} after {_RUN_SECONDS:.0f} s")
            time.sleep(2.0)
        tasks = {task.task_id: task.state for task in airflow.tasks("ingest_documents", run_id)}
    if state != "success":
        raise StepFailedError(f"run {run_id} {state}: {tasks}")
    return f"run {run_id}: {tasks}"


def _train(made: Machine) -> str:
    small = [argument for name, value in _SMALL.items() for argument in ("--set", f"{name}={value}")]
    done = made.twinline("train", "--source", SOURCE, "--name", f"proof-{int(time.time())}", *small, limit_seconds=1_800.0)
    last = _last_line(done)
    if made.name == ODD and "GOING ON WITHOUT A CHAMPION" not in done.stdout:
        raise StepFailedError("the champion's files are on another machine, and the training does not say so")
    return last


def _down(made: Machine) -> str:
    return _last_line(made.twinline("down", limit_seconds=300.0))
