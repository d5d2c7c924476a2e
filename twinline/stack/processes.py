"""Find and end the processes of a stack, also when nothing supervises them any more.

Every process of a stack inherits two environment variables, so that a supervisor killed with -9, whose children live
on without a parent, leaves nothing that cannot be found.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

STACK_VARIABLE = "TWINLINE_STACK"  # the absolute home of the stack that a process belongs to
PART_VARIABLE = "TWINLINE_PART"  # which part of it


def find(home: Path, part: str | None = None) -> list[psutil.Process]:
    """Return the processes of the stack at `home`, this one excepted.

    Args:
        part: only those of this part.
    """
    wanted = {STACK_VARIABLE: str(home.resolve())}
    if part is not None:
        wanted[PART_VARIABLE] = part
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid not in own and _is_marked(process, wanted):
            found[process.pid] = process
            # A program that writes its title over its environment hides from the line above, not from its parent.
            found.update((child.pid, child) for child in _descendants(process) if child.pid not in own)
    return [process for process in found.values() if not _has_ended(process)]


def oldest(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those whose parent is not among them: the ones to ask first, since they know how to stop the rest."""
    listed = list(processes)
    pids = {process.pid for process in listed}
    return [process for process in listed if _parent_pid(process) not in pids]


def describe(process: psutil.Process) -> str:
    """Name a process for a person: pid and command."""
    try:
        return f"pid {process.pid} ({' '.join(process.cmdline())[:100] or process.name()})"
    except psutil.Error:
        return f"pid {process.pid}"


def end(home: Path, part: str | None, patience_seconds: float, *, as_group: bool = False) -> dict[int, str]:
    """End the processes of a stack, or of one part: ask, wait, then kill. Return a description of each one by its pid.

    The oldest are asked first and the rest get the time to follow; whoever is left is asked, and at last killed.

    Args:
        as_group: ask every process at once.
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
    """Give processes that were told to stop the time to do so. Say whether all did."""
    _, alive = psutil.wait_procs(find(home, part), timeout=limit_seconds)
    return not alive


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Return the resident memory of processes in sum; pages that they share count once for each."""
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:  # ended meanwhile: holds no memory
            continue
    return total


def _is_marked(process: psutil.Process, wanted: dict[str, str]) -> bool:
    try:
        return wanted.items() <= process.environ().items()
    except psutil.Error:  # another user's, or ended: either way not ours to end
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
        except psutil.NoSuchProcess:  # what was wanted
            continue
