"""Plain text, and what every reader shares: a title of last resort, text of bytes, the errors of parsers."""

import codecs
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Final
from zipfile import BadZipFile

from twinline.contract.errors import DocumentError

TitleAndText = tuple[str, str]

# Damaged input makes a parser fail anywhere, so the list is long. MemoryError is not on it: it is no fault of the file alone.
_PARSER_ERRORS: Final = (
    *(ArithmeticError, AssertionError, AttributeError, BadZipFile, EOFError, LookupError, NotImplementedError, OSError),
    *(RecursionError, SyntaxError, TypeError, ValueError, zlib.error),
)


def read_text(data: bytes, name: str) -> TitleAndText:
    """Return plain text as it is, titled by its file name."""
    return stem(name), text_of(data, name)


def text_of(data: bytes, name: str) -> str:
    """Return text in UTF-8, or in UTF-16 with a byte order mark, as Windows writes "Unicode"."""
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        kind = "UTF-16" if utf_16 else "UTF-8"
        raise DocumentError("invalid_utf8", f"{name}: not {kind} at byte {exc.start}, line {line}: save it as UTF-8") from exc


def stem(name: str) -> str:
    """Return the file's name without folder and ending: the title of a document that names none."""
    return PurePosixPath(name).stem


def one_line(text: object) -> str:
    """Return a title on one line, whatever a library gives for it; empty for None."""
    return "" if text is None else " ".join(str(text).split())


@contextmanager
def parser_errors(kind: str, name: str) -> Iterator[None]:
    """Turn the errors of a parser into the reject `corrupt_KIND`."""
    try:
        yield
    except ImportError as exc:
        message = f"{name}: {exc.name} is not installed: pip install 'twinline[formats]'"
        raise DocumentError("missing_library", message) from exc
    except _PARSER_ERRORS as exc:
        raise DocumentError(f"corrupt_{kind}", f"{name}: {type(exc).__name__}: {str(exc)[:300]}") from exc
