"""Separate processes for measurements: for a single act, or for answers, a line of JSON for a line of JSON."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bench.checkout import CHECKOUT
from twinline.contract.errors import ContractError, TransientError


def run_once(module: str, *arguments: str) -> Any:
    """Run a module of ours to its end; return the JSON of its last line.

    Raises:
        ContractError: it failed; its own message is above.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        # Without the settings, which may be many and long.
        raise ContractError(f"`{' '.join(command[:6])}` ended with {done.returncode}, its message is above")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def answering(command: Sequence[str], environment: Mapping[str, str], log: IO[Any]) -> Iterator[subprocess.Popen[str]]:
    """Run an answering process while the block runs; its other output goes to `log`."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=CHECKOUT, env=dict(environment)
    )
    try:
        yield process
    finally:
        try:
            # The process ends with its standard input.
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(process: subprocess.Popen[str], request: Mapping[str, Any], name: str, log: Path) -> dict[str, Any]:
    """Send one request and return its answer; raises as `answer_of` does."""
    with suppress(BrokenPipeError):
        print(json.dumps(request), file=process.stdin, flush=True)
    return answer_of(process, name, log)


def answer_of(process: subprocess.Popen[str], name: str, log: Path) -> dict[str, Any]:
    """Return a process's next answer.

    Raises:
        TransientError: it ended without one.
    """
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise TransientError(f"{name} ended with {process.wait()} before it answered: see {log}")
    answer: dict[str, Any] = json.loads(line)
    return answer
