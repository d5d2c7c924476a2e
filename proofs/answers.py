"""What a search's answer counts for in every proof that searches."""

from collections.abc import Mapping
from typing import Any


def words_alone(answer: Mapping[str, Any]) -> str:
    """Return the note of an answer that words gave alone, because the encoder was away; empty for a whole answer.

    Such an answer is not counted as answered. What it finds must be right like any other.
    """
    return str(answer["note"]) if answer["mode"] == "words" else ""
