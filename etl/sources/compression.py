"""Compressed files, by their second ending. What they unpack to is bounded."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final, cast

from zstandard import ZstdDecompressor, ZstdError

from twinline.contract.documents.records import MAX_TEXT_BYTES
from twinline.contract.errors import DocumentError

# Text shrinks to a tenth; the most monotonous logs, to a hundredth.
_MOST_TIMES: Final = 300
_FREE_BYTES: Final = 4 * MAX_TEXT_BYTES


class _ZstdFrames:
    """The content of zstd frames. The library's own stream takes a frame that is cut off for a whole one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._new = ZstdDecompressor().decompressobj
        self._stream = stream
        self._frame: Any = None
        self._packed = b""
        self._content = io.BytesIO()

    def read1(self, size: int) -> bytes:
        while not (piece := self._content.read(size)):
            # A thousand bytes are 32 million at the most.
            packed = self._packed or self._stream.read(1 << 10)
            if not packed and self._frame is not None:
                raise EOFError("the file ends inside a frame")
            if not packed:
                return b""
            self._frame = self._frame or self._new()
            self._content, self._packed = io.BytesIO(self._frame.decompress(packed)), b""
            if self._frame.eof:
                self._frame, self._packed = None, self._frame.unused_data
        return piece


_METHODS: Final[Mapping[str, Callable[[BinaryIO], Any]]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _ZstdFrames,
}


def unpacked_name(name: str) -> str:
    """Return a file's name without the ending of its compression."""
    return name[: -len(_method(name))] if _method(name) else name


def unpacked(data: bytes, name: str, limit: int) -> bytes:
    """Return the content of a compressed file, and that of another file as it is.

    Raises:
        DocumentError: damaged, or more than `limit` bytes.
    """
    if not _method(name):
        return data
    content = open_unpacked(io.BytesIO(data), name).read(limit + 1)
    if len(content) > limit:
        raise DocumentError("too_large", f"{name}: more than {limit} bytes unpacked: split the document")
    return content


def open_unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    """Return the content of a compressed stream; another stream as it is. Reading it raises DocumentError for damage."""
    method = _method(name)
    if not method:
        return stream
    inner = _METHODS[method](stream)
    return cast(BinaryIO, io.BufferedReader(_Unpacked(stream, inner, name, _errors(method))))


def most_unpacked(size: int) -> int:
    """Return how many bytes may come out of a compressed file of this size."""
    return max(_FREE_BYTES, _MOST_TIMES * size)


def too_much(name: str) -> DocumentError:
    """Return the refusal of a file out of which more comes."""
    detail = f"{name}: unpacks to more than {_MOST_TIMES} times its size: unpack it, and look what it is"
    return DocumentError("output_too_large", detail)


class _Unpacked(io.RawIOBase):
    """The content of a compressed stream; reading ends where it grows beyond all text."""

    def __init__(self, packed: BinaryIO, inner: Any, name: str, errors: tuple[type[Exception], ...]) -> None:
        super().__init__()
        self._packed = packed
        self._inner = inner
        self._name = name
        self._errors = errors
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        # Not `read`: of a file that breaks off, it loses what stands before the break.
        try:
            piece = self._inner.read1(len(room))
        except self._errors as exc:
            raise DocumentError("unreadable", f"{self._name}: {exc}: is it cut off?") from exc
        self._read += len(piece)
        if self._read > most_unpacked(self._packed.tell()):
            raise too_much(self._name)
        room[: len(piece)] = piece
        return len(piece)


def _errors(method: str) -> tuple[type[Exception], ...]:
    if method != ".zst":
        return OSError, EOFError, zlib.error, lzma.LZMAError

    return EOFError, ZstdError


def _method(name: str) -> str:
    return next((ending for ending in _METHODS if name.lower().endswith(ending)), "")
