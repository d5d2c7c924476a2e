"""Folders, zip files and addresses as one thing: a file system and a root, by fsspec."""

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from contract.errors import SettingsError, TransientError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder on some file system; relative names inside it use `/` everywhere."""

    filesystem: "AbstractFileSystem"
    root: str
    uri: str

    @property
    def stem(self) -> str:
        """Return the last part of the address without endings: the default name of a source."""
        return PurePosixPath(self.uri.partition("?")[0].rstrip("/")).name.partition(".")[0] or "files"

    def is_file(self) -> bool:
        """Return whether the place is one file."""
        return bool(self.filesystem.isfile(self.root))

    def names(self) -> list[str]:
        """Return the relative names of all files in the folder, sorted."""
        prefix = self.root.rstrip("/") + "/" if self.root else ""
        return sorted(name.removeprefix(prefix) for name in self.filesystem.find(self.root))

    def path(self, name: str) -> str:
        """Return the path of a file in the folder; the empty name is the place itself."""
        if not (name and self.root):
            return name or self.root
        return f"{self.root.rstrip('/')}/{name}"

    def open(self, name: str = "", *, compression: str | None = None) -> BinaryIO:
        """Open a file for reading bytes."""
        return cast(BinaryIO, self.filesystem.open(self.path(name), "rb", compression=compression))

    def size(self, name: str = "") -> int | None:
        """Return a file's size in bytes, None where the other side does not say."""
        size = self.filesystem.size(self.path(name))
        return None if size is None else int(size)

    def sha256(self, name: str = "") -> str:
        """Return the hash of a file as it is stored."""
        with self.open(name) as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()


def open_place(uri: str) -> Place:
    """Return the folder or file at a path or any fsspec address; the inside of a zip file is a folder.

    Raises:
        SettingsError: nothing is there, or its protocol is unknown.
        TransientError: the other side does not answer.
    """
    import fsspec

    if not uri:
        raise SettingsError("the source names no place: say files:/path/to/folder or beir:/path/to/dataset")
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
        if not filesystem.exists(root):
            raise SettingsError(f"there is nothing at {uri}: check the path")
        if uri.partition("?")[0].lower().endswith(".zip"):
            # A zip file is read from its end: over a network it is fetched once, to a temporary file.
            local = root if "file" in filesystem.protocol else fsspec.open_local(f"simplecache::{uri}")
            return Place(fsspec.filesystem("zip", fo=local), "", uri)
    except (ImportError, ValueError) as exc:
        raise SettingsError(f"cannot read {uri}: {exc}") from exc
    except (OSError, TimeoutError) as exc:
        raise TransientError(f"cannot reach {uri}: {exc}: check the address and the network") from exc
    return Place(filesystem, root, uri)
