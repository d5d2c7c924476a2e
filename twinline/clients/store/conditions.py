"""Conditions on one payload field, beyond being equal to a value or to one of several. Light: the search client imports them.

Where a field holds a list, one of its values must meet the whole condition.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Range:
    """The value lies within the bounds: all numbers, or all moments. No bound: None."""

    gte: float | datetime | None = None
    gt: float | datetime | None = None
    lte: float | datetime | None = None
    lt: float | datetime | None = None

    @property
    def bounds(self) -> dict[str, float | datetime]:
        """Return the bounds that there are, by name."""
        named = {"gte": self.gte, "gt": self.gt, "lte": self.lte, "lt": self.lt}
        return {name: bound for name, bound in named.items() if bound is not None}

    @property
    def is_of_moments(self) -> bool:
        """Say whether the bounds are moments."""
        return any(isinstance(bound, datetime) for bound in self.bounds.values())


@dataclass(frozen=True, slots=True)
class Either:
    """The value lies within one of the ranges."""

    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has a value; or, with False, it is absent, null or an empty list."""

    exists: bool


Condition = Range | Either | Exists
