"""A task whose command takes long is deferred; the command outlives worker and triggerer, and is found again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import CHECKOUT

# One life of a worker or a triggerer, in a process of its own.
_LIFE = """
import asyncio, json, sys
sys.path.insert(0, sys.argv[1])
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from twinline.scheduling import command_task, detached
from airflow.sdk.exceptions import TaskDeferred
from twinline.scheduling.trigger import CommandEnd

command_task._PATIENCE_SECONDS = 0.5
what, arguments = sys.argv[2], json.loads(sys.argv[3])
task = command_task.CommandTask(
    task_id="t", command=["python", "-c", *arguments], takes_long=True, execution_timeout=timedelta(seconds=100)
)
context = {"dag": SimpleNamespace(dag_id="d"), "run_id": "manual__2026-05-01T00:00:00+00:00", "task": task}

async def first_event(trigger):
    async for event in trigger.run():
        return event.payload

def live():
    if what == "execute":
        return task.execute(context)
    if what == "resume":
        return task.resume_execution("resume", {"event": {}}, context)
    if what == "time is over":
        return task.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    if what == "look":
        return detached.look(command_task.command_folder(context, __import__("os").environ)).phase
    folder = str(command_task.command_folder(context, __import__("os").environ))
    kwargs = CommandEnd(folder, poll_seconds=0.1).serialize()[1]
    if what == "kill":
        return asyncio.run(CommandEnd(**kwargs).on_kill())
    return asyncio.run(first_event(CommandEnd(**kwargs)))

try:
    print(json.dumps(["returned", live()]))
except TaskDeferred as deferred:
    print(json.dumps(["deferred", deferred.trigger.serialize()[0], deferred.method_name, deferred.timeout.total_seconds()]))
except BaseException as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


class Lives:
    """Runs one life after the other over one home; each is over when the next begins."""

    def __init__(self, home: Path, program: str, *arguments: str) -> None:
        self._home = home
        self._arguments = [program, *arguments]

    def live(self, what: str, timeout: float = 60) -> list[Any]:
        """Return the last line of the life's output."""
        environment = {**os.environ, "AIRFLOW_HOME": str(self._home / "airflow"), "TWINLINE_HOME": str(self._home)}
        command = [sys.executable, "-W", "ignore", "-c", _LIFE, str(CHECKOUT / "dags"), what, json.dumps(self._arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=timeout)
        assert done.returncode == 0, done.stderr[-2000:]
        found: list[Any] = json.loads(done.stdout.splitlines()[-1])
        return found


# It ends when a file appears, says how often it was started, and where it is.
_WAITS = """
import json, os, pathlib, sys, time
home = pathlib.Path(sys.argv[1])
with (home / "starts").open("a") as file:
    file.write("x")
(home / "pid").write_text(str(os.getpid()))
give_up = time.monotonic() + 120  # a test that is killed leaves nothing for ever
while not (home / "go").exists() and time.monotonic() < give_up:
    time.sleep(0.05)
print("it went")
print(json.dumps({"release": "r1"}))
"""


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    yield Lives(tmp_path, _WAITS, str(tmp_path))
    (tmp_path / "go").touch()


def test_a_command_is_started_once_whoever_dies_meanwhile(lives: Lives, tmp_path: Path) -> None:
    state, trigger, method, limit = lives.live("execute")
    assert (state, trigger, method) == ("deferred", "twinline.scheduling.trigger.CommandEnd", "resume")
    assert 60 < limit <= 100
    # the worker is gone; another one tries the task again, and finds the command
    again = lives.live("execute")
    assert again[0] == "deferred"
    # with what is left of its time
    assert again[3] < limit
    # a triggerer dies while it waits
    with pytest.raises(subprocess.TimeoutExpired):
        lives.live("wait", timeout=6)
    (tmp_path / "go").touch()
    assert lives.live("wait") == ["returned", {"phase": "ended"}]
    assert lives.live("resume") == ["returned", {"release": "r1"}]
    assert (tmp_path / "starts").read_text() == "x"
    # collected: the same task, cleared by hand, runs again
    assert lives.live("look") == ["returned", "absent"]


def test_a_result_that_nobody_took_is_not_made_a_second_time(lives: Lives, tmp_path: Path) -> None:
    assert lives.live("execute")[0] == "deferred"
    (tmp_path / "go").touch()
    assert lives.live("wait") == ["returned", {"phase": "ended"}]
    # the worker died before it took it, and the task is tried again
    assert lives.live("execute") == ["returned", {"release": "r1"}]
    assert (tmp_path / "starts").read_text() == "x"


def test_a_command_that_was_killed_fails_the_try_and_the_next_one_starts_it_again(lives: Lives, tmp_path: Path) -> None:
    assert lives.live("execute")[0] == "deferred"
    session = os.getsid(int((tmp_path / "pid").read_text()))
    os.killpg(session, signal.SIGKILL)
    assert lives.live("wait") == ["returned", {"phase": "lost"}]
    raised, said = lives.live("resume")
    assert (raised, "nobody saw how it ended" in said) == ("AirflowException", True)
    (tmp_path / "go").touch()
    assert lives.live("execute") == ["returned", {"release": "r1"}]
    assert (tmp_path / "starts").read_text() == "xx"


@pytest.mark.parametrize(
    ("what", "outcome"),
    [
        # the time of the task is over
        ("time is over", "TaskDeferralTimeout"),
        # somebody ended the task, or cleared it
        ("kill", "returned"),
    ],
)
def test_a_task_that_is_given_up_ends_its_command(lives: Lives, tmp_path: Path, what: str, outcome: str) -> None:
    assert lives.live("execute")[0] == "deferred"
    pid = int((tmp_path / "pid").read_text())
    assert lives.live(what)[0] == outcome
    give_up = time.monotonic() + 10
    while _is_alive(pid):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert lives.live("look") == ["returned", "absent"]


def test_a_refusal_after_a_deferral_is_final(tmp_path: Path) -> None:
    refuses = Lives(tmp_path, "import sys; print('documents are missing'); sys.exit(3)")
    assert refuses.live("execute") == ["AirflowFailException", "documents are missing"]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # init may not have looked yet
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
