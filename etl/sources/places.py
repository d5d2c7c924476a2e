"""Folders, zip files and addresses in one form: a file system and a root, by fsspec."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from etl.sources.compression import most_unpacked, too_much
from etl.sources.listing import Listing, is_beneath, list_local, list_remote
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Document
from twinline.contract.errors import DocumentError, SettingsError, TransientError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")

# Size, times of the last change (content, then inode) in nanoseconds, inode.
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder on some file system; relative names inside it use `/` everywhere.

    Args:
        archive: the zip file that it is the inside of.
        top: on this machine, the resolved place that was named; no link is followed out of it. Empty elsewhere.
    """

    filesystem: "AbstractFileSystem"
    root: str
    uri: str
    archive: str = ""
    top: str = ""

    def is_file(self) -> bool:
        """Return whether the place is one file."""
        return bool(self.filesystem.isfile(self.root))

    def listing(self) -> Listing:
        """Return the relative names of the files in the folder, sorted, and what was left out.

        Raises:
            TransientError: the folder itself cannot be listed, over a network.
            SettingsError: the zip file cannot.
        """
        if self.top:
            return list_local(self.root)
        try:
            return list_remote(self.filesystem, self.root)
        except Exception as exc:
            if self.archive:
                raise _unreadable_archive(self.uri, exc) from exc
            raise TransientError(f"cannot list {self.uri}: {exc}: check the address and the network") from exc

    def names(self) -> list[str]:
        """Return the relative names of the files in the folder, sorted."""
        return self.listing().names

    def path(self, name: str) -> str:
        """Return the path of a file in the folder; the empty name is the place itself."""
        if not (name and self.root):
            return name or self.root
        return f"{self.root.rstrip('/')}/{name}"

    @contextmanager
    def open(self, name: str = "") -> Iterator[BinaryIO]:
        """Open a regular file for reading bytes.

        Raises:
            DocumentError: it is no regular file, or a link out of the place.
        """
        if self.top:
            with _open_local(self.path(name), self.top) as stream:
                yield stream
        else:
            with self.filesystem.open(self.path(name), "rb") as stream:
                yield cast(BinaryIO, stream)

    @contextmanager
    def stored(self, name: str = "") -> Iterator[tuple[BinaryIO, str]]:
        """Give a file as a file of this machine, at its beginning, and its hash; one from elsewhere is fetched once.

        Raises:
            DocumentError: as `open`; or it comes from a zip file, and is much more than its packed bytes.
        """
        with ExitStack() as at_exit:
            stream = at_exit.enter_context(self.open(name))
            copy = None if self.top else at_exit.enter_context(tempfile.TemporaryFile())
            left = most_unpacked(self._packed_size(name)) if self.archive else None
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
                if left is not None and (left := left - len(block)) < 0:
                    raise too_much(name)
                if copy is not None:
                    copy.write(block)
            held = stream if copy is None else cast(BinaryIO, copy)
            held.flush()
            held.seek(0)
            yield held, digest.hexdigest()

    def _packed_size(self, name: str) -> int:
        return int(self.filesystem.info(self.path(name)).get("compress_size") or 0)

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
        return stamp_of(self.path(name)) if self.top else None


def open_place(uri: str) -> Place:
    """Return the folder or file at a path or any fsspec address; the inside of a zip file is a folder.

    Raises:
        SettingsError: nothing is there, its protocol is unknown, or the zip file cannot be read.
        TransientError: the address does not answer.
    """
    import fsspec

    if not uri:
        raise SettingsError("the source names no place: say files:/path/to/folder or beir:/path/to/dataset")
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
        if not filesystem.exists(root):
            raise SettingsError(f"there is nothing at {uri}: check the path")
        is_local = "file" in filesystem.protocol
        if is_local and not (filesystem.isfile(root) or filesystem.isdir(root)):
            raise SettingsError(f"{uri} is a pipe, socket or device: name a file or a folder")
        if uri.partition("?")[0].lower().endswith(".zip") and not (is_local and filesystem.isdir(root)):
            # A zip file is read from its end, so over a network it is fetched once, to a temporary file.
            local = root if is_local else fsspec.open_local(f"simplecache::{uri}")
            return Place(_open_archive(local, uri), "", uri, without_secrets(str(filesystem.unstrip_protocol(root))))
    except (ImportError, ValueError) as exc:
        raise SettingsError(f"cannot read {uri}: {exc}") from exc
    except (OSError, TimeoutError) as exc:
        raise TransientError(f"cannot reach {uri}: {exc}: check the address and the network") from exc
    return Place(filesystem, root, uri, top=os.path.realpath(root) if is_local else "")


def _open_archive(path: str, uri: str) -> "AbstractFileSystem":
    import fsspec

    try:
        return fsspec.filesystem("zip", fo=path)
    except Exception as exc:
        raise _unreadable_archive(uri, exc) from exc


def _unreadable_archive(uri: str, exc: Exception) -> SettingsError:
    # zipfile raises errors of many kinds, of its own and of the libraries below.
    return SettingsError(f"{uri} is no zip file that can be read ({type(exc).__name__}: {exc}): fetch it again, or unpack it")


def _open_local(path: str, top: str) -> BinaryIO:
    """Open a regular file of this machine, at `top` or beneath it; a pipe is not even opened, since that may wait for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (a Path is made for every file of a source otherwise)
        raise DocumentError("not_a_file", f"{path}: a pipe, socket, device or folder, must be a file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        # Asked of the open file: a path may have become another file's meanwhile.
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DocumentError("not_a_file", f"{path}: a pipe, socket, device or folder, must be a file")
        if not is_beneath(_true_path(descriptor, path), top):
            raise DocumentError("outside_link", f"{path}: a link leads out of {top}: copy what it names")
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _true_path(descriptor: int, path: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        return os.path.realpath(path)  # no /proc on this machine


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
