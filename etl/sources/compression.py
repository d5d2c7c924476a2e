"""Compressed files, by their second ending. What they unpack to is bounded."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final, cast

from twinline.contract.documents.records import MAX_TEXT_BYTES
from twinline.contract.errors import DocumentError

# Text shrinks to a tenth; the most monotonous logs, to a hundredth.
_MOST_TIMES: Final = 300
_FREE_BYTES: Final = 4 * MAX_TEXT_BYTES

_METHODS: Final[Mapping[str, Callable[[BinaryIO], Any]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def unpacked_name(name: str) -> str:
    """Return a file's name without the ending of its compression."""
    return name[: -len(_method(name))] if _method(name) else name


def unpacked(data: bytes, name: str, limit: int) -> bytes:
    """Return the content of a compressed file, and that of another file as it is.

    Raises:
        DocumentError: more than `limit` bytes.
    """
    if not _method(name):
        return data
    content = open_unpacked(io.BytesIO(data), name).read(limit + 1)
    if len(content) > limit:
        raise DocumentError("too_large", f"{name}: more than {limit} bytes unpacked: split the document")
    return content


def open_unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    """Return the content of a compressed stream; another stream as it is."""
    method = _method(name)
    return cast(BinaryIO, io.BufferedReader(_Unpacked(stream, _METHODS[method](stream), name))) if method else stream


def most_unpacked(size: int) -> int:
    """Return how many bytes may come out of a compressed file of this size."""
    return max(_FREE_BYTES, _MOST_TIMES * size)


def too_much(name: str) -> DocumentError:
    """Return the refusal of a file out of which more comes."""
    detail = f"{name}: unpacks to more than {_MOST_TIMES} times its size: unpack it, and look what it is"
    return DocumentError("output_too_large", detail)


class _Unpacked(io.RawIOBase):
    """The content of a compressed stream; reading ends where it grows beyond all text."""

    def __init__(self, packed: BinaryIO, inner: Any, name: str) -> None:
        super().__init__()
        self._packed = packed
        self._inner = inner
        self._name = name
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        # Not `read`: of a file that breaks off, it loses what stands before the break.
        piece = self._inner.read1(len(room))
        self._read += len(piece)
        if self._read > most_unpacked(self._packed.tell()):
            raise too_much(self._name)
        room[: len(piece)] = piece
        return len(piece)


def _method(name: str) -> str:
    return next((ending for ending in _METHODS if name.lower().endswith(ending)), "")
