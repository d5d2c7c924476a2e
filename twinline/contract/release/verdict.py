"""The verdict on an encoder: named checks with their numbers, written by the offline stages and read by the gate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from twinline.contract.canonical import JSON
from twinline.contract.release.checks import Check

BETTER_THAN_BASE: Final = "better than base"
NOT_WORSE_THAN_CHAMPION: Final = "not worse than champion"
GUARDED_SLICES: Final = "guarded slices"
NO_EVALUATION_LEAK: Final = "no evaluation leak"
FORMAT_TO_SERVE: Final = "format to serve"
ENOUGH_QUESTIONS: Final = "enough questions"
TRAINED_AS_SERVED: Final = "trained as served"
FUSION: Final = "fusion"
EXACT_NAMES: Final = "exact names"

# The checks of the evaluation stage: a verdict that lacks any of them is invalid.
EVALUATION_CHECKS: Final = (BETTER_THAN_BASE, NOT_WORSE_THAN_CHAMPION, GUARDED_SLICES, NO_EVALUATION_LEAK)
# All that it writes. A verdict of an older version lacks some of the last four, and stands as it is.
WRITTEN_CHECKS: Final = (*EVALUATION_CHECKS, ENOUGH_QUESTIONS, TRAINED_AS_SERVED, FUSION, EXACT_NAMES)

Outcome = Literal["accepted", "undecided", "refused"]


def outcome(checks: Sequence[Check]) -> Outcome:
    """Return what the checks come to: undecided where nothing speaks against a model but too few questions for a measurement."""
    failed = {check.name for check in checks if not check.passed}
    if not failed:
        return "accepted"
    return "undecided" if failed == {ENOUGH_QUESTIONS} else "refused"


def stated(check: Check) -> dict[str, JSON]:
    """Return the form of a check in the files of the stages, where `statement` is its word for the detail."""
    return {"name": check.name, "passed": check.passed, "statement": check.detail, "numbers": dict(check.numbers)}


def read_stated(value: Mapping[str, Any]) -> Check:
    """Read what `stated` gave.

    Raises:
        KeyError, TypeError, ValueError: it has another form; a truthy word is not a verdict.
    """
    if not isinstance(value["passed"], bool):
        raise TypeError(f"`passed` of {value['name']!r} is {value['passed']!r}, not true or false")
    return Check(str(value["name"]), value["passed"], str(value["statement"]), dict(value["numbers"]))


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks of one stage, in the order of their display."""

    checks: Sequence[Check]

    @property
    def accepted(self) -> bool:
        """Return whether every check holds."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, JSON]:
        """Return the form of `verdict.json`."""
        return {"accepted": self.accepted, "outcome": outcome(self.checks), "checks": [stated(check) for check in self.checks]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Verdict":
        """Read the form from `to_json`. The checks decide; the words `accepted` and `outcome` are for people."""
        return cls([read_stated(entry) for entry in value["checks"]])
