"""Compressed files, by their second ending. What they unpack to is bounded, and damage is an OSError whatever the method."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final

from twinline.contract.documents.records import MAX_TEXT_BYTES
from twinline.contract.errors import DocumentError

# Text shrinks to a tenth; the most monotonous logs, to a hundredth.
_MOST_TIMES: Final = 300
_FREE_BYTES: Final = 4 * MAX_TEXT_BYTES


class _ZstdFrames:
    """The content of zstd frames. The library's own stream takes a frame that is cut off for a whole one."""

    def __init__(self, stream: BinaryIO) -> None:
        from zstandard import ZstdDecompressor

        self._new = ZstdDecompressor().decompressobj
        self._stream = stream
        self._frame: Any = None
        self._packed = b""
        self._content = io.BytesIO()

    def read(self, size: int) -> bytes:
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

    def seekable(self) -> bool:
        return False


def _errors(method: str) -> tuple[type[Exception], ...]:
    if method != ".zst":
        return EOFError, zlib.error, lzma.LZMAError
    from zstandard import ZstdError

    return EOFError, ZstdError


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
    try:
        with open_unpacked(io.BytesIO(data), name) as stream:
            content = stream.read(limit + 1)
    except OSError as exc:
        raise DocumentError("unreadable", f"{name}: {exc}") from exc
    if len(content) > limit:
        raise DocumentError("too_large", f"{name}: more than {limit} bytes unpacked: split the document")
    return content


def open_unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    """Return the content of a compressed stream; another stream as it is.

    Raises:
        DocumentError: the library of its method is not installed.
    """
    method = _method(name)
    if not method:
        return stream
    try:
        inner = _METHODS[method](stream)
    except ImportError as exc:
        raise DocumentError("missing_library", f"{name}: {exc.name} is not installed: pip install 'twinline[formats]'") from exc
    return io.BufferedReader(_Unpacked(stream, inner, _errors(method)), 1 << 20)


class _Unpacked(io.RawIOBase):
    """The content of a compressed stream; reading ends where it grows beyond all text."""

    def __init__(self, packed: BinaryIO, inner: Any, errors: tuple[type[Exception], ...]) -> None:
        self._packed = packed
        self._inner = inner
        self._errors = errors
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        try:
            piece = self._inner.read(len(room))
        except self._errors as exc:
            raise OSError(str(exc) or type(exc).__name__) from exc
        self._read += len(piece)
        if self._read > _FREE_BYTES and self._read > _MOST_TIMES * self._packed.tell():
            raise OSError(f"unpacks to more than {_MOST_TIMES} times its size: unpack it, and look what it is")
        room[: len(piece)] = piece
        return len(piece)

    def seekable(self) -> bool:
        return bool(self._inner.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._read = 0
        return int(self._inner.seek(offset, whence))

    def tell(self) -> int:
        return int(self._inner.tell())


def _method(name: str) -> str:
    return next((ending for ending in _METHODS if name.lower().endswith(ending)), "")
