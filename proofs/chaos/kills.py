"""Killing: at an armed point, or at a random moment; each death is confirmed before it counts."""

import json
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

from proofs.chaos.deck import (
    BOTH,
    BROKER,
    ONLINE_AT_RANDOM,
    SELDOM,
    TRITON_AT_RANDOM,
    WHILE_STARTING,
    Kill,
    Pace,
    Participant,
    Record,
)
from proofs.chaos.points import CONSUMER_POINTS, TRITON_POINT, Points
from proofs.chaos.progress import Progress
from proofs.chaos.searcher import Searcher
from proofs.chaos.system import System

_REACH_SECONDS = 60.0
_RECOVERY_SECONDS = 240.0


class Killer:
    """Goes through the deck until enough deaths are confirmed."""

    def __init__(self, system: System, searcher: Searcher, progress: Progress, seed: int, pace: Pace) -> None:
        """Do nothing yet."""
        self.record = Record()
        self._system = system
        self._searcher = searcher
        self._progress = progress
        self._random = random.Random(seed)
        self._pace = pace
        self._points = Points(system.folder)
        self._broker_acts = deque(system.broker.acts)
        self._broker_thread: threading.Thread | None = None
        self._broker_fault: BaseException | None = None

    def run(self, kills: int, deck: Sequence[str], shuffled: bool, deadline: float) -> Record:
        """Kill until `kills` deaths are confirmed, or until `deadline` (monotonic); the caller compares the count."""
        left: list[str] = []
        while len(self.record.kills) < kills and time.monotonic() < deadline and not self.record.not_recovered:
            if not left:
                left = list(deck)
                if shuffled:
                    self._random.shuffle(left)
            self._do(left.pop(0))
        self._join_broker()
        return self.record

    def _do(self, act: str) -> None:
        if act == BROKER:
            self._disturb_broker()
            return
        time.sleep(self._random.uniform(*self._pace.quiet_seconds))
        if act in CONSUMER_POINTS:
            self._at_point(act, "consumer")
        elif act == TRITON_POINT:
            self._at_triton_point()
        elif act == TRITON_AT_RANDOM:
            self._at_random("triton", act)
        elif act == ONLINE_AT_RANDOM:
            self._at_random("online", act)
        elif act == WHILE_STARTING:
            self._at_random("online", ONLINE_AT_RANDOM, recover=False)
            time.sleep(self._random.uniform(0.5, 6.0))
            self._at_random("online", act)
        elif act == BOTH:
            self._at_random("triton", TRITON_AT_RANDOM, recover=False)
            time.sleep(self._random.uniform(0.0, 1.0))
            self._at_random("online", ONLINE_AT_RANDOM)
        else:
            # Armed only once the old process is dead: its successor must reach the point.
            self._at_random("online", ONLINE_AT_RANDOM, recover=False)
            self._at_point(act, "online", skip=0)

    def _at_point(self, point: str, participant: Participant, skip: int | None = None) -> None:
        most = min(1, self._pace.most_skipped) if point in SELDOM else self._pace.most_skipped
        before = self._progress.total
        entry = self._arm_and_wait(point, self._random.randint(0, most) if skip is None else skip)
        if entry is None:
            return
        ended = self._system.supervised["online"].wait_for_end(entry["pid"], _REACH_SECONDS)
        if ended is None or not ended.was_killed:
            raise RuntimeError(f"the process that reached {point} did not die there: {ended}")
        self._killed(Kill(point, participant, ended.ended_at), before)

    def _at_triton_point(self) -> None:
        triton = self._system.supervised["triton"]
        victim, before = triton.wait_for_pid(_REACH_SECONDS), self._progress.total
        if victim is None:
            raise RuntimeError("Triton does not run")
        if self._arm_and_wait(TRITON_POINT, self._random.randint(0, self._pace.most_skipped), victim) is None:
            return
        ended = triton.wait_for_end(victim, _REACH_SECONDS)
        if ended is None or not ended.was_killed:
            raise RuntimeError(f"Triton was to die by SIGKILL: {ended}")
        # Felt: the call failed. Otherwise it had just been answered, and this counts as a random moment.
        felt = self._reached()[-1].get("felt")
        self._killed(Kill(TRITON_POINT if felt else TRITON_AT_RANDOM, "triton", ended.ended_at), before)

    def _at_random(self, participant: Literal["online", "triton"], point: str, recover: bool = True) -> None:
        supervised, before = self._system.supervised[participant], self._progress.total
        supervised.wait_for_pid(_REACH_SECONDS)
        pid = supervised.kill()
        ended = None if pid is None else supervised.wait_for_end(pid, _REACH_SECONDS)
        if ended is None or not ended.was_killed:
            raise RuntimeError(f"{participant} was to die by SIGKILL: {ended}")
        self._killed(Kill(point, participant, ended.ended_at), before, recover)

    def _arm_and_wait(self, point: str, skip: int, victim: int | None = None) -> dict[str, Any] | None:
        """Return the process's note from the point; None, and count it, if the process never reached the point."""
        known = len(self._reached())
        beside = self._points.armed.with_suffix(".arming")
        beside.write_text(json.dumps({"point": point, "skip": skip, "victim": victim}))
        beside.replace(self._points.armed)
        give_up = time.monotonic() + _REACH_SECONDS
        while len(reached := self._reached()) <= known:
            if time.monotonic() > give_up and self._points.armed.exists():
                self._points.armed.unlink(missing_ok=True)
                if len(self._reached()) <= known:
                    self.record.unreached[point] += 1
                    _say(f"{point} was not reached in {_REACH_SECONDS:.0f} s")
                    return None
            time.sleep(0.02)
        return reached[known]

    def _reached(self) -> list[dict[str, Any]]:
        if not self._points.reached.exists():
            return []
        # A dying process may leave its last line incomplete.
        whole = self._points.reached.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def _killed(self, kill: Kill, committed_before: int, recover: bool = True) -> None:
        self.record.kills.append(kill)
        if not recover:
            return
        kill.search_seconds = self._searcher.wait_for_answer(kill.at, _RECOVERY_SECONDS)
        self._progress.wait_beyond(max(committed_before, 0), _RECOVERY_SECONDS)
        kill.index_seconds = time.time() - kill.at
        if kill.search_seconds is None or self._progress.total <= committed_before:
            self.record.not_recovered.append(f"{kill.point}: search {kill.search_seconds}, committed {self._progress.total}")
        _say(
            f"{len(self.record.kills):3} {kill.point}: answered after {kill.search_seconds or -1:.1f} s, "
            f"committing after {kill.index_seconds:.1f} s"
        )

    def _disturb_broker(self) -> None:
        self._join_broker()
        if not self._broker_acts:
            return
        act, seconds = self._broker_acts[0], self._random.uniform(1.0, 6.0)
        self._broker_acts.rotate(-1)
        _say(f"    broker {act} for {seconds:.1f} s")
        # At the same time as the next death.
        self._broker_thread = threading.Thread(target=self._act_on_broker, args=(act, seconds), name="broker", daemon=True)
        self._broker_thread.start()
        self.record.broker[act] += 1

    def _act_on_broker(self, act: str, seconds: float) -> None:
        try:
            self._system.broker.act(act, seconds)
        except Exception as exc:  # noqa: BLE001 (raised again where the thread is waited for)
            self._broker_fault = exc

    def _join_broker(self) -> None:
        if self._broker_thread is not None:
            self._broker_thread.join()
            self._broker_thread = None
        if self._broker_fault is not None:
            raise self._broker_fault


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
