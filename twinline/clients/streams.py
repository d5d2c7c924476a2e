"""Standard output and error never end a program: what an encoding cannot hold is written as an escape."""

import codecs
import io
import sys
from typing import Final

_ERRORS: Final = "twinline_escape"
# Chosen by the user (PYTHONIOENCODING=ascii:replace), and as safe.
_SAFE: Final = ("replace", "backslashreplace", "xmlcharrefreplace", "namereplace", "ignore", _ERRORS)


def apply() -> None:
    """Escape characters that standard output or error cannot encode."""
    codecs.register_error(_ERRORS, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors not in _SAFE:
            stream.reconfigure(errors=_ERRORS)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Return `\uXXXX` for each character: also inside a JSON string, where `\xe9` would not be read."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    escapes = (f"\\u{int.from_bytes(units[place : place + 2], 'big'):04x}" for place in range(0, len(units), 2))
    return "".join(escapes), error.end
