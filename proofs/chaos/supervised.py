"""A program that is restarted after every end, as by supervisord, with a record of every end."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.checkout import CHECKOUT

_RESTART_SECONDS = 0.1
_AFTER_A_CRASH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """One end: `code` is negative for a signal."""

    pid: int
    code: int
    started_at: float
    ended_at: float

    @property
    def was_killed(self) -> bool:
        """Return whether it died by SIGKILL."""
        return self.code == -signal.SIGKILL


class Supervised:
    """Keeps one program running until `stop()`."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.ended: list[Ended] = []
        self._command = list(command)
        self._environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._keep_running, name=f"supervise-{name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """Return the pid of the running process."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it; later ends are followed by restarts."""
        self._thread.start()

    def kill(self) -> int | None:
        """Send SIGKILL to the running process and return its pid; None if none runs."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid

    def wait_for_end(self, pid: int, limit_seconds: float) -> Ended | None:
        """Return the end of a process; None if it did not end in time."""
        with self._changed:
            self._changed.wait_for(lambda: any(one.pid == pid for one in self.ended), limit_seconds)
        return next((one for one in self.ended if one.pid == pid), None)

    def wait_for_pid(self, limit_seconds: float) -> int | None:
        """Return the pid as soon as a process runs."""
        deadline = time.monotonic() + limit_seconds
        while (pid := self.pid) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return pid

    def stop(self, limit_seconds: float) -> int | None:
        """Send SIGTERM and return the exit code; if it does not end in time, kill it and return None."""
        self._stopping.set()
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None
        finally:
            self._thread.join(5)
        return code

    def _keep_running(self) -> None:
        while not self._stopping.is_set():
            began = time.time()
            with self._log.open("ab") as log:
                self._process = process = subprocess.Popen(
                    self._command,
                    cwd=CHECKOUT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            code = process.wait()
            with self._changed:
                self.ended.append(Ended(process.pid, code, began, time.time()))
                self._changed.notify_all()
            self._stopping.wait(_RESTART_SECONDS if code == -signal.SIGKILL else _AFTER_A_CRASH_SECONDS)
