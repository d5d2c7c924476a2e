"""Both commands of README in one clone: demo, then test; in another clone test, then demo. Each must end with 0.

clone ─> make setup ─> the first ─> the second ─> twinline status ─> make down ─> git status

The demo leaves its stack running, so the tests of the first order run beside it: on the same home, registry and DVC cache.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from proofs.strange_machine.machines import Machine, plain_machine
from twinline.contract.canonical import JSON

ORDERS: Final = (("demo", "test"), ("test", "demo"))
_LIMIT_SECONDS: Final = 3_600.0


@dataclass(frozen=True)
class Step:
    """The outcome of one command; `seen` is its last line, or the end of its output where it failed."""

    order: str
    command: str
    passed: bool
    seconds: float
    seen: str


def measure_one_clone(workspace: Path) -> dict[str, JSON]:
    """Run both orders, print every step as it ends, and return the report.

    Args:
        workspace: keeps the clones, so that another run begins where set-up is done.
    """
    began = time.monotonic()
    steps = [asdict(step) for order in ORDERS for step in _in_order(order, workspace)]
    return {"steps": list(steps), "seconds": round(time.monotonic() - began, 1)}


def passed(report: dict[str, JSON]) -> bool:
    """Say whether every command ended well."""
    steps = report["steps"]
    return isinstance(steps, list) and bool(steps) and all(isinstance(step, dict) and step["passed"] for step in steps)


def _in_order(order: tuple[str, ...], workspace: Path) -> Iterator[Step]:
    name = "-".join(order)
    made = plain_machine(name, workspace)
    before = _changes(made)
    try:
        for target in ("setup", *order):
            yield (step := _step(name, made, "make", target))
            if not step.passed:
                return
        # The tests end no stack that they did not start.
        yield _step(name, made, ".venv/bin/twinline", "status")
    finally:
        yield _step(name, made, "make", "down")
    changed = sorted(_changes(made) - before)
    yield _told(Step(name, "git status", not changed, 0.0, ", ".join(changed) or "nothing that Git tracks has changed"))


def _step(order: str, made: Machine, *command: str) -> Step:
    began = time.monotonic()
    done = made.run(*command, limit_seconds=_LIMIT_SECONDS, is_set_up=True)
    said = done.stdout.strip()
    seen = (said.splitlines() or [""])[-1] if done.returncode == 0 else f"ended with {done.returncode}: {said[-3000:]}"
    return _told(Step(order, " ".join(command), done.returncode == 0, round(time.monotonic() - began, 1), seen))


def _changes(made: Machine) -> set[str]:
    return set(made.run("git", "status", "--porcelain", limit_seconds=60.0).stdout.splitlines())


def _told(step: Step) -> Step:
    verdict = "green" if step.passed else "FAILED"
    print(f"{step.order:<10} {step.command:<26} {verdict:<6} {step.seconds:>7.1f} s  {step.seen}", file=sys.stderr, flush=True)
    return step
