"""Where the files of an experiment are read from: a commit, whose large files DVC holds, or the workspace."""

from pathlib import Path
from typing import Protocol

from twinline.contract.errors import SettingsError


class Revision(Protocol):
    """The files of one state of the repository."""

    @property
    def name(self) -> str:
        """Return how messages name this state."""

    def read_text(self, path: str) -> str:
        """Return a file's text. Raises SettingsError when this state does not have it."""


class GitRevision:
    """The files of one commit: those that Git tracks and those that DVC does, from its cache or its remote."""

    def __init__(self, repository: Path, revision: str) -> None:
        from dvc.api import DVCFileSystem

        self.name = revision
        self._files = DVCFileSystem(str(repository), rev=revision)

    def read_text(self, path: str) -> str:
        """Return a file's text."""
        try:
            return str(self._files.read_text(path))
        except FileNotFoundError as exc:
            raise SettingsError(f"{self.name} has no {path}: is it an experiment of this pipeline that ran to its end?") from exc

    def read_bytes(self, path: str) -> bytes:
        """Return a file's bytes."""
        try:
            return bytes(self._files.read_bytes(path))
        except FileNotFoundError as exc:
            raise SettingsError(f"{self.name} has no {path}, in cache or remote: was it pushed from where it was made?") from exc

    def names(self, folder: str) -> list[str]:
        """Return the names of the files of a folder, sorted; none where there is no such folder."""
        try:
            return sorted(Path(entry).name for entry in self._files.ls(folder, detail=False))
        except FileNotFoundError:
            return []

    def download(self, path: str, target: Path) -> None:
        """Copy a folder to `target`, which must not exist yet."""
        try:
            self._files.get(path, str(target), recursive=True)
        except FileNotFoundError as exc:
            raise SettingsError(f"{self.name} has no {path}, in cache or remote: was it pushed from where it was made?") from exc


class Workspace:
    """The files as they lie in the checkout, for who runs `dvc repro` by hand."""

    def __init__(self, repository: Path) -> None:
        self.name = f"the workspace {repository}"
        self._repository = repository

    def read_text(self, path: str) -> str:
        """Return a file's text."""
        try:
            return (self._repository / path).read_text()
        except FileNotFoundError as exc:
            raise SettingsError(f"{self._repository / path} is missing: run `dvc repro` first") from exc
