"""Find and end the processes of a stack, even without a supervisor.

Every process of a stack inherits two environment variables. So the children of a supervisor killed with -9, which live on
without a parent, can still be found.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

STACK_VARIABLE = "TWINLINE_STACK"  # the absolute home of the stack that a process belongs to
PART_VARIABLE = "TWINLINE_PART"  # the part of the stack


def find(home: Path, part: str | None = None) -> list[psutil.Process]:
    """Return the processes of the stack at `home` except this one.

    Args:
        part: only processes of this part.
    """
    wanted = {STACK_VARIABLE: str(home.resolve())}
    if part is not None:
        wanted[PART_VARIABLE] = part
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid not in own and _is_marked(process, wanted):
            found[process.pid] = process
            # A program that writes its title over its environment is found by its parent instead.
            found.update((child.pid, child) for child in _descendants(process) if child.pid not in own)
    return [process for process in found.values() if not _has_ended(process)]


def oldest(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the processes whose parent is not among them: they get the first signal, because they can stop the rest."""
    listed = list(processes)
    pids = {process.pid for process in listed}
    return [process for process in listed if _parent_pid(process) not in pids]


def describe(process: psutil.Process) -> str:
    """Return a process's name for a person: pid and command."""
    try:
        return f"pid {process.pid} ({' '.join(process.cmdline())[:100] or process.name()})"
    except psutil.Error:
        return f"pid {process.pid}"


def end(home: Path, part: str | None, patience_seconds: float, *, as_group: bool = False) -> dict[int, str]:
    """End the processes of a stack, or of one part: SIGTERM, wait, then SIGKILL. Return a description of each by its pid.

    The oldest processes get SIGTERM first, and the others have time to follow; the rest gets SIGTERM, and at last SIGKILL.

    Args:
        as_group: send SIGTERM to every process at once.
    """
    named: dict[int, str] = {}
    rounds = ((list, patience_seconds),) if as_group else ((oldest, patience_seconds), (list, 5.0))
    for ask, limit_seconds in rounds:
        remaining = find(home, part)
        named.update((process.pid, describe(process)) for process in remaining)
        _signal(ask(remaining), "terminate")
        psutil.wait_procs(remaining, timeout=limit_seconds)
    remaining = find(home, part)
    named.update((process.pid, describe(process)) for process in remaining)
    _signal(remaining, "kill")
    psutil.wait_procs(remaining, timeout=5.0)
    return named


def wait_until_gone(home: Path, part: str, limit_seconds: float) -> bool:
    """Wait for processes that are stopping; return whether all have ended."""
    _, alive = psutil.wait_procs(find(home, part), timeout=limit_seconds)
    return not alive


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Return the sum of the processes' resident memory; shared pages count once for each."""
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:  # ended meanwhile
            continue
    return total


def _is_marked(process: psutil.Process, wanted: dict[str, str]) -> bool:
    try:
        return wanted.items() <= process.environ().items()
    except psutil.Error:  # another user's, or ended: not to be ended here
        return False


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _parent_pid(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _signal(processes: Sequence[psutil.Process], method: str) -> None:
    for process in processes:
        try:
            getattr(process, method)()
        except psutil.NoSuchProcess:  # ended already
            continue
