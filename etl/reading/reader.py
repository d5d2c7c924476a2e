"""The parent's side of reading: requests to a child process, which is replaced after a failure.

Every way to fail ends as a DocumentError, for one reject; the next request finds a new child:

    reader_failed        the reader raised, or its answer is none
    reader_crashed       the child died, by a signal or by leaving
    out_of_memory        the reader wanted more than MEMORY_BYTES, and MEMORY_PER_BYTE for each byte of input
    too_slow             it computed for longer than the limit, or waited for four times as long
    output_too_large     its title and text are larger than the budget of its input
"""

import json
import logging
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import psutil

from etl.reading.frames import BadFrameError, framed, receive, reject_of
from etl.sources.items import Reject
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import MAX_TEXT_BYTES
from twinline.contract.errors import ContractError, DocumentError

MODULES: Final = ("etl.sources.formats", "etl.sources.tables")

_START_SECONDS: Final = 60
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


class Reader:
    """Reads files in a child process, which starts with the first request; close it at the end.

    Args:
        modules: modules with READERS and TABLES.
        limits: the same limits for every request, instead of those by size.
    """

    def __init__(self, modules: Sequence[str] = MODULES, limits: Limits | None = None) -> None:
        self._modules = modules
        self._limits = limits
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._drop()

    def document(self, data: bytes, name: str, ending: str, limit: int = MAX_TEXT_BYTES) -> tuple[str, str]:
        """Return title and text of a file's bytes.

        Args:
            limit: bytes of a compressed file once it is unpacked.

        Raises:
            DocumentError: the file cannot be read.
        """
        limits = self._limits or Limits.of_document(len(data))
        asked = {"do": "document", "ending": ending, "name": name, "budget": limits.output_chars, "limit": limit}
        answer = self._ask(asked, data, limits, name)
        match answer.get("document"):
            case [str(title), str(text)] if len(title) + len(text) <= limits.output_chars:
                return title, text
        raise self._broken(name, "its answer has no title and text")

    def line(self, data: bytes, name: str, number: int) -> tuple[int, Mapping[str, JSON]] | Reject:
        """Return number and object of a line of JSON, or its reject."""
        try:
            answer = self._ask({"do": "line", "name": name, "number": number}, data, Limits.of_document(len(data)), name)
            match answer:
                case {"object": dict(found)}:
                    return number, found
                case {"reject": form}:
                    return reject_of(form, name)
            raise self._broken(name, "its answer has no object")
        except BadFrameError as exc:
            return Reject(name, "reader_failed", f"{name}: {exc}", number)
        except DocumentError as exc:
            return Reject(name, exc.reason, str(exc), number)

    def rows(self, stream: BinaryIO, size: int, name: str, ending: str) -> Iterator[tuple[int, Any] | Reject]:
        """Yield (line number, row) or a reject for every row of a table; what ends it early is its last reject.

        Args:
            stream: a local file, at its beginning.
            size: of the file, in bytes.
        """
        limits = self._limits or Limits.of_table(size)
        asked = {"do": "table", "ending": ending, "name": name, "size": size, "budget": limits.output_chars}
        finished = False
        try:
            child = self._ready()
            child.permit(limits)
            child.send(asked)
            child.send_descriptor(stream.fileno())
            while "end" not in (answer := self._answer(child, limits, name)):
                for row in _rows(answer):
                    yield reject_of(row["reject"], name) if isinstance(row, dict) else row
            finished = True
        except DocumentError as exc:
            finished = True
            yield Reject(name, exc.reason, str(exc))
        except _CrashedError as exc:
            yield Reject(name, "reader_crashed", f"{name}: {exc}")
        except BadFrameError as exc:
            yield Reject(name, "reader_failed", f"{name}: {exc}")
        finally:
            if not finished:
                self._drop()  # it is still sending rows

    def _ask(self, asked: dict[str, Any], data: bytes, limits: Limits, name: str) -> dict[str, Any]:
        while True:
            child = self._ready()
            try:
                child.permit(limits)
                child.send({**asked, "size": len(data)})
                child.send_bytes(data)
                return self._answer(child, limits, name)
            except _CrashedError as exc:
                self._drop()
                # The harm may be of a file before: the end of a child at its first file is that file's.
                if child.files == 1:
                    raise DocumentError("reader_crashed", f"{name}: {exc}") from exc

    def _answer(self, child: "_Child", limits: Limits, name: str) -> dict[str, Any]:
        """Return the child's next answer; a child that cannot be trusted to go on is ended."""
        try:
            answer = child.receive(limits)
        except _SlowError as exc:
            self._drop()
            raise DocumentError("too_slow", f"{name}: {exc}") from exc
        except BadFrameError as exc:
            raise self._broken(name, str(exc)) from exc
        match answer:
            case {"refused": [str(reason), str(detail)]}:
                raise DocumentError(reason[:100], detail)
            case {"raised": ["MemoryError", str()]}:
                self._drop()
                size = limits.memory_bytes >> 20
                raise DocumentError("out_of_memory", f"{name}: MemoryError: it takes more than {size} MiB to read it")
            case {"raised": [str(kind), str(detail)]}:
                raise DocumentError("reader_failed", f"{name}: {kind}: {detail}")
            case dict():
                return answer
        raise self._broken(name, "its answer is no object")

    def _broken(self, name: str, how: str) -> DocumentError:
        self._drop()
        return DocumentError("reader_failed", f"{name}: {how}")

    def _ready(self) -> "_Child":
        if self._child is not None and self._child.is_spent():
            self._drop()
        if self._child is None:
            self._child = _Child(self._modules)
        return self._child

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _CrashedError(Exception):
    """The child has died."""


class _SlowError(Exception):
    """The child has had its time."""


class _Child:
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
        try:
            self._greet()
        except BaseException:
            self.end()
            raise

    def _greet(self) -> None:
        try:
            answer = self.receive(Limits(_START_SECONDS, 0, 0))
        except (_CrashedError, _SlowError, BadFrameError) as exc:
            command = f"{sys.executable} -P -s -m etl.reading"
            raise ContractError(f"the process that reads files does not start ({exc}): run {command} to see why") from exc
        missing = answer.get("ready") if isinstance(answer, dict) else None
        if missing:
            logging.getLogger(__name__).warning("files are read without: %s", ", ".join(map(str, missing)))

    def is_spent(self) -> bool:
        """Return whether the child shall read no further file."""
        return self.files >= _FILES_PER_CHILD or not 0 < self.address_space() < _MAX_CHILD_BYTES

    def permit(self, limits: Limits) -> None:
        """Let the child take as much more memory as one request may."""
        self.files += 1
        if hasattr(resource, "prlimit"):
            wanted = self.address_space() + limits.memory_bytes
            try:
                hard = resource.prlimit(self._process.pid, resource.RLIMIT_AS)[1]
                soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
                resource.prlimit(self._process.pid, resource.RLIMIT_AS, (soft, hard))
            except ProcessLookupError as exc:
                raise _CrashedError(self._death()) from exc

    def address_space(self) -> int:
        """Return the bytes of the child's address space; 0 once it has died."""
        try:
            return int(self._seen.memory_info().vms)
        except psutil.Error:
            return 0

    def send(self, value: Any) -> None:
        """Send a request."""
        self.send_bytes(framed(json.dumps(value, ensure_ascii=False)))

    def send_bytes(self, data: bytes) -> None:
        """Send content."""
        self._connection.settimeout(_START_SECONDS)
        try:
            self._connection.sendall(data)
        except OSError as exc:
            raise _CrashedError(self._death()) from exc

    def send_descriptor(self, descriptor: int) -> None:
        """Send an open file."""
        try:
            socket.send_fds(self._connection, [b"f"], [descriptor])
        except OSError as exc:
            raise _CrashedError(self._death()) from exc

    def receive(self, limits: Limits) -> Any:
        """Return the next answer.

        Raises:
            _SlowError: it does not come in time.
            _CrashedError: the child has died.
            BadFrameError: it is no answer.
        """
        self._await(limits.seconds)
        self._connection.settimeout(limits.seconds)
        try:
            return receive(self._connection, _MAX_FRAME_BYTES)
        except TimeoutError as exc:
            raise _SlowError(f"half an answer after {limits.seconds:.3g} s") from exc
        except OSError as exc:
            raise _CrashedError(self._death()) from exc
        except BadFrameError as exc:
            if self._has_ended():
                raise _CrashedError(self._death()) from exc
            raise

    def end(self) -> None:
        """Kill the child, unless it has gone already."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _await(self, seconds: float) -> None:
        began, computed_before = time.monotonic(), self._computed()
        while not select.select([self._connection], [], [], min(1.0, seconds))[0]:
            waited = time.monotonic() - began
            if self._computed() - computed_before >= seconds or waited >= _WAITING_PER_COMPUTING * seconds:
                raise _SlowError(f"no answer after {waited:.3g} s, the limit is {seconds:.3g} s of computing")

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


def _rows(answer: dict[str, Any]) -> Iterator[Any]:
    rows = answer.get("rows")
    if not isinstance(rows, list):
        raise BadFrameError("its answer has no rows")
    for row in rows:
        match row:
            case [int(), dict()]:
                yield tuple(row)
            case {"reject": _}:
                yield row
            case _:
                raise BadFrameError("a row that is none")


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
