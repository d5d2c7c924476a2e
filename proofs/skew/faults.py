"""A fault, and the ways to plant it: each changes a file, a folder, a collection or code, and restores it afterwards.

Files are never edited in place: a new file is renamed over the old one, so that a server sees the change.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

from proofs.skew.system import System

Planting: TypeAlias = AbstractContextManager[object]
Plant: TypeAlias = Callable[[System], Planting]


@dataclass(frozen=True, slots=True)
class Fault:
    """One planted fault.

    Attributes:
        name: unique, lower case with underscores.
        planted: the change, in a sentence.
        where: the part of the system.
        expected: the doors and hops that may name it.
        plant: changes the system while a block runs.
        short: whether the short run plants it.
        impossible: returns why this machine cannot have it; empty where it can.
    """

    name: str
    planted: str
    where: str
    expected: tuple[str, ...]
    plant: Plant
    short: bool = False
    impossible: Callable[[], str] = str


@contextmanager
def file_holds(path: Path, content: bytes) -> Iterator[None]:
    """Give a file other content; a missing file is made."""
    before = path.read_bytes() if path.exists() else None
    _rename_in(path, content)
    try:
        yield
    finally:
        if before is None:
            path.unlink()
        else:
            _rename_in(path, before)


@contextmanager
def file_missing(path: Path) -> Iterator[None]:
    """Remove a file."""
    before = path.read_bytes()
    path.unlink()
    try:
        yield
    finally:
        _rename_in(path, before)


@contextmanager
def folder_holds(folder: Path, source: Path, scratch: Path) -> Iterator[None]:
    """Replace a folder by a copy of another one. With the folder itself as source, changes of the copy are undone."""
    kept = scratch / folder.name
    folder.rename(kept)
    try:
        shutil.copytree(kept if source == folder else source, folder)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        kept.rename(folder)


def changed(path: Path, change: Callable[[bytes], bytes]) -> Planting:
    """Change a file's content by `change`."""
    return file_holds(path, _really(change, path))


def replaced_text(old: str, new: str) -> Callable[[bytes], bytes]:
    """Return a change of every occurrence of a text."""
    return lambda content: content.replace(old.encode(), new.encode())


def fields_set(changes: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """Return a change of JSON fields, by dotted name, each a value or a function of the value before."""

    def change(content: bytes) -> bytes:
        value = json.loads(content)
        for name, new in changes.items():
            *way, last = name.split(".")
            place = value
            for step in way:
                place = place[step]
            place[last] = new(place[last]) if callable(new) else new
        return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"

    return change


def bit_flipped(content: bytes, share: float = 0.5) -> bytes:
    """Return content with one bit changed in the byte at `share` of its length: an exponent bit of some float."""
    at = int(len(content) * share) // 4 * 4 + 3
    return content[:at] + bytes([content[at] ^ 0x01]) + content[at + 1 :]


def all_of(*plants: Plant) -> Plant:
    """Return a planting of several changes at once."""

    @contextmanager
    def plant(system: System) -> Iterator[None]:
        with ExitStack() as planted:
            for each in plants:
                planted.enter_context(each(system))
            yield

    return plant


def code(target: str, replacement: object) -> Plant:
    """Return a planting of other code in this process, at a dotted name, during the walk."""
    return lambda system: patch(target, replacement)


def _really(change: Callable[[bytes], bytes], path: Path) -> bytes:
    before = path.read_bytes()
    after = change(before)
    if after == before:
        raise RuntimeError(f"nothing was planted: {path} is unchanged")
    return after


def _rename_in(path: Path, content: bytes) -> None:
    # Beside the file: no check runs before the rename.
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
