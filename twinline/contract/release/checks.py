"""A condition with its measurement, and the refusal that lists failed conditions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError

# The largest loss against the active release, live, at the lower end of the 95 % interval.
MARGIN: Final = 0.02


@dataclass(frozen=True, slots=True)
class Check:
    """One condition, its measurement in words, and the numbers themselves."""

    name: str
    passed: bool
    detail: str
    numbers: Mapping[str, JSON] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return asdict(self)


class RefusedError(ContractError):
    """A release is refused; the message carries the numbers, and `checks` the conditions."""

    def __init__(self, message: str, checks: Sequence[Check] = ()) -> None:
        super().__init__(message)
        self.checks = tuple(checks)


class UndecidedError(RefusedError):
    """A release is not accepted, because it was measured on too few questions; a person may accept it by name."""


def require_pass(checks: Sequence[Check], place: str, remedy: str) -> None:
    """Raise RefusedError with each failed condition."""
    failed = [check for check in checks if not check.passed]
    if failed:
        reasons = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        raise RefusedError(f"{place} is refused, {len(failed)} of {len(checks)} checks failed: {reasons}. {remedy}", checks)


def refusal_line(error: RefusedError) -> str:
    """Return the last line of a refused command, a JSON object: the reason and the checks."""
    undecided = {"undecided": True} if isinstance(error, UndecidedError) else {}
    return json.dumps(
        {"refused": str(error), **undecided, "checks": [check.to_json() for check in error.checks]}, ensure_ascii=False
    )
