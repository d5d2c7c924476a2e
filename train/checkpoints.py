"""Checkpoints of a training run, keyed by its inputs, so that a killed run finds its own and no others.

They lie outside the DVC workspace: a DVC experiment that restarts after a kill gets a new, empty folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from train.weights import weights_sha256
from twinline.contract.canonical import JSON
from twinline.contract.errors import MismatchError, TransientError

# A run killed this long ago is not resumed.
STALE_AFTER_SECONDS = 14 * 24 * 3600

# transformers writes the state last, so a folder with a readable one is complete.
_STATE_FILE = "trainer_state.json"
# Our file comes after that and holds the hash of the weights.
_SEAL_FILE = "sealed.json"


def checkpoint_folder(home: Path, inputs: Mapping[str, JSON]) -> Path:
    """Return the folder of the run with these inputs: hashes of files, and settings."""
    described = json.dumps(inputs, sort_keys=True).encode()
    return home / "checkpoints" / hashlib.sha256(described).hexdigest()[:16]


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint; a checkpoint cut short by a kill is skipped."""
    found = [path for path in folder.glob("checkpoint-*") if _is_complete(path)]
    return max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def seal(checkpoint: Path) -> None:
    """Record the hash of a checkpoint's weights; without it the checkpoint counts as cut short."""
    (checkpoint / _SEAL_FILE).write_text(json.dumps({"weights_sha256": weights_sha256(checkpoint)}) + "\n")


def check_seal(checkpoint: Path) -> None:
    """Raise MismatchError when a checkpoint's weights differ from its seal."""
    recorded = json.loads((checkpoint / _SEAL_FILE).read_bytes())["weights_sha256"]
    found = weights_sha256(checkpoint)
    if found != recorded:
        raise MismatchError(
            f"{checkpoint} has weights {found}, {_SEAL_FILE} says {recorded}: they were changed since this run saved "
            f"them; remove {checkpoint.parent} to train from the start"
        )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a run's checkpoints for one process while the block runs.

    Raises:
        TransientError: another run on the same inputs is in progress. DVC's cache will have its result.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_suffix(".lock")
    with lock.open("w") as file:
        try:
            # The system releases the lock when the process dies, even by kill -9.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TransientError(f"another training on the same inputs holds {lock}: wait for it, then run this again") from exc
        yield


def sweep(folder: Path, now: float | None = None) -> None:
    """Remove the checkpoints of a run that has delivered its encoder, and all that were left behind long ago."""
    clock = time.time() if now is None else now
    stale = [path for path in folder.parent.glob("*") if clock - path.stat().st_mtime > STALE_AFTER_SECONDS]
    for path in {folder, folder.with_suffix(".lock"), *stale}:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return the hash of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_complete(checkpoint: Path) -> bool:
    try:
        for name in (_STATE_FILE, _SEAL_FILE):
            json.loads((checkpoint / name).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True
