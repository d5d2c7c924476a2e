"""The sources of an experiment's files: a commit, whose large files DVC holds, or the workspace."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import yaml

from twinline.contract.artefacts import LOCK
from twinline.contract.errors import ContractError, SettingsError, TwinlineError


class NotHereError(ContractError):
    """The object is not on this machine; the message says how to get it."""


class Revision(Protocol):
    """The files of one state of the repository."""

    @property
    def name(self) -> str:
        """Return the name of this state in messages."""

    def read_text(self, path: str) -> str:
        """Return a file's text. Raises SettingsError when this state does not have it."""


class GitRevision:
    """The files of one commit: Git's, and DVC's from its cache or its remote.

    A commit comes with a clone, its large files do not. Every method raises NotHereError for a file that the commit has and
    this machine has not; the first group raises SettingsError for one that the commit never had.
    """

    def __init__(self, repository: Path, revision: str) -> None:
        self.repository = repository
        self.name = revision
        self._opened: Any = None

    def read_text(self, path: str) -> str:
        """Return a file's text."""
        try:
            return str(self._looked_up(path, lambda: self._files().read_text(path)))
        except FileNotFoundError as exc:
            raise SettingsError(f"{self.name} has no {path}: is it an experiment of this pipeline that ran to its end?") from exc

    def read_bytes(self, path: str) -> bytes:
        """Return a file's bytes."""
        try:
            return bytes(self._looked_up(path, lambda: self._files().read_bytes(path)))
        except FileNotFoundError as exc:
            raise SettingsError(f"{self.name} has no {path}: is it an experiment of this pipeline that ran to its end?") from exc

    def names(self, folder: str) -> list[str]:
        """Return the names of the files of a folder, sorted; none where there is no such folder."""
        try:
            names: list[str] = self._looked_up(folder, lambda: self._listed(folder))
        except FileNotFoundError:
            return []
        return names

    def download(self, path: str, target: Path) -> None:
        """Copy a folder to `target`, which must not exist yet."""
        try:
            self._looked_up(path, lambda: self._files().get(path, str(target), recursive=True))
        except FileNotFoundError as exc:
            raise SettingsError(f"{self.name} has no {path}: is it an experiment of this pipeline that ran to its end?") from exc

    def tracked(self, path: str) -> bytes:
        """Return the bytes of a file that Git holds."""
        command = ["git", "show", f"{self.name}:{path}"]
        done = subprocess.run(command, cwd=self.repository, check=False, capture_output=True)
        if done.returncode != 0:
            raise NotHereError(f"commit {self.name[:12]} has no {path}: `git fetch --all --tags`")
        return done.stdout

    def lock(self) -> Mapping[str, str]:
        """Return the MD5 of every output in `dvc.lock`, by its path."""
        stages: Mapping[str, Any] = yaml.safe_load(self.tracked(LOCK))["stages"]
        return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", ()) if "md5" in out}

    def open(self, path: str) -> IO[bytes]:
        """Open a file that DVC holds."""
        opened: IO[bytes] = self._held(path, lambda: self._files().open(path, "rb"))
        return opened

    def json(self, path: str) -> Mapping[str, Any]:
        """Return a JSON object that DVC holds."""
        with self.open(path) as stream:
            value: Mapping[str, Any] = json.load(stream)
        return value

    def held(self, folder: str) -> list[str]:
        """Return the names of the files in a folder that DVC holds, sorted."""
        found: list[str] = self._held(folder, lambda: self._listed(folder))
        return found

    def hashes(self, folder: str) -> dict[str, str]:
        """Return the MD5 of every file of a flat folder, computed from the bytes that DVC holds."""
        found = {}
        for name in self.held(folder):
            with self.open(f"{folder}/{name}") as stream:
                found[name] = hashlib.md5(stream.read(), usedforsecurity=False).hexdigest()
        return found

    def _held(self, path: str, question: Callable[[], Any]) -> Any:
        try:
            return self._looked_up(path, question)
        except (FileNotFoundError, TwinlineError) as exc:
            raise exc if isinstance(exc, NotHereError) else self._not_here(path, exc) from exc

    def _looked_up(self, path: str, question: Callable[[], Any]) -> Any:
        """Return what DVC answers; FileNotFoundError passes where this commit never had the path."""
        from dvc.exceptions import DvcException
        from dvc_data.index import DataIndexError
        from dvc_objects.errors import ObjectDBError, ObjectFormatError

        try:
            return question()
        except (OSError, DvcException, DataIndexError, ObjectDBError, ObjectFormatError) as exc:
            if isinstance(exc, FileNotFoundError) and not self._is_recorded(path):
                raise
            raise self._not_here(path, exc) from exc

    def _is_recorded(self, path: str) -> bool:
        """Return whether the commit's run made a path, or a folder above it whose contents are unknown here."""
        from dvc_data.index import DataIndexError

        try:
            # dvc.yaml alone names what a run would make.
            if not any(f"{path}/".startswith(f"{out}/") for out in self.lock()):
                return False
            self._files().info(path)
        except (FileNotFoundError, NotHereError):
            return False
        except DataIndexError:
            return True
        return True

    def _not_here(self, path: str, exc: Exception) -> NotHereError:
        from dvc.config import Config

        config = Config(str(self.repository / ".dvc"))
        remote = config["core"].get("remote")
        short = self.name[:12]
        if remote:
            place = config["remote"].get(remote, {}).get("url", "no address")
            where = f"neither DVC's cache nor its remote has {path} of {short} (remote `{remote}`: {place}; {type(exc).__name__})"
            remedy = f"`dvc get . {path} --rev {short}` where it was trained, `dvc push --all-commits` there, or another remote"
        else:
            where = f"neither DVC's cache nor its remote has {path} of {short}: this clone names no remote"
            remedy = f"`dvc remote add --local --default NAME URL`, or `dvc get . {path} --rev {short}` where it was trained"
        return NotHereError(f"{where}: {remedy}")

    def _listed(self, folder: str) -> list[str]:
        return sorted(Path(entry).name for entry in self._files().ls(folder, detail=False))

    def _files(self) -> Any:
        """Return the files as DVC opens them; cached, since opening a revision takes a moment."""
        if self._opened is None:
            from dvc.api import DVCFileSystem

            self._opened = DVCFileSystem(str(self.repository), rev=self.name)
        return self._opened


class Workspace:
    """The files as they lie in the checkout, for a `dvc repro` by hand."""

    def __init__(self, repository: Path) -> None:
        self.name = f"the workspace {repository}"
        self._repository = repository

    def read_text(self, path: str) -> str:
        """Return a file's text."""
        try:
            return (self._repository / path).read_text()
        except FileNotFoundError as exc:
            raise SettingsError(f"{self._repository / path} is missing: run `dvc repro` first") from exc
