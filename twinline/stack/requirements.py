"""What the stack needs of the machine, each with the line that provides it."""

import sys
from ctypes import CDLL

from clients.settings import CHECKOUT
from contract.errors import SettingsError

SERVER_PYTHON = CHECKOUT / ".venv-server" / "bin" / "python"
LIBPYTHON = "libpython3.11.so.1.0"


def missing_library() -> str | None:
    """Say what is missing for Triton's Python backend, and how to install it; nothing when all is there."""
    # The stub of Python 3.13 comes with its library, the one of 3.11 takes the system's.
    if _server_python_minor() != 11:
        return None
    try:
        CDLL(LIBPYTHON)
    except OSError:
        return f"{LIBPYTHON}, which Triton's Python backend links to, is missing: sudo apt-get install libpython3.11"
    return None


def check() -> None:
    """Raise one SettingsError that says what is missing."""
    if not SERVER_PYTHON.exists():
        raise SettingsError(f"the model server's environment {SERVER_PYTHON.parents[1]} is missing: run `make setup`")
    if problem := missing_library():
        raise SettingsError(problem)


def _server_python_minor() -> int:
    folders = sorted((SERVER_PYTHON.parents[1] / "lib").glob("python3.*"))
    return int(folders[0].name.removeprefix("python3.")) if folders else sys.version_info.minor
