"""Follow the chain of DAG runs after one triggered run, from asset to asset."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import zip_longest
from typing import Any, Final

from twinline.clients.airflow import Airflow, TaskRun
from twinline.contract.errors import TransientError, TwinlineError

# The order of the DAG files: Airflow's API gives tasks in no order.
CHAIN: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("ingest_documents", ("ingest", "publish")),
    ("train_encoder", ("changed", "train", "gate", "register")),
    ("release_encoder", ("fetch", "publish", "build", "verify", "promote")),
)
_POLL_SECONDS: Final = 1.0
_PARSED_SECONDS: Final = 90.0
_STARTED_SECONDS: Final = 60.0


class TaskFailedError(TwinlineError):
    """A task of the chain failed; carries the end of its log, and the place of the log."""

    def __init__(self, dag_id: str, task_id: str, lines: Sequence[str], log_file: str) -> None:
        super().__init__(f"{dag_id}.{task_id} failed; the whole log: {log_file}")
        self.lines = tuple(lines)


@dataclass(slots=True)
class Step:
    """One task of the display."""

    dag_id: str
    task_id: str
    state: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    says: str = ""

    def seconds(self, now: datetime) -> float | None:
        """Return the task's running time, None before it starts."""
        return None if self.started_at is None else ((self.ended_at or now) - self.started_at).total_seconds()


@dataclass(slots=True)
class Progress:
    """The state of the whole chain."""

    steps: list[Step] = field(default_factory=lambda: [Step(dag_id, task_id) for dag_id, tasks in CHAIN for task_id in tasks])

    def update(self, dag_id: str, tasks: Sequence[TaskRun], last_line: Callable[[TaskRun], str]) -> None:
        """Update one DAG's tasks from Airflow, and the last line of a running task from its log."""
        by_id = {task.task_id: task for task in tasks}
        for step in self.steps:
            if step.dag_id == dag_id and step.task_id in by_id:
                task = by_id[step.task_id]
                # A deferred task runs too: its command runs without a waiting worker.
                step.state = "running" if task.state == "deferred" else task.state
                step.started_at, step.ended_at = task.started_at, task.ended_at if step.state != "running" else None
                step.says = last_line(task) if step.state == "running" else ""

    def ends_early(self, dag_id: str) -> str:
        """Return the skipped task of a DAG's run, which ends the chain; empty if none was skipped."""
        return next((step.task_id for step in self.steps if step.dag_id == dag_id and step.state == "skipped"), "")


def start(airflow: Airflow, conf: dict[str, Any], sleep: Callable[[float], None] = time.sleep) -> str:
    """Unpause the three DAGs and trigger the first; return the run's id."""
    give_up = time.monotonic() + _PARSED_SECONDS
    for dag_id, _ in CHAIN:
        # Airflow answers before it has read its DAG files.
        while not airflow.has_dag(dag_id):
            if time.monotonic() > give_up:
                raise TransientError(f"Airflow has not read dags/{dag_id}.py after {_PARSED_SECONDS:.0f} s: see its log")
            sleep(_POLL_SECONDS)
        airflow.unpause(dag_id)
    return airflow.trigger(CHAIN[0][0], conf)


def follow(airflow: Airflow, run_id: str, sleep: Callable[[float], None] = time.sleep) -> Iterator[Progress]:
    """Yield the state of the chain about once a second, until the last run has ended, or one had nothing to do.

    Raises:
        TaskFailedError: a task failed, and so the chain ends there.
        TransientError: a run did not start the next one.
    """
    progress = Progress()
    for (dag_id, _), following in zip_longest(CHAIN, CHAIN[1:]):
        yield from follow_run(airflow, dag_id, run_id, progress, sleep)
        if progress.ends_early(dag_id):
            return
        if following is not None:
            run_id = _next_run(airflow, dag_id, run_id, following[0], sleep)


def follow_run(
    airflow: Airflow, dag_id: str, run_id: str, progress: Progress, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Progress]:
    """Yield the state of the chain about once a second while one of its runs goes on.

    Raises:
        TaskFailedError: a task of the run failed.
    """
    while True:
        # The run first: once it has ended, the states of its tasks are final.
        state = airflow.run(dag_id, run_id).state
        tasks = airflow.tasks(dag_id, run_id)
        progress.update(dag_id, tasks, partial(airflow.last_line, dag_id, run_id))
        yield progress
        if state == "failed":
            raise _failure(airflow, dag_id, run_id, tasks)
        if state == "success":
            return
        sleep(_POLL_SECONDS)


def _next_run(airflow: Airflow, dag_id: str, run_id: str, wanted: str, sleep: Callable[[float], None]) -> str:
    give_up = time.monotonic() + _STARTED_SECONDS
    problem = "is it paused?"
    while time.monotonic() < give_up:
        try:
            started = airflow.runs_started_by(dag_id, run_id)
        except TransientError as exc:
            # Airflow answers so while the run exists and has not begun; any other reason is reported at the end.
            started, problem = [], str(exc)
        for run in started:
            if run.dag_id == wanted:
                return run.run_id
        if airflow.is_busy(wanted):
            # A DAG has one run at a time, so this run waits for an earlier one without a limit.
            give_up = time.monotonic() + _STARTED_SECONDS
        sleep(_POLL_SECONDS)
    raise TransientError(f"{dag_id} succeeded, but {wanted} has not started within {_STARTED_SECONDS:.0f} s: {problem}")


def _failure(airflow: Airflow, dag_id: str, run_id: str, tasks: Sequence[TaskRun]) -> TwinlineError:
    failed = [task for task in tasks if task.state == "failed"]
    if not failed:
        return TransientError(f"run {run_id} of {dag_id} failed, and none of its tasks says so: look at it in Airflow")
    lines = airflow.log(dag_id, run_id, failed[0])
    return TaskFailedError(dag_id, failed[0].task_id, lines[-25:], str(airflow.log_file(dag_id, run_id, failed[0])))


def now() -> datetime:
    """Return the time as Airflow gives it."""
    return datetime.now(UTC)
