"""JSON as every language reads it: one value a name, no NaN, of any size or depth.

Pure: every violation is the sender's fault, and is a DocumentError.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from twinline.contract.canonical import JSON
from twinline.contract.errors import DocumentError

_MAX_SHOWN_CHARS = 200


def load_json(content: bytes, place: str, max_bytes: int) -> object:
    """Return the value in some bytes of UTF-8.

    Raises:
        DocumentError: `too_large`, `invalid_utf8`, or `invalid_json`, which a name that stands twice in one object is too.
    """
    if len(content) > max_bytes:
        raise DocumentError("too_large", f"{place}: {len(content)} bytes of JSON, the limit is {max_bytes}")
    try:
        # Decoded here: given bytes, the json module would guess UTF-16 and UTF-32 too.
        return json.loads(content.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError as exc:
        raise DocumentError("invalid_utf8", f"{place}: not UTF-8 at byte {exc.start}") from exc
    except (ValueError, RecursionError) as exc:
        raise DocumentError("invalid_json", f"{place}: not JSON: {str(exc)[:200]}") from exc


def nesting(value: object, limit: int) -> int:
    """Return how deep a JSON value is nested, without recursion, and no further than a limit needs."""
    depth, level = 0, [value]
    while level and depth <= limit:
        depth += 1
        level = [child for item in level for child in _children(item)]
    return depth


def integers(value: object) -> Iterator[int]:
    """Yield the integers in a JSON value that is not nested too deeply."""
    level = [value]
    while level:
        yield from (item for item in level if isinstance(item, int) and not isinstance(item, bool))
        level = [child for item in level for child in _children(item)]


def short(value: object) -> str:
    """Return a value as an error message shows it: a long value must not make the message long."""
    try:
        shown = repr(value)
    except RecursionError:
        shown = f"a deeply nested {type(value).__name__}"
    return shown if len(shown) <= _MAX_SHOWN_CHARS else f"{shown[:_MAX_SHOWN_CHARS]}..."


def _object(pairs: Sequence[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Languages differ on which one counts.
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {twice[:60]!r} stands twice in one object")
    return found


def _refuse_constant(name: str) -> JSON:
    raise ValueError(f"{name} is no JSON")


def _children(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()
