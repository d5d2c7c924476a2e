"""Which column of a table, or field of a JSON object, holds the key, the title and the text."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Which column of a table or field of a JSON object holds what; empty means: by the usual names."""

    key: str = ""
    title: str = ""
    text: str = ""
