"""Folders, zip files and addresses in one form: a file system and a root, by fsspec."""

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Document
from twinline.contract.errors import SettingsError, TransientError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")

# Size, times of the last change (content, then inode) in nanoseconds, inode.
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder on some file system; relative names inside it use `/` everywhere. `archive` is its zip file."""

    filesystem: "AbstractFileSystem"
    root: str
    uri: str
    archive: str = ""

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
        """Return a file's size in bytes, None where the file system does not know it."""
        size = self.filesystem.size(self.path(name))
        return None if size is None else int(size)

    def address(self, name: str = "") -> str:
        """Return the address that opens a file from anywhere: absolute, without credentials."""
        if self.archive:
            return f"zip://{self.path(name)}::{self.archive}"
        return without_secrets(str(self.filesystem.unstrip_protocol(self.path(name))))

    def stamp(self, name: str = "") -> Stamp | None:
        """Return the stamp that a change of a file changes; None where only its bytes show one."""
        is_local = not self.archive and "file" in self.filesystem.protocol
        return stamp_of(self.path(name)) if is_local else None

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
        TransientError: the address does not answer.
    """
    import fsspec

    if not uri:
        raise SettingsError("the source names no place: say files:/path/to/folder or beir:/path/to/dataset")
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
        if not filesystem.exists(root):
            raise SettingsError(f"there is nothing at {uri}: check the path")
        if uri.partition("?")[0].lower().endswith(".zip"):
            # A zip file is read from its end, so over a network it is fetched once, to a temporary file.
            local = root if "file" in filesystem.protocol else fsspec.open_local(f"simplecache::{uri}")
            archive = without_secrets(str(filesystem.unstrip_protocol(root)))
            return Place(fsspec.filesystem("zip", fo=local), "", uri, archive)
    except (ImportError, ValueError) as exc:
        raise SettingsError(f"cannot read {uri}: {exc}") from exc
    except (OSError, TimeoutError) as exc:
        raise TransientError(f"cannot reach {uri}: {exc}: check the address and the network") from exc
    return Place(filesystem, root, uri)


@dataclass(slots=True)
class Origins:
    """The files of a source: their addresses, and the hashes of their bytes as read."""

    uris: dict[str, JSON] = field(default_factory=dict)
    hashes: dict[str, JSON] = field(default_factory=dict)

    def note(self, place: str, uri: str, sha256: str) -> None:
        """Record one file."""
        self.uris[place], self.hashes[place] = uri, sha256

    def complete(self, item: T) -> T:
        """Return a document with its file's address and hash; any other item as it is."""
        if not isinstance(item, Document) or item.origin is None:
            return item
        place = item.origin.place
        origin = replace(item.origin, uri=str(self.uris.get(place) or ""), sha256=str(self.hashes.get(place) or ""))
        return cast(T, replace(item, origin=origin))


def stamp_of(path: str | Path) -> Stamp:
    """Return the stamp of a file: it changes when the file is changed, replaced or set back."""
    status = os.stat(path)  # noqa: PTH116 (a Path is made for every file of a source otherwise)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def without_secrets(uri: str) -> str:
    """Return an address without user, password and query: it goes with every document from there."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return uri
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
