"""Modules of ours that others hide: `train`, `export` and `streaming` are names of other packages and of people's files too."""

import importlib.util
import sys
from pathlib import Path
from typing import Final

from twinline.clients.code import PACKAGES
from twinline.contract.errors import SettingsError

OURS: Final = ("twinline", "etl", "train", "export", "streaming", "triton_models")


def hidden_modules(root: Path = PACKAGES) -> dict[str, str]:
    """Return our packages that another module of the same name hides on this process's path, with the file that does.

    Args:
        root: the folder that our packages lie in.
    """
    found = {}
    for name in OURS:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve() != root / name / "__init__.py":
            found[name] = spec.origin
    return found


def check_modules(root: Path = PACKAGES) -> None:
    """Raise SettingsError naming every hidden package of ours: foreign code would run under its name."""
    if hidden := hidden_modules(root):
        listed = ", ".join(f"`{name}` by {file}" for name, file in hidden.items())
        place = " or start elsewhere than in the working folder" if sys.path[:1] in ([""], [str(Path.cwd())]) else ""
        raise SettingsError(f"other modules hide ours in {root}: {listed}: rename or uninstall them{place}")
