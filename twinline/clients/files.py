"""Files that are the state of releases here: replaced whole, locked while a command acts."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from twinline.contract.errors import TransientError

_POLL_SECONDS: Final = 0.2


def replace_file(path: Path, content: str) -> None:
    """Write a file beside its place and rename it in: a reader, or a kill, meets the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        # Before the rename, or a power failure could leave the name on an empty file.
        os.fsync(file.fileno())
    beside.replace(path)


@contextmanager
def locked(path: Path, patience_seconds: float, who: str) -> Iterator[None]:
    """Hold a lock that the operating system takes back when this process dies, however it dies.

    Raises:
        TransientError: another process held it for longer than our patience.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        give_up = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() >= give_up:
                    file.seek(0)
                    holder = file.read().strip() or "another command"
                    raise TransientError(
                        f"{holder} has been acting on releases for {patience_seconds:.0f} s ({path} is locked): try again"
                    ) from exc
                time.sleep(_POLL_SECONDS)
        file.truncate(0)
        file.write(f"process {os.getpid()} of {who}")
        file.flush()
        yield
