"""JSON Lines, one line at a time: a broken line is one reject, and the other lines are read."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from etl.sources.items import Reject, excerpt
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import MAX_TEXT_BYTES

# JSON may spell one byte of text as six.
MAX_LINE_BYTES = 2 * MAX_TEXT_BYTES

# An object takes up to thirty times the bytes of its line. A longer line is parsed where memory is bounded.
_MAX_SHORT_BYTES = 256 * 1024

Parsed = tuple[int, Mapping[str, JSON]] | Reject
ParseLine = Callable[[bytes, str, int], Parsed]


def read_json_lines(stream: BinaryIO, place: str, parse_long: ParseLine | None = None) -> Iterator[Parsed]:
    """Yield (line number, object) for every line that holds an object, a Reject for any other.

    Args:
        parse_long: parses a long line, in another process; None: this one does.
    """
    for line in raw_lines(stream, place):
        yield line if isinstance(line, Reject) else parser_of(line[1], parse_long)(line[1], place, line[0])


def parser_of(line: bytes, parse_long: ParseLine | None) -> ParseLine:
    """Return what parses a line, by its length."""
    return parse_line if parse_long is None or len(line) <= _MAX_SHORT_BYTES else parse_long


def raw_lines(stream: BinaryIO, place: str) -> Iterator[tuple[int, bytes] | Reject]:
    """Yield (line number, its bytes) for every line that is not empty, a Reject for an overlong one."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            size = len(line) + _skip_line(stream)
            yield Reject(place, "too_large", f"{size} bytes, the limit is {MAX_LINE_BYTES}: split it", number, raw=excerpt(line))
        elif line.strip():
            yield number, line


def _skip_line(stream: BinaryIO) -> int:
    skipped = 0
    while piece := stream.readline(MAX_LINE_BYTES):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def parse_line(line: bytes, place: str, number: int) -> Parsed:
    """Return a line's number and object, or the reject of a line without one."""
    try:
        value = load_json(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as exc:
        return Reject(place, "invalid_utf8", f"not UTF-8 at byte {exc.start} of the line", number, raw=excerpt(line))
    except (ValueError, RecursionError) as exc:
        return Reject(place, "invalid_json", str(exc)[:200], number, raw=excerpt(line))
    return object_row(value, place, number, line)


def object_row(value: object, place: str, number: int, raw: bytes = b"") -> Parsed:
    """Return the number and object of a row, or the reject of a row that is no object."""
    if not isinstance(value, dict):
        detail = f"the row is {type(value).__name__}, must be a JSON object"
        return Reject(place, "not_an_object", detail, number, raw=excerpt(raw or str(value)))
    return number, value


def load_json(text: str) -> Any:
    """Return the value of a JSON text. As on the topic, a name that stands twice in one object is an error.

    Unlike there, NaN is read: programs write it into tables for a missing value.

    Raises:
        ValueError: it is no JSON, or a name stands twice.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_one_value_a_name)


def _one_value_a_name(pairs: Sequence[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = twice_in([name for name, _ in pairs])
        raise ValueError(f"the name {twice[0][:60]!r} stands twice in one object: keep one of them")
    return found


def twice_in(names: Sequence[str]) -> list[str]:
    """Return the names that stand more than once, each once."""
    seen: set[str] = set()
    return list(dict.fromkeys(name for name in names if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
