"""A detached command is found again by any process, and nothing of it is left when it is ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

# A program of two processes that says where it is.
_SLEEPS = (
    "import subprocess, sys; print('began', flush=True); subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
)

# Each starts processes.
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def detached() -> Any:
    from twinline.scheduling import detached as module

    return module


@pytest.fixture
def folder(detached: Any, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "task"
    detached.end(tmp_path / "task")


@pytest.fixture
def start(detached: Any, folder: Path) -> Callable[[str], Any]:
    return lambda program: detached.start(folder, [sys.executable, "-c", program], dict(os.environ), folder.parent)


def processes_of(detached: Any, folder: Path) -> list[int]:
    return [process.pid for process in detached._members(folder) if process.status() != psutil.STATUS_ZOMBIE]


def test_a_command_ends_and_waits_to_be_collected(detached: Any, folder: Path, start: Callable[[str], Any]) -> None:
    start("import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)")
    assert detached.wait(folder, 20)
    assert (detached.look(folder).phase, detached.look(folder).exit_code) == ("ended", 3)
    assert sorted(detached.tail(folder, 10)) == ["one", "two"]
    # asked again, it is not run again: nobody has taken its result
    assert start("import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)").phase == "ended"
    detached.end(folder)
    assert detached.look(folder).phase == "absent"


def test_whoever_asks_again_finds_the_one_that_runs(detached: Any, folder: Path, start: Callable[[str], Any]) -> None:
    first = start(_SLEEPS)
    assert first.phase == "running"
    wait_for(lambda: len(processes_of(detached, folder)) == 3)
    before = processes_of(detached, folder)
    assert start(_SLEEPS) == first
    assert processes_of(detached, folder) == before
    # it is a session of its own: what ends this process's group does not reach it
    assert all(os.getsid(pid) != os.getsid(0) for pid in before)


def test_two_that_start_at_once_start_one(detached: Any, folder: Path, start: Callable[[str], Any], tmp_path: Path) -> None:
    folder.mkdir()
    marks = tmp_path / "marks"
    program = f"import time; open({str(marks)!r}, 'a').write('x'); time.sleep(1)"
    detached._write(folder / "command.json", {"command": [sys.executable, "-c", program], "cwd": str(tmp_path)})
    for _ in range(4):
        subprocess.run([sys.executable, "-m", "twinline.scheduling.detached", str(folder)], check=True)
    wait_for((folder / "ended.json").exists)
    assert marks.read_text() == "x"
    assert detached.look(folder).phase == "ended"


def test_ending_it_ends_what_it_started(detached: Any, folder: Path, start: Callable[[str], Any]) -> None:
    start(_SLEEPS)
    wait_for(lambda: len(processes_of(detached, folder)) == 3)
    began = time.monotonic()
    detached.end(folder)
    assert processes_of(detached, folder) == []
    assert not folder.exists()
    # they were asked, not waited for
    assert time.monotonic() - began < 15


def test_one_that_was_killed_is_lost_and_its_rest_is_gone_before_it_starts_again(
    detached: Any, folder: Path, start: Callable[[str], Any]
) -> None:
    start(_SLEEPS)
    wait_for(lambda: len(processes_of(detached, folder)) == 3)
    holder = int(detached._read(folder / "started.json")["pid"])
    os.kill(holder, signal.SIGKILL)
    wait_for(lambda: detached.look(folder).phase == "lost")
    left = processes_of(detached, folder)
    assert left, "the command itself lives on without the one that held its lock"
    assert start(_SLEEPS).phase == "running"
    assert not set(left) & set(processes_of(detached, folder))


def test_another_command_takes_the_place_of_the_one_that_runs(detached: Any, folder: Path, start: Callable[[str], Any]) -> None:
    start(_SLEEPS)
    before = processes_of(detached, folder)
    start("print('other')")
    assert detached.wait(folder, 20)
    assert detached.tail(folder, 5) == ["other"]
    assert not set(before) & set(processes_of(detached, folder))


def test_a_program_that_is_not_there_says_so(detached: Any, folder: Path) -> None:
    detached.start(folder, ["no-such-program"], dict(os.environ), folder.parent)
    assert detached.wait(folder, 20)
    assert detached.look(folder).exit_code == 127
    assert "no-such-program" in detached.tail(folder, 5)[0]


def test_output_is_read_line_by_line_and_of_a_bar_its_newest_state(detached: Any, folder: Path) -> None:
    folder.mkdir()
    (folder / "output").write_bytes(b"one\n 10%\r 20%\r100%\nhalf 1%\rhalf 2%")
    lines, progress, offset = detached.read_output(folder, 0)
    assert (lines, progress) == (["one", "100%"], "half 2%")
    with (folder / "output").open("ab") as file:
        file.write(b"\rhalf 9%\nlast\n")
    assert detached.read_output(folder, offset)[:2] == (["half 9%", "last"], "")


def wait_for(is_so: Callable[[], bool], seconds: float = 20) -> None:
    give_up = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.05)
