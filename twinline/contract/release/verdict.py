"""The verdict on an encoder: named checks with their numbers, written by the offline stages and read by the gate."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from twinline.contract.canonical import JSON

BETTER_THAN_BASE: Final = "better than base"
NOT_WORSE_THAN_CHAMPION: Final = "not worse than champion"
GUARDED_SLICES: Final = "guarded slices"
NO_EVALUATION_LEAK: Final = "no evaluation leak"
FORMAT_TO_SERVE: Final = "format to serve"

# The checks of the evaluation stage: a verdict that lacks any of them is invalid.
EVALUATION_CHECKS: Final = (BETTER_THAN_BASE, NOT_WORSE_THAN_CHAMPION, GUARDED_SLICES, NO_EVALUATION_LEAK)


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One condition: whether it holds, the reason in a sentence, and its numbers."""

    name: str
    passed: bool
    statement: str
    numbers: Mapping[str, JSON] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GateCheck":
        """Read one check.

        Raises:
            KeyError, TypeError, ValueError: the check has another form; a truthy word is not a verdict.
        """
        if not isinstance(value["passed"], bool):
            raise TypeError(f"`passed` of {value['name']!r} is {value['passed']!r}, not true or false")
        return cls(str(value["name"]), value["passed"], str(value["statement"]), dict(value["numbers"]))


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks of one stage, in the order of their display."""

    checks: Sequence[GateCheck]

    @property
    def accepted(self) -> bool:
        """Return whether every check holds."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, JSON]:
        """Return the form of `verdict.json`."""
        return {"accepted": self.accepted, "checks": [asdict(check) for check in self.checks]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Verdict":
        """Read the form from `to_json`. The checks decide; the word `accepted` is for people."""
        return cls([GateCheck.from_json(entry) for entry in value["checks"]])
