"""Modules of ours that others hide: `train`, `export` and `streaming` are names of other packages and of people's files too."""

import importlib.util
import os
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


def own_modules_first(root: Path = PACKAGES) -> list[str]:
    """Leave the folders out of PYTHONPATH that hold a module of our name; return a line for each.

    It goes before site-packages, so that another `train` would be ours to this process and to every stage that it starts.
    """
    said, kept = [], []
    for entry in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        found = _modules_in(Path(entry)) if Path(entry).resolve() != root else {}
        if not found:
            kept.append(entry)
            continue
        listed = ", ".join(f"`{name}` ({file})" for name, file in found.items())
        said.append(f"{entry} is left out of PYTHONPATH: it would hide ours by {listed}")
        # Not the first one: that is the working folder, or the program's own, whatever else names it.
        sys.path[1:] = [folder for folder in sys.path[1:] if Path(folder or ".").resolve() != Path(entry).resolve()]
    if said:
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
        importlib.invalidate_caches()
    return said


def _modules_in(folder: Path) -> dict[str, Path]:
    places = ((name, (folder / name / "__init__.py", folder / f"{name}.py")) for name in OURS)
    return {name: file for name, files in places for file in files if file.is_file()}


def check_modules(root: Path = PACKAGES) -> None:
    """Raise SettingsError naming every hidden package of ours: foreign code would run under its name."""
    if hidden := hidden_modules(root):
        listed = ", ".join(f"`{name}` by {file}" for name, file in hidden.items())
        place = " or start elsewhere than in the working folder" if sys.path[:1] in ([""], [str(Path.cwd())]) else ""
        raise SettingsError(f"other modules hide ours in {root}: {listed}: rename or uninstall them{place}")
