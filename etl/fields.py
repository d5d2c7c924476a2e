"""The columns of a table, or fields of a JSON object, that hold key, title and text."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Names of the columns or fields; an empty one is looked for by its usual names."""

    key: str = ""
    title: str = ""
    text: str = ""
