"""The files of a folder, and a reject for everything in it that is not looked at: absence is concluded from nothing less."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from etl.sources.items import Reject, excerpt

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


@dataclass(slots=True)
class Listing:
    """Relative names of files, and rejects whose places are the relative names of what was left out; "" is the folder itself.

    Hidden files and folders (a dot first) are in neither.
    """

    names: list[str] = field(default_factory=list)
    left_out: list[Reject] = field(default_factory=list)

    def leave_out(self, name: str, reason: str, detail: str) -> None:
        """Add a reject."""
        shown = excerpt(name)
        self.left_out.append(Reject(shown, reason, f"{shown or 'the folder itself'}: {excerpt(detail)}"))

    def in_order(self) -> "Listing":
        """Return both parts sorted by name."""
        return Listing(sorted(self.names), sorted(self.left_out, key=lambda reject: reject.place))


def list_local(root: str) -> Listing:
    """Return what a folder of this machine holds; links are followed to regular files beneath the folder alone."""
    found, folders, top = Listing(), [""], os.path.realpath(root)
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:  # noqa: PTH118 (a Path for every file costs more than reading it)
                for entry in entries:
                    if not entry.name.startswith("."):
                        name = f"{folder}/{entry.name}" if folder else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(name)
                        elif entry.is_file(follow_symlinks=False) or _is_followed(entry, name, top, found):
                            found.names.append(name)
        except OSError as exc:
            found.leave_out(folder, "unlisted_folder", f"its files cannot be listed: {exc.strerror}: allow reading it")
    return found.in_order()


def _is_followed(entry: os.DirEntry[str], name: str, top: str, found: Listing) -> bool:
    """Return whether a link leads to a file that may be read; leave out a link that does not, and what is no file."""
    if not entry.is_symlink():
        found.leave_out(name, "not_a_file", "a pipe, socket or device")
        return False
    target = os.path.realpath(entry.path)
    if not is_beneath(target, top):
        found.leave_out(name, "outside_link", f"a link out of the folder, to {target}: copy that, or name it as a source")
        return False
    try:
        mode = entry.stat().st_mode
    except OSError as exc:
        found.leave_out(name, "broken_link", f"a link to {target}: {exc.strerror}")
        return False
    if stat.S_ISDIR(mode):
        found.leave_out(name, "folder_link", f"a link to the folder {target}, whose files are read by their own names")
    elif not stat.S_ISREG(mode):
        found.leave_out(name, "not_a_file", f"a link to {target}, a pipe, socket or device")
    return stat.S_ISREG(mode)


def is_beneath(path: str, top: str) -> bool:
    """Return whether a resolved path is a resolved folder or file, or lies in it."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def list_remote(filesystem: "AbstractFileSystem", root: str) -> Listing:
    """Return what a folder of any file system of fsspec holds; the inside of a zip file is one.

    fsspec's own `find` leaves a folder out that cannot be listed, and says nothing.

    Raises:
        OSError: or any other error of the file system: the folder itself cannot be listed.
    """
    found, folders = Listing(), [root]
    prefix = root.rstrip("/") + "/" if root else ""
    seen = {root.rstrip("/")}
    while folders:
        folder = folders.pop()
        try:
            entries = filesystem.ls(folder, detail=True)
        except Exception as exc:
            if folder == root:
                raise
            found.leave_out(folder.removeprefix(prefix), "unlisted_folder", f"its files cannot be listed: {exc}")
            continue
        for path, kind in _entries(entries, prefix):
            # A page of links names what another page names too.
            if path.rstrip("/") in seen or is_hidden(path.removeprefix(prefix)):
                continue
            seen.add(path.rstrip("/"))
            if kind == "directory":
                folders.append(path)
            elif kind == "file":
                found.names.append(path.removeprefix(prefix))
            elif kind == "link":
                found.leave_out(path.removeprefix(prefix), "outside_link", "a link, which is not followed here")
            else:
                found.leave_out(path.removeprefix(prefix), "not_a_file", f"neither file nor folder: {kind}")
    return found.in_order()


def _entries(entries: list[dict[str, object]], prefix: str) -> Iterator[tuple[str, str]]:
    for entry in entries:
        path, kind = str(entry["name"]), str(entry["type"])
        # A zip file notes a link by the mode of the file that was packed, and holds its target as content.
        attributes = entry.get("external_attr")
        if isinstance(attributes, int) and stat.S_ISLNK(attributes >> 16):
            kind = "link"
        if path.startswith(prefix):
            yield path, kind


def is_hidden(name: str) -> bool:
    """Return whether a file or a folder above it has a dot first."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)
