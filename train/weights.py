"""The hash of an encoder's weights, in one file or in several."""

from __future__ import annotations

import hashlib
from pathlib import Path

from twinline.contract.encoder.space import hash_safetensors
from twinline.contract.errors import MismatchError


def weights_sha256(folder: Path) -> str:
    """Return the hash of the tensors in a folder; for several files, the hash of their hashes in name order."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise MismatchError(f"{folder} holds no *.safetensors: weights in another form are not read")
    if len(files) == 1:
        return hash_safetensors(files[0])
    return hashlib.sha256("".join(hash_safetensors(path) for path in files).encode()).hexdigest()
