"""Environments of peers that cannot be installed beside our pins: `.venv-peers/NAME`, made by `python -m bench peers`."""

import subprocess
import venv
from pathlib import Path
from typing import Final

from bench.checkout import CHECKOUT

FOLDER: Final = CHECKOUT / ".venv-peers"
# torch as in constraints.txt: any other version would be another peer, and a far larger download.
REQUIREMENTS: Final[dict[str, tuple[str, ...]]] = {
    "sentence-transformers": ("torch==2.13.0", "sentence-transformers[onnx,openvino]"),
    "fastembed": ("fastembed",),
    "infinity": ("torch==2.13.0", "infinity-emb[torch]", "click<8.2"),
}
_INSTALL_SECONDS: Final = 900


def python_of(name: str) -> Path | None:
    """Return the Python of a peer's environment, or None where the environment is missing or incomplete."""
    folder = FOLDER / name
    return folder / "bin" / "python" if (folder / "ready").is_file() else None


def make_environments() -> dict[str, str]:
    """Make missing environments; return, by peer, an empty text or why it cannot be installed here."""
    return {name: _make(FOLDER / name, wanted) for name, wanted in REQUIREMENTS.items()}


def _make(folder: Path, wanted: tuple[str, ...]) -> str:
    if (folder / "ready").is_file():
        return ""
    venv.create(folder, with_pip=True, clear=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"{' '.join(wanted)} was not installed within {_INSTALL_SECONDS} s"
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"pip ended with {done.returncode}"
    (folder / "ready").touch()
    return ""
