"""What the kernel denies the child: other files, writing, the network, programs, other processes.

Three layers, each for this process alone and never to be undone by it:

    limits      no byte written to a file, no core dump, few open files
    Landlock    reading is allowed beneath Python and our code alone
    seccomp     system calls of network, processes, writing and tracing answer EPERM

Memory and time of a request are the parent's to enforce. A layer that a kernel or platform refuses is named to the parent.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

_MAX_OPEN_FILES: Final = 64

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2

# Landlock: https://docs.kernel.org/userspace-api/landlock.html. The numbers are the same on every architecture.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_RULE_PATH_BENEATH: Final = 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
# By the version that brought them, the rights that exist; all are handled, so that what no rule allows is denied.
_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_NET_RIGHTS: Final = {4: 0b11}
_SCOPES: Final = {6: 0b11}  # abstract sockets, signals

# What Python and its libraries read beside their own folders: shared objects, time zones, the kind of processor.
_SYSTEM: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo"),
    *("/etc/mime.types", "/dev/null", "/dev/urandom", "/proc/cpuinfo", "/sys/devices/system/cpu"),
)

# Classic BPF over struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits.
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_AT_LEAST: Final = 0x35
_JUMP_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_DENY: Final = 0x00050000 | errno.EPERM
_ABSENT: Final = 0x00050000 | errno.ENOSYS  # glibc then falls back to the older call, which the filter can look into

_CLONE_THREAD: Final = 0x00010000
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# By machine: the architecture's mark, and its numbers. A missing name is a call that the architecture does not have.
_DENIED: Final = {
    "x86_64": (
        # network
        *(41, 42, 43, 49, 50, 53, 288),  # socket, connect, accept, bind, listen, socketpair, accept4
        # programs and processes
        *(57, 58, 59, 322, 62, 129, 200, 297, 424),  # fork, vfork, execve, execveat, kill and its kin
        *(101, 310, 311, 434, 438, 440, 312),  # ptrace, process_vm_*, pidfd_*, process_madvise, kcmp
        *(160, 141, 144, 203, 251),  # setrlimit, and priorities of other processes
        # writing: openat2 is denied as a whole, since a filter cannot look behind a pointer
        *(76, 77, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 132, 133, 437),
        *(188, 189, 190, 197, 198, 199, 235, 258, 259, 260, 261, 263, 264, 265, 266, 268, 280, 285, 316, 452),
        # the kernel's other doors
        *(29, 30, 64, 68, 240, 155, 161, 165, 166, 248, 249, 250, 272, 298, 304, 308, 319, 321, 323, 425, 426, 427),
        *(428, 429, 430, 431, 432, 433, 442),
    ),
    "aarch64": (
        *(198, 199, 200, 201, 202, 203, 242),
        *(221, 281, 129, 130, 138, 240, 424),
        *(117, 270, 271, 434, 438, 440, 272),
        *(164, 140, 118, 119, 122, 30),
        *(5, 6, 7, 14, 15, 16, 33, 34, 35, 36, 37, 38, 45, 46, 47, 52, 53, 54, 55, 88, 276, 437, 452),
        *(180, 186, 190, 194, 196, 39, 40, 41, 51, 97, 217, 218, 219, 241, 265, 268, 279, 280, 282, 425, 426, 427),
        *(428, 429, 430, 431, 432, 433, 442),
    ),
}
_MARKS: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Calls that are decided by an argument: open (path, flags), openat (folder, path, flags), clone, clone3, tgkill, prlimit64.
# aarch64 has no open: 1024 is no call there.
_BY_ARGUMENT: Final = {"x86_64": (2, 257, 56, 435, 234, 302), "aarch64": (1024, 56, 220, 435, 131, 261)}


def confine(packages: Iterable[Path]) -> list[str]:
    """Take from this process what reading needs no right to; return the layers that could not be put up, each with its reason.

    Args:
        packages: folders of our own code, beside Python's, that stay readable.
    """
    limit()
    missing = []
    layers: dict[str, Callable[[], None]] = {
        "an end with its parent": _end_with_the_parent,
        "Landlock": partial(_allow_reading, _readable(packages)),
        "seccomp": _deny_calls,
    }
    for layer, put_up in layers.items():
        try:
            put_up()
        except OSError as exc:
            missing.append(f"{layer} ({exc.strerror or exc})")
    return missing


def limit() -> None:
    """Set the limits that are the same for every request."""
    for kind, value in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _readable(packages: Iterable[Path]) -> Iterator[Path]:
    yield from packages
    yield from {Path(prefix) for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)}
    yield from map(Path, _SYSTEM)


def _libc() -> ctypes.CDLL:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, f"not on {sys.platform}")
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _end_with_the_parent() -> None:
    # A reader that computes for ever would not see that its socket has closed.
    _checked(_libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def _no_new_privileges(libc: ctypes.CDLL) -> None:
    _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _allow_reading(paths: Iterable[Path]) -> None:
    libc = _libc()
    version = _checked(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1))
    parts = [sum(bits for first, bits in rights.items() if first <= version) for rights in (_FILE_RIGHTS, _NET_RIGHTS, _SCOPES)]
    # Older kernels take the fields that they know.
    known = parts[: 1 if version < 4 else 2 if version < 6 else 3]
    attributes = struct.pack(f"<{len(known)}Q", *known)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        for path in paths:
            try:
                folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            rights = _READ_FILE | (_READ_DIR if path.is_dir() else 0)
            try:
                _checked(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("<Qi", rights, folder), 0))
            finally:
                os.close(folder)
        _no_new_privileges(libc)
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _deny_calls() -> None:
    libc, machine = _libc(), platform.machine()
    if machine not in _MARKS:
        raise OSError(errno.ENOSYS, f"no list of system calls for {machine}")
    code = b"".join(_filter(machine))
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a length, then, aligned, a pointer
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
    _no_new_privileges(libc)
    _checked(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0))


def _filter(machine: str) -> Iterator[bytes]:
    """Yield the instructions of the filter for one machine."""
    opens, opens_at, clones, clones_anew, signals, limits = _BY_ARGUMENT[machine]
    yield from (_code(_LOAD, _ARCHITECTURE), _code(_JUMP_EQUAL, _MARKS[machine], 1, 0), _code(_RETURN, _DENY))
    yield _code(_LOAD, _NUMBER)
    # x86_64 has a second set of numbers (x32) under the same mark; aarch64 has no number as high.
    yield from (_code(_JUMP_AT_LEAST, 0x40000000, 0, 1), _code(_RETURN, _DENY))
    for number in _DENIED[machine]:
        yield from (_code(_JUMP_EQUAL, number, 0, 1), _code(_RETURN, _DENY))
    yield from (_code(_JUMP_EQUAL, clones_anew, 0, 1), _code(_RETURN, _ABSENT))
    yield from _unless(opens, (_code(_LOAD, _argument(1)), _code(_JUMP_ANY_BIT, _WRITING, 0, 1)))
    yield from _unless(opens_at, (_code(_LOAD, _argument(2)), _code(_JUMP_ANY_BIT, _WRITING, 0, 1)))
    # A thread is wanted, a process is not; a signal only for oneself; a limit may be read.
    yield from _unless(clones, (_code(_LOAD, _argument(0)), _code(_JUMP_ANY_BIT, _CLONE_THREAD, 1, 0)))
    yield from _unless(signals, (_code(_LOAD, _argument(0)), _code(_JUMP_EQUAL, os.getpid(), 1, 0)))
    new_limit = (_code(_LOAD, _argument(2) + 4), _code(_JUMP_EQUAL, 0, 0, 2), _code(_LOAD, _argument(2)))
    yield from _unless(limits, (*new_limit, _code(_JUMP_EQUAL, 0, 1, 0)))
    yield _code(_RETURN, _ALLOW)


def _unless(number: int, decision: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yield the decision for one call: it falls through to a denial, or jumps over it."""
    yield _code(_JUMP_EQUAL, number, 0, len(decision) + 2)
    yield from decision
    yield from (_code(_RETURN, _DENY), _code(_RETURN, _ALLOW))


def _argument(index: int) -> int:
    """Return the place of the lower half of an argument; both machines are little-endian."""
    return 16 + 8 * index


def _code(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", operation, if_true, if_false, value)
