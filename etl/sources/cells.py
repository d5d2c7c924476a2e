"""The values of a row as fields of a document: one rule a field, wherever the row comes from."""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from twinline.contract.canonical import JSON
from twinline.contract.documents.records import MAX_VERSION
from twinline.contract.errors import DocumentError

# Programs write a column of whole numbers with gaps as 3.0. Longer ones than a version may have are left to the check.
_WHOLE: Final = re.compile(r"([0-9]{1,16})(?:\.0{1,16})?")


def name_of(value: object) -> object:
    """Return a key, a tenant or a title as text: a number is its digits, 3.0 is `3`; None for a missing value, NaN too.

    Anything that has no plain text, such as a list, is returned as it is: the document's check names it.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    whole = _whole(value)
    if isinstance(whole, str | Mapping | list | tuple):
        return whole
    return str(whole)


def text_or_nothing(value: object) -> object:
    """Return a text as it is, the empty text for a missing value; a number is no text, and the document's check names it."""
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def version_of(value: object) -> object:
    """Return a version as an integer where it is one: 7, 7.0, `7` in a CSV file. An empty field is no version."""
    if isinstance(value, str):
        match = _WHOLE.fullmatch(value.strip())
        return int(match[1]) if match else value.strip() or None
    if isinstance(value, float) and math.isnan(value):
        return None
    return _whole(value)


def metadata_of(value: object) -> JSON:
    """Return a value in canonical JSON: no dates, decimals, NaN, nor integers beyond a double's."""
    if isinstance(value, Mapping):
        return {str(name): metadata_of(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [metadata_of(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) > MAX_VERSION:
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def without_bytes(row: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return a row whose bytes are text: older writers of Parquet store text without saying so.

    Raises:
        DocumentError: `invalid_utf8`, with the column's name.
    """
    return {name: _decoded(value, name) for name, value in row.items()}


def _decoded(value: JSON, name: str) -> JSON:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as exc:
            message = f"column {name!r} holds bytes that are not UTF-8 (at byte {exc.start}): convert it, or leave the column out"
            raise DocumentError("invalid_utf8", message) from exc
    if isinstance(value, Mapping):
        return {inner: _decoded(held, f"{name}.{inner}") for inner, held in value.items()}
    if isinstance(value, list | tuple):
        return [_decoded(held, name) for held in value]
    return value


def _whole(value: object) -> object:
    """Return a whole number as an integer, whatever its type; anything else as it is."""
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return int(value)
    return value
