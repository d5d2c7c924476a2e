"""One child process, seen from its parent: it is sent requests, given time and memory, and ended."""

import json
import logging
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from etl.reading.frames import BadFrameError, framed, receive
from twinline.contract.documents.records import MAX_TEXT_BYTES
from twinline.contract.errors import ContractError

_START_SECONDS: Final = 60
_PAGE_BYTES: Final = resource.getpagesize()
# A child that was taken over, or that leaks, reads no more files than these.
_FILES_PER_CHILD: Final = 5_000
_MAX_CHILD_BYTES: Final = 1 << 30
# A row of a table as JSON; and an answer: JSON spells one byte as six.
_MAX_FRAME_BYTES: Final = 8 * MAX_TEXT_BYTES
_WAITING_PER_COMPUTING: Final = 4
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost; each limit grows with its bytes, and ends somewhere.

    Args:
        seconds: of computing; four times as much of waiting.
        memory_bytes: of address space that the child may add.
        output_chars: of title and text, or of a table's rows as JSON.
    """

    seconds: float
    memory_bytes: int
    output_chars: int

    @classmethod
    def of_document(cls, size: int) -> "Limits":
        """Return the limits of a file that holds one document."""
        return cls(60 + 10 * size / (1 << 20), (512 << 20) + 64 * size, min(max(1 << 20, 20 * size), 2 * MAX_TEXT_BYTES))

    @classmethod
    def of_table(cls, size: int) -> "Limits":
        """Return the limits of a table; `seconds` is for one portion of its rows."""
        # Columns of equal values are packed a hundred times as small, and pyarrow reserves more than it uses.
        return cls(60 + 10 * size / (1 << 20), (1 << 30) + 64 * size, max(64 << 20, 200 * size))


class CrashedError(Exception):
    """The child has died."""


class SlowError(Exception):
    """The child has had its time."""


class Child:
    """One child process."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.files = 0
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-m", "etl.reading", str(theirs.fileno()), *modules],
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._seen = psutil.Process(self._process.pid)
        # Held open: it is read before every file. None where there is no /proc.
        statm = f"/proc/{self._process.pid}/statm"
        self._statm = os.open(statm, os.O_RDONLY | os.O_CLOEXEC) if os.path.exists(statm) else None  # noqa: PTH110
        try:
            self._greet()
        except BaseException:
            self.end()
            raise
        self._size = self.address_space()

    def _greet(self) -> None:
        try:
            answer = self.receive(Limits(_START_SECONDS, 0, 0))
        except (CrashedError, SlowError, BadFrameError) as exc:
            command = f"{sys.executable} -P -s -m etl.reading"
            raise ContractError(f"the process that reads files does not start ({exc}): run {command} to see why") from exc
        missing = answer.get("ready") if isinstance(answer, dict) else None
        if missing:
            logging.getLogger(__name__).warning("files are read without: %s", ", ".join(map(str, missing)))

    def is_spent(self) -> bool:
        """Return whether the child shall read no further file."""
        self._size = self.address_space()
        return self.files >= _FILES_PER_CHILD or not 0 < self._size < _MAX_CHILD_BYTES

    def permit(self, limits: Limits) -> None:
        """Let the child take as much more memory as one request may."""
        self.files += 1
        if hasattr(resource, "prlimit"):
            wanted = self._size + limits.memory_bytes
            try:
                hard = resource.prlimit(self._process.pid, resource.RLIMIT_AS)[1]
                soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
                resource.prlimit(self._process.pid, resource.RLIMIT_AS, (soft, hard))
            except ProcessLookupError as exc:
                raise CrashedError(self._death()) from exc

    def address_space(self) -> int:
        """Return the bytes of the child's address space; 0 once it has died."""
        try:
            if self._statm is None:
                return int(self._seen.memory_info().vms)
            return int(os.pread(self._statm, 32, 0).split()[0]) * _PAGE_BYTES
        except (psutil.Error, OSError):
            return 0

    def send(self, value: Any, content: bytes = b"") -> None:
        """Send a request, and the content that belongs to it."""
        self._connection.settimeout(_START_SECONDS)
        try:
            self._connection.sendall(framed(json.dumps(value, ensure_ascii=False)) + content)
        except OSError as exc:
            raise CrashedError(self._death()) from exc

    def send_descriptor(self, descriptor: int) -> None:
        """Send an open file."""
        try:
            socket.send_fds(self._connection, [b"f"], [descriptor])
        except OSError as exc:
            raise CrashedError(self._death()) from exc

    def receive(self, limits: Limits) -> Any:
        """Return the next answer.

        Raises:
            SlowError: it does not come in time.
            CrashedError: the child has died.
            BadFrameError: it is no answer.
        """
        self._await(limits.seconds)
        self._connection.settimeout(limits.seconds)
        try:
            return receive(self._connection, _MAX_FRAME_BYTES)
        except TimeoutError as exc:
            raise SlowError(f"half an answer after {limits.seconds:.3g} s") from exc
        except OSError as exc:
            raise CrashedError(self._death()) from exc
        except BadFrameError as exc:
            if self._has_ended():
                raise CrashedError(self._death()) from exc
            raise

    def end(self) -> None:
        """Kill the child, unless it has gone already."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        if self._statm is not None:
            os.close(self._statm)

    def _await(self, seconds: float) -> None:
        began, computed_before = time.monotonic(), None
        while not select.select([self._connection], [], [], min(1.0, seconds / 10))[0]:
            waited, computed = time.monotonic() - began, self._computed()
            # Most files are read before the first look: asking for the time costs more than reading a short one.
            computed_before = computed - waited if computed_before is None else computed_before
            if computed - computed_before >= seconds or waited >= _WAITING_PER_COMPUTING * seconds:
                raise SlowError(f"no answer after {waited:.3g} s, the limit is {seconds:.3g} s of computing")

    def _computed(self) -> float:
        """Return the seconds that the child has computed; 0 once it has died."""
        try:
            return float(sum(self._seen.cpu_times()[:2]))
        except psutil.Error:
            return 0

    def _has_ended(self) -> bool:
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _death(self) -> str:
        code = self._process.poll() if self._has_ended() else None
        return "the reader closed its connection" if code is None else f"the reader ended with {code}"


def _environment() -> dict[str, str]:
    """Return the few variables that a child gets: no address, no secret, and our own modules first."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(_ROOT),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        # Threads would reserve much more address space than they use.
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "ARROW_IO_THREADS": "1",
    }
