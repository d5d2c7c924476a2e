"""The metadata of a document that a search may filter by: declared fields, each of one type, as every chunk stores them.

A chunk has only the declared fields, in one form a type, so that every store compares them alike. The head has all metadata.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from sys import float_info
from typing import Any, Final, Literal

from twinline.contract.canonical import JSON

FieldType = Literal["keyword", "integer", "float", "datetime", "bool"]
FIELD_TYPES: Final[tuple[FieldType, ...]] = ("keyword", "integer", "float", "datetime", "bool")
METADATA: Final = "metadata."
# Beyond it, a store that compares numbers as floats is wrong.
LARGEST_INTEGER: Final = 2**53 - 1

_NAME: Final = re.compile(r"metadata(\.[\w-]+)+")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII)


def is_plain_name(name: str) -> bool:
    """Say whether a name is `metadata.` and members with dots between them, each of letters, digits, `_` and `-`."""
    return _NAME.fullmatch(name) is not None


def filterable(metadata: Mapping[str, Any], declared: Mapping[str, FieldType]) -> dict[str, JSON]:
    """Return the part of a document's metadata that lies on each of its chunks.

    A value of another type than its field's is left out: no filter finds it. Of a list, the values of the type stay.

    Args:
        declared: the type of each field, by its name, such as `metadata.team`.
    """
    own = {name: type_ for name, type_ in declared.items() if name.startswith(METADATA)}
    if not all(map(is_plain_name, own)):
        # Manifests from before types could name any path of the engine, such as `metadata.by[].name`.
        return dict(metadata)
    part: dict[str, JSON] = {}
    for name, type_ in own.items():
        value = _typed(_value(metadata, name), type_)
        if value is None:
            continue
        _, *members, last = name.split(".")
        place: Any = part
        for member in members:
            place = place.setdefault(member, {})
        place[last] = value
    return part


def mistyped(metadata: Mapping[str, Any], declared: Mapping[str, FieldType]) -> list[str]:
    """Return the declared fields of which a document has a value of another type: no filter finds that value."""
    own = {name: type_ for name, type_ in declared.items() if is_plain_name(name)}
    values = {name: _value(metadata, name) for name in own}
    listed = {name: value if isinstance(value, list | tuple) else [value] for name, value in values.items() if value is not None}
    return [name for name, each in listed.items() if any(typed_value(value, own[name]) is None for value in each)]


def typed_value(value: object, type_: FieldType) -> str | int | float | None:
    """Return one value in the form that stores compare; None for a value of another type.

    A date has the form `2020-01-31T00:00:00.000000Z`, a bool the form `true` or `false`.
    """
    if type_ == "bool":
        # Not as a bool: the embedded engine reads it as a number, and finds nothing.
        return ("true" if value else "false") if isinstance(value, bool) else None
    if type_ == "keyword":
        return value if isinstance(value, str) else None
    if type_ == "datetime":
        found = moment(value) if isinstance(value, str) else None
        return None if found is None else found.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if type_ == "float":
        # False for NaN, infinity, and an integer that no float reaches.
        return float(value) if abs(value) <= float_info.max else None
    return int(value) if abs(value) <= LARGEST_INTEGER and value == int(value) else None


def moment(text: str) -> datetime | None:
    """Return the moment of a date or a date and time of RFC 3339, in UTC; None for any other text.

    A date alone is its midnight, and a time without an offset is UTC.
    """
    if not _MOMENT.fullmatch(text):
        return None
    try:
        found = datetime.fromisoformat(text.upper())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        # No such day or hour, or an offset that leads before the year 1.
        return None


def _value(metadata: Mapping[str, Any], name: str) -> Any:
    """Return the value of a plain name; None where it is absent."""
    found: Any = metadata
    for member in name.split(".")[1:]:
        found = found.get(member) if isinstance(found, Mapping) else None
    return found


def _typed(value: object, type_: FieldType) -> JSON:
    if not isinstance(value, list | tuple):
        return typed_value(value, type_)
    typed = [one for each in value if (one := typed_value(each, type_)) is not None]
    return [*typed] or None
