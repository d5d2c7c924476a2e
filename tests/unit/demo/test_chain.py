"""The demo follows runs from asset to asset, and says which task failed and why."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from twinline.clients.airflow import Airflow, DagRun, TaskRun
from twinline.contract.errors import TransientError
from twinline.demo import chain
from twinline.demo.show import Times, chain_table, watch

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class FakeAirflow(Airflow):
    """Each look at a run moves it one task on; `failing` fails, `deaf` DAGs are never started; one is busy for some looks."""

    def __init__(
        self, failing: str = "", deaf: str = "", busy_looks: int = 0, skipping: str = "", at_work: str = "running"
    ) -> None:
        super().__init__("http://airflow", Path("/airflow"))
        self._failing, self._deaf, self._busy_looks = failing, deaf, busy_looks
        self._skipping, self._at_work = skipping, at_work
        self._looks: dict[str, int] = {}
        self._asked = 0

    def run(self, dag_id: str, run_id: str) -> DagRun:
        looks = self._looks[dag_id] = self._looks.get(dag_id, -1) + 1
        states = [task.state for task in self._tasks(dag_id, looks)]
        if "failed" in states:
            return DagRun(dag_id, run_id, "failed")
        return DagRun(dag_id, run_id, "success" if set(states) <= {"success", "skipped"} else "running")

    def tasks(self, dag_id: str, run_id: str) -> list[TaskRun]:
        assert run_id == f"run-of-{dag_id}"
        # Airflow gives them in no order
        return self._tasks(dag_id, self._looks[dag_id])[::-1]

    def is_busy(self, dag_id: str) -> bool:
        self._busy_looks -= 1
        return self._busy_looks >= 0

    def runs_started_by(self, dag_id: str, run_id: str) -> list[DagRun]:
        self._asked += 1
        if self._busy_looks > 0:
            return []
        if self._asked % 2:
            # as Airflow does while the run is there and has not begun
            raise TransientError("500")
        following = {"ingest_documents": "train_encoder", "train_encoder": "release_encoder"}[dag_id]
        other = DagRun("somebody_elses", "run-x", "queued")
        return [other] if following == self._deaf else [other, DagRun(following, f"run-of-{following}", "queued")]

    def log(self, dag_id: str, run_id: str, task: TaskRun) -> list[str]:
        return [f"line {number}" for number in range(40)]

    def last_line(self, dag_id: str, run_id: str, task: TaskRun) -> str:
        return f"{task.task_id} is at it"

    def _tasks(self, dag_id: str, looks: int) -> list[TaskRun]:
        found, before = [], "success"
        for position, name in enumerate(dict(chain.CHAIN)[dag_id]):
            state = "success" if position < looks else self._at_work if position == looks else ""
            if before == "skipped" or (f"{dag_id}.{name}" == self._skipping and state == "success"):
                state = "skipped"
            if f"{dag_id}.{name}" == self._failing and state == "success":
                state = "failed"
            if before in ("failed", "upstream_failed"):
                state = "upstream_failed"
            before = state
            found.append(TaskRun(name, state, 1, NOON if state else None, NOON + timedelta(seconds=2) if state else None))
        return found


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Iterator[int] = iter(range(10_000))
    monkeypatch.setattr(chain.time, "monotonic", lambda: next(clock))


def follow(airflow: Airflow) -> list[Any]:
    return list(chain.follow(airflow, "run-of-ingest_documents", sleep=lambda _: None))


def test_the_chain_is_followed_to_its_end() -> None:
    last = follow(FakeAirflow())[-1]
    assert [step.state for step in last.steps] == ["success"] * sum(len(tasks) for _, tasks in chain.CHAIN)


def test_the_task_that_failed_is_named_with_the_end_of_its_log() -> None:
    with pytest.raises(chain.TaskFailedError, match=r"train_encoder\.gate failed.*task_id=gate/attempt=1\.log") as failure:
        follow(FakeAirflow(failing="train_encoder.gate"))
    assert failure.value.lines[-1] == "line 39"
    assert len(failure.value.lines) == 25


def test_a_running_task_shows_what_it_says_itself() -> None:
    console = Console(width=200, record=True)
    looks = chain.follow(FakeAirflow(), "run-of-ingest_documents", sleep=lambda _: None)
    console.print(chain_table(next(looks)))
    text = console.export_text()
    assert "ingest is at it" in text
    assert "publish is at it" not in text


def test_a_run_that_does_not_start_is_not_waited_for_for_ever() -> None:
    with pytest.raises(TransientError, match="release_encoder has not started"):
        follow(FakeAirflow(deaf="release_encoder"))


def test_a_run_that_waits_for_an_earlier_one_of_its_dag_is_waited_for() -> None:
    last = follow(FakeAirflow(busy_looks=200))[-1]
    assert {step.state for step in last.steps} == {"success"}


def test_a_chain_in_which_a_task_had_nothing_to_do_ends_there() -> None:
    airflow = FakeAirflow(skipping="train_encoder.changed")
    last = follow(airflow)[-1]
    states = {f"{step.dag_id}.{step.task_id}": step.state for step in last.steps}
    assert states["ingest_documents.publish"] == "success"
    assert states["train_encoder.register"] == "skipped"
    # nobody waits for what does not start
    assert states["release_encoder.fetch"] == ""


def test_a_deferred_task_is_at_work() -> None:
    looks = chain.follow(FakeAirflow(at_work="deferred"), "run-of-ingest_documents", sleep=lambda _: None)
    (ingest, *_) = next(looks).steps
    assert (ingest.state, ingest.ended_at, ingest.says) == ("running", None, "ingest is at it")


def test_a_log_has_a_line_for_each_change_and_no_more() -> None:
    console = Console(force_terminal=False, record=True, width=120)
    watch(chain.follow(FakeAirflow(), "run-of-ingest_documents", sleep=lambda _: None), console)
    lines = console.export_text().splitlines()
    assert lines[:2] == ["ingest_documents.ingest: running", "ingest_documents.ingest: success 2.0 s"]
    assert len(lines) == len(set(lines)) == 22


def test_the_table_shows_every_task_and_the_times_add_up() -> None:
    last = follow(FakeAirflow())[-1]
    console = Console(width=140, record=True)
    console.print(chain_table(last))
    times = Times()
    times.add_steps(last.steps)
    console.print(times.table(21.0))
    text = console.export_text()
    assert text.count("done") == 11
    assert "release_encoder.promote" in text
    assert "21.0" in text
