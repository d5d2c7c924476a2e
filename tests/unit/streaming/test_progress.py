"""How far a build is, is told in lines, in a file, and by an estimate that rests on what was done lately."""

import io
import os
from dataclasses import replace
from pathlib import Path

from streaming.building.progress import BuildProgress
from twinline.clients.builds import duration, running_builds, write_build


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_a_log_gets_a_line_now_and_then_and_the_file_goes_at_the_end(tmp_path: Path) -> None:
    clock, log = Clock(), io.StringIO()
    with BuildProgress(tmp_path, "r1", 1_000, log, clock) as progress:
        progress.enter("log", already_done=200)
        for _ in range(30):
            clock.at += 1
            progress(10)
        (build,) = running_builds(tmp_path)
        assert (build.release, build.phase, build.pid) == ("r1", "log", os.getpid())
        assert build.done == 500
        # what an earlier attempt did says nothing of the rate
        assert build.per_second == 10
        assert build.remaining_seconds == 50
    lines = log.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[-1] == "building r1: log, 500 of 1,000 messages (50%, 10.0 a second), about 50 s left"
    assert running_builds(tmp_path) == []


def test_the_estimate_forgets_how_it_was_long_ago(tmp_path: Path) -> None:
    clock = Clock()
    with BuildProgress(tmp_path, "r1", 10_000, io.StringIO(), clock) as progress:
        progress.enter("log")
        for rate, seconds in ((100, 20), (10, 100)):
            for _ in range(seconds):
                clock.at += 1
                progress(rate)
        assert round(progress.state().per_second) == 10


def test_a_build_that_was_killed_is_not_told_as_running(tmp_path: Path) -> None:
    clock = Clock()
    with BuildProgress(tmp_path, "r1", 10, io.StringIO(), clock) as progress:
        progress.enter("log")
        state = progress.state()
        assert state.remaining_seconds is None
        # the same number, another process
        write_build(tmp_path, replace(state, process_started=state.process_started - 1_000))
        assert running_builds(tmp_path) == []
        write_build(tmp_path, replace(state, pid=2**22 + 1))
        assert running_builds(tmp_path) == []


def test_durations_are_said_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (None, 30.2, 600, 9_000)] == [
        "time left not known yet", "about 30 s left", "about 10 min left", "about 2.5 h left",
    ]  # fmt: skip
