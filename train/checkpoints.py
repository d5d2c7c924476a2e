"""Checkpoints of a training run, kept by what the run was made from, so that a killed run finds its own and no other's.

They live outside the DVC workspace: a DVC experiment that is started again after a kill gets a new, empty folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from contract.canonical import JSON

# transformers writes the state last, so a folder with a readable one is complete.
_STATE_FILE = "trainer_state.json"


def checkpoint_folder(home: Path, inputs: Mapping[str, JSON]) -> Path:
    """Return the folder of the run that these inputs (hashes of files, settings) describe."""
    described = json.dumps(inputs, sort_keys=True).encode()
    return home / "checkpoints" / hashlib.sha256(described).hexdigest()[:16]


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint, passing over one that a kill cut short."""
    found = [path for path in folder.glob("checkpoint-*") if _is_complete(path)]
    return max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def sweep(folder: Path) -> None:
    """Remove the checkpoints of a run that has delivered its encoder."""
    if folder.exists():
        shutil.rmtree(folder)


def file_sha256(path: Path) -> str:
    """Return the hash of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_complete(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _STATE_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True
