"""`python -m proofs.kills.kill_at PLAN release ARGUMENTS`: run a step of a release with a kill at a named point.

The product has no hook for it: this module wraps the function at the point before the step begins. PLAN is JSON.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Victim = Literal["self", "online", "triton", "broker paused"]

_PAUSE_SECONDS: Final = 4.0


@dataclass(frozen=True)
class Plan:
    """The victim and the point of a kill.

    Attributes:
        point: `module:function` or `module:Class.method`; empty: no kill.
        when: before or after the call.
        call: the number of the call, from 1.
        delay_seconds: delay of the kill after the point, while the call goes on.
        victim: this process, or a part of the stack.
        in_builder: the point is in the builder, which `release build` starts.
        checkout: the Git repository that holds the registry.
    """

    checkout: str
    point: str = ""
    when: Literal["before", "after"] = "before"
    call: int = 1
    delay_seconds: float = 0.0
    victim: Victim = "self"
    in_builder: bool = False

    def to_json(self) -> str:
        """Return the plan for the command line."""
        return json.dumps(asdict(self))


def strike(victim: Victim) -> None:
    """Kill with -9. The embedded broker would lose acknowledged messages, so it is paused for some seconds instead."""
    if victim == "self":
        os.kill(os.getpid(), signal.SIGKILL)
    from twinline.clients.settings import load_settings
    from twinline.stack import processes
    from twinline.stack.supervisor import Supervisor

    home = load_settings().home
    if victim == "broker paused":
        held = processes.find(home, "broker")
        for process in held:
            process.suspend()
        time.sleep(_PAUSE_SECONDS)
        for process in held:
            process.resume()
        return
    pid = Supervisor(home).programs()[victim].pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def wrap(plan: Plan) -> None:
    """Put the kill at its point."""
    module, _, path = plan.point.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def killing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != plan.call:
            return original(*arguments, **options)
        if plan.when == "before":
            _strike_in(plan)
        answer = original(*arguments, **options)
        if plan.when == "after":
            _strike_in(plan)
        return answer

    setattr(owner, name, killing)


def _strike_in(plan: Plan) -> None:
    print(f"kill_at: {plan.victim} {plan.when} {plan.point}", file=sys.stderr, flush=True)
    if plan.delay_seconds:
        timer = threading.Timer(plan.delay_seconds, strike, [plan.victim])
        timer.daemon = True
        timer.start()
    else:
        strike(plan.victim)


def wrap_builder(plan: Plan) -> None:
    """Run the builder that this process starts under the same plan."""
    original = subprocess.run
    inside = json.dumps(asdict(plan) | {"in_builder": False})

    def run(command: list[str], **options: Any) -> Any:
        if command[1:3] == ["-m", "streaming"]:
            command = [command[0], "-m", "proofs.kills.kill_at", inside, *command[2:]]
        return original(command, **options)

    setattr(subprocess, "run", run)  # noqa: B010  (its type says that nobody may)


def main() -> None:
    """Place the kill, then run the wanted module."""
    plan, module, *arguments = sys.argv[1:]
    placed = Plan(**json.loads(plan))
    from twinline.clients import telemetry
    from twinline.clients.settings import PROJECT_VARIABLE

    telemetry.apply()
    # The proof has a registry of its own, so that the user's tags stay untouched.
    os.environ[PROJECT_VARIABLE] = placed.checkout
    if placed.in_builder:
        wrap_builder(placed)
    elif placed.point:
        wrap(placed)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
