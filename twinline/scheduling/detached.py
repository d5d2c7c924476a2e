"""A command that outlives its starter: a session of its own, and a folder with its state.

    command.json   the command and its options   written first
    lock           held while it runs            the kernel takes it back, however the process dies
    started.json   process id and time
    output         standard output and error
    ended.json     the exit code                 renamed in, last

Starting is finding: a second start of the same command in the same folder returns the running one, or its uncollected result. Run
by path, this file is the process that holds the lock and waits for the command.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

# This variable marks every process of a command, so all are found even when the lock's holder was killed.
VARIABLE = "TWINLINE_COMMAND"

_START_SECONDS = 30.0
_END_SECONDS = 20.0
_POLL_SECONDS = 0.1
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class State:
    """The state of a command. `lost`: it is gone, and its exit code is unknown."""

    phase: Literal["absent", "running", "ended", "lost"]
    exit_code: int | None = None
    started_at: float = 0.0


def start(folder: Path, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> State:
    """Make sure that a command runs, or has ended and waits to be collected; return its state.

    Raises:
        OSError: it cannot be started.
    """
    state = look(folder)
    if state.phase in ("running", "ended") and _asked_for(folder) == list(command):
        return state
    if state.phase != "absent":
        # Another command, or a lost one: its remaining processes must not run beside the new one.
        end(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "command.json", {"command": list(command), "cwd": str(cwd)})
    # It returns at once: the lock's holder is its child, and no longer a child of ours.
    subprocess.run(
        [sys.executable, "-m", "twinline.scheduling.detached", str(folder)],
        env={**environment, VARIABLE: str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    _wait((folder / "started.json").exists, _START_SECONDS)
    return look(folder)


def look(folder: Path) -> State:
    """Return the state of a folder's command."""
    if not (folder / "command.json").exists():
        return State("absent")
    # In this order: a command that ends meanwhile writes its code before it releases the lock.
    is_running = _is_locked(folder)
    started_at = float(_read(folder / "started.json").get("time", 0.0))
    ended = _read(folder / "ended.json")
    if ended:
        return State("ended", int(ended["exit_code"]), started_at)
    return State("running" if is_running else "lost", None, started_at)


def wait(folder: Path, seconds: float) -> bool:
    """Wait briefly for a command; say whether it has ended."""
    return _wait(lambda: look(folder).phase != "running", seconds)


def read_output(folder: Path, offset: int) -> tuple[list[str], str, int]:
    """Return the whole lines after an offset, the text of the unfinished one, and the offset after the lines."""
    try:
        with (folder / "output").open("rb") as file:
            file.seek(offset)
            added = file.read()
    except FileNotFoundError:
        return [], "", offset
    whole = added[: added.rfind(b"\n") + 1]
    lines = [_visible(line) for line in whole.decode(errors="replace").split("\n")[:-1]]
    # A progress bar is one line of many states.
    return lines, _visible(added[len(whole) :].decode(errors="replace")).strip(), offset + len(whole)


def tail(folder: Path, most: int) -> list[str]:
    """Return the last lines of the output, after the number of omitted bytes."""
    try:
        with (folder / "output").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    lines = [_visible(line) for line in lines if line.strip()]
    is_cut = size > _TAIL_BYTES or len(lines) > most
    return [f"(the last lines of {size} bytes)", *lines[-most:]] if is_cut else lines


def end(folder: Path) -> None:
    """End a command and its child processes, and forget it: ask, wait, then kill. Harmless where there is none."""
    if look(folder).phase == "running":
        _signal(folder, signal.SIGTERM)
        wait(folder, _END_SECONDS)
    left = _members(folder)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    # A killed process may work for another moment, on a busy machine for seconds.
    psutil.wait_procs(left, timeout=_END_SECONDS)
    forget(folder)


def forget(folder: Path) -> None:
    """Remove the folder of an ended command."""
    if folder.is_dir():
        # Renamed first: half a folder would look like a lost command.
        gone = folder.with_name(f".{folder.name}.{os.getpid()}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone)
        # The folder of the run, empty after its last command.
        with suppress(OSError):
            folder.parent.rmdir()


def _asked_for(folder: Path) -> list[str]:
    return list(_read(folder / "command.json").get("command", []))


def _is_locked(folder: Path) -> bool:
    try:
        with (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _signal(folder: Path, number: signal.Signals) -> None:
    try:
        # The lock is held, so the process id is still the group leader's.
        os.killpg(int(_read(folder / "started.json")["pid"]), number)
    except (KeyError, ProcessLookupError):
        return  # it has just ended, or has not begun: the search by environment finds any processes


def _members(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE) == str(folder) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return found


def _wait(is_over: Callable[[], bool], seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while not is_over():
        if time.monotonic() >= give_up:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _visible(line: str) -> str:
    return line.rstrip("\r").rsplit("\r", 1)[-1]


def _read(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return value


def _write(path: Path, value: Mapping[str, object]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(value))
    beside.replace(path)


def main(folder: Path) -> None:
    """Run the command of a folder and record its exit code, unless another process holds the lock."""
    # A handler, not SIG_IGN, which the command would inherit. The group gets the signal, and this process records the end.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if (folder / "ended.json").exists():
            return
        asked = json.loads((folder / "command.json").read_text())
        with (folder / "output").open("wb") as output:
            try:
                process = subprocess.Popen(
                    asked["command"], cwd=asked["cwd"], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
                _write(folder / "started.json", {"pid": os.getpid(), "time": time.time()})
                code = process.wait()
            except OSError as exc:
                output.write(f"{exc}\n".encode())
                code = 127
                _write(folder / "started.json", {"pid": os.getpid(), "time": time.time()})
        _write(folder / "ended.json", {"exit_code": code, "time": time.time()})


if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    os.setsid()
    main(Path(sys.argv[1]))
