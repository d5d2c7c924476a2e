"""The DVC remote of an embedded stack: a folder under the platform's home."""

from pathlib import Path
from typing import Final

from twinline.contract.errors import SettingsError

NAME: Final = "local"


def ensure_remote(repository: Path, home: Path) -> Path | None:
    """Make a folder of ours the default DVC remote, unless the project names one; return the folder, or None then.

    It goes into `.dvc/config.local`, which Git does not track. The path is absolute: DVC resolves a relative one in its working
    folder, which for an experiment is a copy of the checkout.

    Raises:
        SettingsError: the checkout is no DVC project.
    """
    from dvc.config import Config

    if not (repository / ".dvc").is_dir():
        raise SettingsError(f"{repository} has no .dvc folder: it is no checkout of this project, or `dvc init` was undone")
    folder = (home / "dvc-remote").resolve()
    config = Config(str(repository / ".dvc"))
    chosen = config["core"].get("remote")
    if chosen not in (None, NAME):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    if chosen == NAME and config["remote"].get(NAME, {}).get("url") == str(folder):
        return folder
    with config.edit("local") as local:
        local.setdefault("core", {})["remote"] = NAME
        local.setdefault("remote", {})[NAME] = {"url": str(folder)}
    return folder
