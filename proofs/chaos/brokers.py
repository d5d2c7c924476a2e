"""Faults of the broker: the embedded one is paused and restarted without loss, another is killed by commands.

The embedded broker is never killed: by its own documentation it loses the last seconds of acknowledged messages.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import psutil

from proofs.chaos.supervised import Supervised
from twinline.stack import broker as embedded

_COMMAND_SECONDS = 120


class Broker(Protocol):
    """A broker with named faults."""

    @property
    def acts(self) -> Sequence[str]:
        """Return the names of its faults."""

    def act(self, name: str, seconds: float) -> None:
        """Do one of `acts`; the broker is back, or coming back, after about `seconds`."""


class EmbeddedBroker:
    """The broker of the stack: SIGSTOP and SIGCONT, and its own lossless stop and start."""

    acts = ("paused", "restarted")

    def __init__(self, supervised: Supervised, data_folder: Path) -> None:
        self._supervised = supervised
        self._data_folder = data_folder

    def act(self, name: str, seconds: float) -> None:
        if name == "paused":
            frozen = self._processes()
            for process in frozen:
                process.send_signal(signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                for process in frozen:
                    process.send_signal(signal.SIGCONT)
        else:
            self._command("stop")
            time.sleep(seconds)
            self._command("start")

    def _processes(self) -> list[psutil.Process]:
        pid = self._supervised.wait_for_pid(10)
        found = [child for child in psutil.Process(pid).children(recursive=True) if child.name().startswith("noida")]
        if not found:
            raise RuntimeError(f"no broker process below pid {pid}: nothing to pause")
        return found

    def _command(self, act: str) -> None:
        command = [str(embedded.binary()), act, "kafka", "--data-dir", str(self._data_folder)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_SECONDS)


class NamedBroker:
    """A broker elsewhere: CHAOS_BROKER_KILL kills it, CHAOS_BROKER_START starts it again. Without them it has no faults."""

    def __init__(self) -> None:
        self._kill = os.environ.get("CHAOS_BROKER_KILL", "")
        self._start = os.environ.get("CHAOS_BROKER_START", "")
        self.acts = ("killed",) if self._kill else ()

    def act(self, name: str, seconds: float) -> None:
        self._run(self._kill)
        time.sleep(seconds)
        if self._start:
            self._run(self._start)

    def _run(self, command: str) -> None:
        # The user of this proof wrote these two commands, and they may need the shell.
        subprocess.run(command, shell=True, check=True, stdin=subprocess.DEVNULL, timeout=_COMMAND_SECONDS)  # noqa: S602
