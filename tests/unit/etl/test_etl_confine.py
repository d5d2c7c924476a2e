"""The filter of system calls, by what it answers; and a child on a kernel that refuses a layer."""

import errno
import logging
import os
import struct
import sys
from pathlib import Path

import pytest

from etl.reading import confine
from etl.reading.reader import Reader

MARKS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, DENY, ABSENT = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
THREAD = 0x003D0F00  # the flags with which glibc starts a thread
FORK = 0x01200011


def answer(machine: str, number: int, *arguments: int, mark: int | None = None) -> int:
    """Return what the filter says of a call: classic BPF, as the kernel runs it."""
    data = struct.pack("<IIQ6Q", number, MARKS[machine] if mark is None else mark, 0, *arguments, *[0] * (6 - len(arguments)))
    program = [struct.unpack("<HBBI", code) for code in confine._filter(machine)]
    held = at = 0
    while True:
        operation, if_true, if_false, value = program[at]
        at += 1
        if operation == 0x20:
            [held] = struct.unpack_from("<I", data, value)
        elif operation == 0x06:
            return value
        else:
            holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize(
    ("name", "x86_64", "aarch64", "arguments", "expected"),
    [
        ("read", 0, 63, (3, 4096, 10), ALLOW),
        ("recvmsg", 47, 212, (3,), ALLOW),
        ("sendto", 44, 206, (3,), ALLOW),
        ("mmap", 9, 222, (), ALLOW),
        ("futex", 202, 98, (), ALLOW),
        ("exit_group", 231, 94, (0,), ALLOW),
        ("socket", 41, 198, (2, 1, 0), DENY),
        ("connect", 42, 203, (3,), DENY),
        ("bind", 49, 200, (3,), DENY),
        ("execve", 59, 221, (), DENY),
        ("execveat", 322, 281, (), DENY),
        ("kill", 62, 129, (1, 9), DENY),
        ("tkill", 200, 130, (1, 9), DENY),
        ("ptrace", 101, 117, (), DENY),
        ("process_vm_writev", 311, 271, (), DENY),
        ("unlinkat", 263, 35, (), DENY),
        ("renameat2", 316, 276, (), DENY),
        ("fchmodat", 268, 53, (), DENY),
        ("ftruncate", 77, 46, (3, 0), DENY),
        ("memfd_create", 319, 279, (), DENY),
        ("io_uring_setup", 425, 425, (), DENY),
        ("setrlimit", 160, 164, (9, 4096), DENY),
        ("bpf", 321, 280, (), DENY),
        ("openat2", 437, 437, (), DENY),
        ("openat to read", 257, 56, (2**32 - 100, 4096, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY), ALLOW),
        ("openat to write", 257, 56, (2**32 - 100, 4096, os.O_WRONLY), DENY),
        ("openat to do both", 257, 56, (2**32 - 100, 4096, os.O_RDWR), DENY),
        ("openat to make", 257, 56, (2**32 - 100, 4096, os.O_RDONLY | os.O_CREAT), DENY),
        ("openat to cut", 257, 56, (2**32 - 100, 4096, os.O_RDONLY | os.O_TRUNC), DENY),
        ("clone of a thread", 56, 220, (THREAD,), ALLOW),
        ("clone of a process", 56, 220, (FORK,), DENY),
        ("clone3", 435, 435, (4096, 88), ABSENT),
        ("tgkill of itself", 234, 131, (os.getpid(), os.getpid(), 6), ALLOW),
        ("tgkill of another", 234, 131, (os.getpid() + 1, 1, 6), DENY),
        ("prlimit64 to read", 302, 261, (0, 7, 0, 4096), ALLOW),
        ("prlimit64 to set", 302, 261, (0, 7, 4096, 0), DENY),
        ("prlimit64 to set, high address", 302, 261, (0, 7, 1 << 32, 0), DENY),
    ],
)
def test_a_call_is_allowed_or_not_on_both_machines(
    name: str, x86_64: int, aarch64: int, arguments: tuple[int, ...], expected: int
) -> None:
    assert (name, answer("x86_64", x86_64, *arguments)) == (name, expected)
    assert (name, answer("aarch64", aarch64, *arguments)) == (name, expected)


def test_calls_that_one_machine_alone_has_are_denied() -> None:
    for number in (57, 58, 85, 87, 82, 90):  # fork, vfork, creat, unlink, rename, chmod
        assert answer("x86_64", number) == DENY
    assert answer("x86_64", 2, 4096, os.O_RDONLY) == ALLOW
    assert answer("x86_64", 2, 4096, os.O_WRONLY) == DENY


def test_calls_of_another_architecture_are_denied() -> None:
    assert answer("x86_64", 0, mark=0x40000003) == DENY  # 32 bits, where 0 is another call
    assert answer("x86_64", 0x40000000) == DENY  # x32


def test_a_layer_that_the_kernel_refuses_is_named_and_the_others_are_put_up(monkeypatch: pytest.MonkeyPatch) -> None:
    put_up: list[str] = []

    def refuse(paths: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(confine, "limit", lambda: put_up.append("limits"))
    monkeypatch.setattr(confine, "_end_with_the_parent", lambda: put_up.append("end"))
    monkeypatch.setattr(confine, "_allow_reading", refuse)
    monkeypatch.setattr(confine, "_deny_calls", lambda: put_up.append("calls"))
    assert confine.confine([Path("/usr")]) == ["Landlock (Function not implemented)"]
    assert put_up == ["limits", "end", "calls"]


@pytest.mark.parametrize(("name", "value"), [("sys.platform", "darwin"), ("platform.machine", lambda: "riscv64")])
def test_an_unknown_platform_is_refused_before_anything_is_called(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(name, value)
    with pytest.raises(OSError, match=r"not on darwin|no list of system calls for riscv64"):
        confine._deny_calls()


def test_a_run_says_without_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\n"
        "import socket, sys\n"
        "from etl.reading.__main__ import Service\n"
        "from etl.reading.frames import send\n"
        "connection = socket.socket(fileno=int(sys.argv[5]))\n"
        "send(connection, {'ready': ['Landlock (Function not implemented)']})\n"
        "Service(connection, sys.argv[6:]).serve()\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    with caplog.at_level(logging.WARNING), Reader() as reader:
        assert reader.document(b"words", "a.txt", ".txt") == ("a", "words")
    assert "files are read without: Landlock (Function not implemented)" in caplog.text
