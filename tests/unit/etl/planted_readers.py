"""Readers that go wrong, one way each, for a child process to be given; the ending names the way."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO


class OfALibraryError(Exception):
    """An error of a library's own tree, which nothing of ours knows."""


class NotEvenAnExceptionError(BaseException):
    """Passes every `except Exception`."""


class UnshowableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no message")


def fine(data: bytes, name: str) -> tuple[str, str]:
    return "fine", data.decode()


def raising(error: BaseException) -> Callable[[bytes, str], tuple[str, str]]:
    def read(data: bytes, name: str) -> tuple[str, str]:
        raise error

    return read


def recurse(data: bytes, name: str) -> tuple[str, str]:
    return recurse(data, name)


def crash(data: bytes, name: str) -> tuple[str, str]:
    ctypes.string_at(0)
    return "", ""


def leave(data: bytes, name: str) -> tuple[str, str]:
    os._exit(3)


def abort(data: bytes, name: str) -> tuple[str, str]:
    os.abort()


def crash_later(data: bytes, name: str) -> tuple[str, str]:
    # The harm shows at the next file.
    threading.Timer(0.2, ctypes.string_at, (0,)).start()
    return "later", "text"


def sleep(data: bytes, name: str) -> tuple[str, str]:
    time.sleep(600)
    return "", ""


def compute(data: bytes, name: str) -> tuple[str, str]:
    while True:
        pass


def allocate(data: bytes, name: str) -> tuple[str, str]:
    held = []
    while True:
        held.append(bytearray(16 << 20))


def allocate_and_swallow(data: bytes, name: str) -> tuple[str, str]:
    held: list[bytearray] = []
    try:
        while True:
            held.append(bytearray(16 << 20))
    except MemoryError:
        return "swallowed", f"{len(held)} portions"


def much(data: bytes, name: str) -> tuple[str, str]:
    return "much", "x" * (3 << 20)


def much_title(data: bytes, name: str) -> tuple[str, str]:
    return "x" * (3 << 20), "much"


def print_much(data: bytes, name: str) -> tuple[str, str]:
    print('{"document": ["forged", "forged"]}' * 10_000, flush=True)
    print("noise" * 10_000, file=sys.stderr, flush=True)
    os.write(1, b"\x00\x00\x00\x02{}")
    return "printed", "text"


def read_input(data: bytes, name: str) -> tuple[str, str]:
    return "input", f"read {sys.stdin.read()!r}"


def no_strings(data: bytes, name: str) -> Any:
    return 2024, "text"


def no_tuple(data: bytes, name: str) -> Any:
    return None


def surrogate(data: bytes, name: str) -> tuple[str, str]:
    return "half \ud800", "text"


def connect(data: bytes, name: str) -> tuple[str, str]:
    socket.create_connection(("127.0.0.1", 9), timeout=2)
    return "connected", "text"


def connect_by_name(data: bytes, name: str) -> tuple[str, str]:
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect("/run/docker.sock")
    return "connected", "text"


def run(data: bytes, name: str) -> tuple[str, str]:
    done = subprocess.run(["/bin/true"], check=False)
    return "ran", f"ended with {done.returncode}"


def execute(data: bytes, name: str) -> tuple[str, str]:
    os.execv("/bin/true", ["/bin/true"])  # noqa: S606


def fork(data: bytes, name: str) -> tuple[str, str]:
    if os.fork() == 0:
        os._exit(0)
    return "forked", "text"


def start_a_thread(data: bytes, name: str) -> tuple[str, str]:
    said: list[str] = []
    thread = threading.Thread(target=said.append, args=("said by a thread",))
    thread.start()
    thread.join()
    return "thread", said[0]


def write(data: bytes, name: str) -> tuple[str, str]:
    Path(data.decode()).write_text("written")
    return "wrote", "text"


def remove(data: bytes, name: str) -> tuple[str, str]:
    Path(data.decode()).unlink()
    return "removed", "text"


def change_mode(data: bytes, name: str) -> tuple[str, str]:
    Path(data.decode()).chmod(0o777)
    return "changed", "text"


def read_another(data: bytes, name: str) -> tuple[str, str]:
    return "stolen", Path(data.decode()).read_text()


def list_another(data: bytes, name: str) -> tuple[str, str]:
    return "stolen", " ".join(path.name for path in Path(data.decode()).iterdir())


def kill_the_parent(data: bytes, name: str) -> tuple[str, str]:
    os.kill(os.getppid(), signal.SIGTERM)
    return "killed", "text"


def lift_limits(data: bytes, name: str) -> tuple[str, str]:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "lifted", "text"


def show_environment(data: bytes, name: str) -> tuple[str, str]:
    return "environment", " ".join(sorted(os.environ))


def show_descriptors(data: bytes, name: str) -> tuple[str, str]:
    kept = []
    for number in range(64):
        try:
            os.fstat(number)
        except OSError:
            continue
        kept.append(str(number))
    return "descriptors", " ".join(kept)


def connection() -> int:
    return int(sys.argv[1])


def answer_garbage(data: bytes, name: str) -> tuple[str, str]:
    os.write(connection(), b"\x00\x00\x00\x05oops!")
    return "garbage", "text"


def answer_endlessly(data: bytes, name: str) -> tuple[str, str]:
    os.write(connection(), b"\xff\xff\xff\xff" + b"x" * 1_000)
    return "endless", "text"


def answer_half(data: bytes, name: str) -> tuple[str, str]:
    os.write(connection(), b"\x00\x00\x01\x00{")
    time.sleep(600)
    return "", ""


def answer_a_list(data: bytes, name: str) -> tuple[str, str]:
    os.write(connection(), b"\x00\x00\x00\x02[]")
    return "list", "text"


def close_the_connection(data: bytes, name: str) -> tuple[str, str]:
    os.close(connection())
    time.sleep(600)
    return "", ""


READERS: Mapping[str, Callable[[bytes, str], tuple[str, str]]] = {
    ".fine": fine,
    ".value": raising(ValueError("day is out of range for month")),
    ".overflow": raising(OverflowError("date value out of range")),
    ".unicode": raising(UnicodeError("undefined encoding")),
    ".attribute": raising(AttributeError("'NumberObject' object has no attribute 'strip'")),
    ".key": raising(KeyError("xref")),
    ".type": raising(TypeError("unhashable type")),
    ".assertion": raising(AssertionError()),
    ".stop": raising(StopIteration()),
    ".eof": raising(EOFError("half a file")),
    ".os": raising(OSError(5, "Input/output error")),
    ".library": raising(OfALibraryError("of its own tree")),
    ".unshowable": raising(UnshowableError()),
    ".surrogates": raising(ValueError("half \udc80 a letter")),
    ".memory": raising(MemoryError()),
    ".exit": raising(SystemExit(0)),
    ".interrupt": raising(KeyboardInterrupt()),
    ".generator": raising(GeneratorExit()),
    ".base": raising(NotEvenAnExceptionError("no exception")),
    ".recurse": recurse,
    ".crash": crash,
    ".leave": leave,
    ".abort": abort,
    ".later": crash_later,
    ".sleep": sleep,
    ".compute": compute,
    ".allocate": allocate,
    ".swallow": allocate_and_swallow,
    ".much": much,
    ".title": much_title,
    ".print": print_much,
    ".input": read_input,
    ".number": no_strings,
    ".none": no_tuple,
    ".half": surrogate,
    ".connect": connect,
    ".unix": connect_by_name,
    ".run": run,
    ".exec": execute,
    ".fork": fork,
    ".thread": start_a_thread,
    ".write": write,
    ".remove": remove,
    ".chmod": change_mode,
    ".steal": read_another,
    ".list": list_another,
    ".kill": kill_the_parent,
    ".lift": lift_limits,
    ".environment": show_environment,
    ".descriptors": show_descriptors,
    ".garbage": answer_garbage,
    ".endless": answer_endlessly,
    ".halved": answer_half,
    ".answers-list": answer_a_list,
    ".closes": close_the_connection,
}

Rows = Iterator[tuple[int, dict[str, Any]]]


def two_rows(stream: BinaryIO, place: str) -> Rows:
    yield 1, {"id": "1", "text": "one"}
    yield 2, {"id": "2", "text": "two"}


def rows_then(ending: Callable[[bytes, str], Any]) -> Callable[[BinaryIO, str], Rows]:
    def read(stream: BinaryIO, place: str) -> Rows:
        yield from two_rows(stream, place)
        ending(b"", place)

    return read


def rows_for_ever(stream: BinaryIO, place: str) -> Rows:
    for number in range(1, 1 << 40):
        yield number, {"id": str(number), "text": "x" * 1_000}


def rows_of_content(stream: BinaryIO, place: str) -> Rows:
    for number, line in enumerate(stream, 1):
        yield number, {"id": str(number), "text": line.decode()}


def rows_of_every_type(stream: BinaryIO, place: str) -> Any:
    values = (
        b"caf\xc3\xa9",
        Decimal("3.0"),
        Decimal("3.5"),
        date(2024, 2, 28),
        float("inf"),
        (1, 2),
        {"a": b"b"},
        None,
        True,
        2**60,
    )
    yield 1, {str(number): value for number, value in enumerate(values)}
    yield 2, {"broken": b"\xff"}
    yield 3, {"long": "x" * (33 << 20)}
    yield 4, {"id": "4"}


def rows_that_are_none(stream: BinaryIO, place: str) -> Any:
    yield from two_rows(stream, place)
    yield "three"


def rows_that_write(stream: BinaryIO, place: str) -> Rows:
    yield from two_rows(stream, place)
    os.write(stream.fileno(), b"changed")


TABLES: Mapping[str, Callable[[BinaryIO, str], Rows]] = {
    ".two": two_rows,
    ".value": rows_then(raising(ValueError("in the middle"))),
    ".exit": rows_then(raising(SystemExit(1))),
    ".memory": rows_then(raising(MemoryError())),
    ".allocate": rows_then(allocate),
    ".crash": rows_then(crash),
    ".sleep": rows_then(sleep),
    ".garbage": rows_then(answer_garbage),
    ".ever": rows_for_ever,
    ".content": rows_of_content,
    ".rows": rows_that_are_none,
    ".types": rows_of_every_type,
    ".write": rows_that_write,
}
