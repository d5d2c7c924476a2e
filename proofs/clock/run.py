"""Random steps of the broker's clock and of ours under updates and deletions, and rollbacks between them.

Real: the consumer's `handle()` with decode, decisions, heads, chunks and surplus, on two collections of the embedded store, often
opened again; the registry with its Git tags, the part of a rollback that asks a clock. Planted: the messages' append times, since
the embedded broker's clock cannot be set; this process's `time.time()`; an encoder whose vector is the hash of the text.

Each key has one partition. Each partition has a clock of its own, as on brokers of a cluster. The expected state of a key is its
last message, whatever its time.
"""

import logging
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from proofs.clock.index import Index
from proofs.clock.rollbacks import Rollbacks
from streaming.decode import Message
from twinline.contract.documents.records import Deletion, Document, encode_key, encode_value, version_header

PARTITIONS: Final = 3
KEYS: Final = 60
# Steps of a clock, in ms: a correction by NTP, an hour, a day, a battery that died.
_STEPS_MS: Final = (1, 40, 1_000, 3_600_000, 86_400_000, 20 * 365 * 86_400_000)
_NOW_MS: Final = 1_763_800_000_000
# A wait for a clock that stepped back by a day would take a day; a few seconds are the load of other work.
_SLACK_SECONDS: Final = 5.0


@dataclass
class Log:
    """A log in partitions, each with a clock of its own; `last` is the last state of each key: its text, None once deleted."""

    chance: random.Random
    messages: dict[int, list[Message]] = field(default_factory=lambda: {number: [] for number in range(PARTITIONS)})
    clocks: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), _NOW_MS))
    last: dict[str, str | None] = field(default_factory=dict)
    deletions: int = 0

    def step(self, milliseconds: int) -> None:
        """Step the clock of one partition; an append time is never negative."""
        partition = self.chance.randrange(PARTITIONS)
        self.clocks[partition] = max(0, self.clocks[partition] + milliseconds)

    def append(self) -> None:
        """Append an update or a deletion of some key; every third key carries versions of its sender."""
        number = self.chance.randrange(KEYS)
        key, partition = f"k{number}", number % PARTITIONS
        log = self.messages[partition]
        version = len(log) if number % 9 < 3 else None
        # Of unlike length, so that surplus chunks would be seen.
        text = " ".join([f"{key} says {len(log)}"] + ["more words of it"] * self.chance.randrange(12))
        is_deletion = self.chance.random() < 0.25
        item = Deletion("clock", key, version) if is_deletion else Document("clock", key, text, version=version)
        value = encode_value(item) if isinstance(item, Document) else None
        headers = version_header(item) if isinstance(item, Deletion) else []
        self.clocks[partition] += self.chance.randrange(3)
        log.append(Message(partition, len(log), self.clocks[partition], encode_key("clock", key), value, headers))
        self.last[key] = None if is_deletion else text
        self.deletions += is_deletion


class OwnClock:
    """This process's wall clock, which can be stepped."""

    def __init__(self) -> None:
        self.shift_seconds = 0.0
        self._time = time.time

    def __call__(self) -> float:
        """Return the stepped time, not before 1980: Git knows no earlier one."""
        return max(self._time() + self.shift_seconds, 315_532_800.0)


def measure_clock(steps: int, seed: int) -> dict[str, Any]:
    """Step clocks under load; return the counts. `failures` names what is wrong, empty when nothing is."""
    began, chance, clock = time.monotonic(), random.Random(seed), OwnClock()  # noqa: S311 (a seed, no secret)
    # A warning at every step would hide the report.
    logging.disable(logging.WARNING)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clock-")))
        rollbacks = Rollbacks(folder / "project")
        usual = [rollbacks.switch() for _ in range(4)]
        stack.enter_context(_stepped(clock))
        log, indexes = Log(chance), [stack.enter_context(Index(folder / name)) for name in ("first", "second")]
        broker_steps, stepped = 0, []
        for step in range(steps):
            milliseconds = chance.choice(_STEPS_MS) * chance.choice((-1, 1))
            if chance.random() < 0.5:
                log.step(milliseconds)
                broker_steps += 1
            else:
                clock.shift_seconds += milliseconds / 1000
            for _ in range(chance.randint(1, 4)):
                log.append()
            for index in indexes:
                index.consume(log.messages, chance)
            if step % max(1, steps // 20) == 0:
                # The worst moment for a rollback: right after a step.
                clock.shift_seconds -= 86_400
                stepped.append(rollbacks.switch())
        for index in indexes:
            index.catch_up(log.messages, chance)
        faults = [fault for index in indexes for fault in index.faults(log.last)]
        alarms = sum(index.alarms() for index in indexes)
    report = {
        "steps": steps,
        "broker_steps": broker_steps,
        "own_steps": steps - broker_steps,
        "messages": sum(map(len, log.messages.values())),
        "deletions": log.deletions,
        "documents": len(log.last),
        "lost": len(faults),
        "examples": faults[:5],
        "alarms": alarms,
        "rollbacks": len(stepped),
        "rollback_usual_seconds": round(statistics.median(usual), 2),
        "rollback_longest_seconds": round(max(stepped), 2),
        "rollbacks_without_effect": rollbacks.without_effect,
        "seconds": round(time.monotonic() - began, 1),
    }
    logging.disable(logging.NOTSET)
    return {**report, "failures": list(_failures(report, max(usual)))}


@contextmanager
def _stepped(clock: OwnClock) -> Iterator[None]:
    with patch("time.time", clock):
        yield


def _failures(report: Mapping[str, Any], usual_seconds: float) -> Sequence[str]:
    found = []
    if report["lost"]:
        found.append(f"{report['lost']} documents are not in their last state")
    if not report["alarms"]:
        found.append("no step back was an alarm")
    if report["rollback_longest_seconds"] > 2 * usual_seconds + _SLACK_SECONDS:
        found.append(f"a rollback took {report['rollback_longest_seconds']} s, {usual_seconds:.2f} s without steps")
    if report["rollbacks_without_effect"]:
        found.append(f"{report['rollbacks_without_effect']} rollbacks left the other version in production")
    return found
