"""The steps of a release as typed commands: the one list of commands for promotion, roll-back and retirement."""

import inspect
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.workspace import Workspace
from twinline.contract.errors import ContractError


def _parameters() -> dict[str, set[str]]:
    """Return the parameters of each command."""
    from twinline.release.__main__ import app

    return {
        command.name or "": set(inspect.signature(command.callback).parameters)
        for command in app.registered_commands
        if command.callback
    }


def to_promote(release: str) -> list[str]:
    """Return the command that activates a release."""
    return ["promote" if "promote" in _parameters() else "switch", release]


def to_roll_back(release: str) -> list[str]:
    """Return the command that goes back to a release."""
    return ["rollback", "--to", release] if "rollback" in _parameters() else ["switch", release]


def to_retire(release: str) -> list[str]:
    """Return the command that retires a release, even the target of a roll-back."""
    return ["retire", release, *(["--force"] if "force" in _parameters()["retire"] else [])]


@dataclass(frozen=True)
class Done:
    """The outcome of a command."""

    command: str
    code: int
    seconds: float
    errors: str
    result: Mapping[str, object] = field(default_factory=dict)


def run_release(workspace: Workspace, arguments: Sequence[str], module: Sequence[str] = ("-m", "twinline.release")) -> Done:
    """Run a step, and return its outcome; the caller judges a failure."""
    shown = f"release {' '.join(arguments)}"
    print(f"$ {shown}", file=sys.stderr, flush=True)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, *module, *arguments],
        cwd=workspace.folder,
        env=dict(workspace.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    result = json.loads(lines[-1]) if done.returncode == 0 and lines and lines[-1].startswith("{") else {}
    return Done(shown, done.returncode, round(time.monotonic() - started, 2), done.stderr[-8_000:], result)


def require(done: Done) -> Done:
    """Return a successful outcome; raise ContractError with the command's own message after a failure."""
    if done.code != 0:
        raise ContractError(f"`{done.command}` ended with {done.code}: {done.errors}")
    return done
