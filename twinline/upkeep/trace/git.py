"""The commits that a lineage names, and the files of the experiments behind releases."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from twinline.contract.errors import SettingsError, TwinlineError
from twinline.registry.git import git
from twinline.upkeep.trace.steps import NotHereError


def commit_subject(repository: Path, revision: str) -> tuple[str, str]:
    """Return a commit's full name and the first line of its message.

    Raises:
        NotHereError: the repository does not have it.
    """
    try:
        name, _, subject = (
            git(repository, "log", "-1", "--format=%H %s", "--end-of-options", revision, "--").strip().partition(" ")
        )
    except SettingsError as exc:
        raise NotHereError(f"{repository} does not have this commit: `git fetch --all --tags`") from exc
    return name, subject


class Experiment:
    """The files of one commit: those that Git holds, and those that DVC holds in its cache or remote."""

    def __init__(self, repository: Path, revision: str) -> None:
        self.repository = repository
        self.revision = revision
        self._opened: Any = None

    def text(self, path: str) -> bytes:
        """Return the bytes of a file that Git holds."""
        command = ["git", "show", f"{self.revision}:{path}"]
        done = subprocess.run(command, cwd=self.repository, check=False, capture_output=True)
        if done.returncode != 0:
            raise NotHereError(f"commit {self.revision[:12]} has no {path}: `git fetch --all --tags`")
        return done.stdout

    def lock(self) -> Mapping[str, str]:
        """Return the MD5 of every output in `dvc.lock`, by its path."""
        stages: Mapping[str, Any] = yaml.safe_load(self.text("dvc.lock"))["stages"]
        return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", ()) if "md5" in out}

    def open(self, path: str) -> IO[bytes]:
        """Open a file that DVC holds.

        Raises:
            NotHereError: neither cache nor remote has it.
        """
        opened: IO[bytes] = self._ask(path, lambda files: files.open(path, "rb"))
        return opened

    def json(self, path: str) -> Mapping[str, Any]:
        """Return a JSON object that DVC holds."""
        with self.open(path) as stream:
            value: Mapping[str, Any] = json.load(stream)
        return value

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder that DVC holds, sorted."""
        found = self._ask(folder, lambda files: files.ls(folder, detail=False))
        return sorted(str(name).removeprefix("/").removeprefix(f"{folder}/") for name in found)

    def hashes(self, folder: str) -> dict[str, str]:
        """Return the MD5 of every file of a flat folder, computed from the bytes that DVC holds."""
        found = {}
        for name in self.names(folder):
            with self.open(f"{folder}/{name}") as stream:
                found[name] = hashlib.md5(stream.read(), usedforsecurity=False).hexdigest()
        return found

    def _ask(self, path: str, question: Callable[[Any], Any]) -> Any:
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException

        try:
            # Opening a revision takes a moment, and a trace asks several times.
            self._opened = self._opened or DVCFileSystem(str(self.repository), rev=self.revision)
            return question(self._opened)
        except (OSError, DvcException, TwinlineError) as exc:
            raise NotHereError(
                f"neither DVC's cache nor its remote has {path} of {self.revision[:12]} ({type(exc).__name__}): "
                f"`dvc get . {path} --rev {self.revision[:12]}` where it was trained, or `dvc fetch --all-tags {path}`"
            ) from exc


def folder_md5(hashes: Mapping[str, str]) -> str:
    """Return the hash by which DVC 3 names a folder: of the JSON list of its files, by relative path."""
    listed = [{"md5": hashes[name], "relpath": name} for name in sorted(hashes)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def local_hashes(folder: Path) -> dict[str, str]:
    """Return the MD5 of every file below a folder, by relative path, as DVC counts."""
    hashes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
        hashes[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return hashes
