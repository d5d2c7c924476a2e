"""A condition with what was measured, and the refusal that lists the ones that failed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError

# How much worse than the active release, live, the lower end of the 95 % interval may be.
MARGIN: Final = 0.02


@dataclass(frozen=True, slots=True)
class Check:
    """One condition, what was measured in words, and the numbers themselves."""

    name: str
    passed: bool
    detail: str
    numbers: Mapping[str, JSON] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return asdict(self)


class RefusedError(ContractError):
    """A release must not go on; the message carries the numbers, and `checks` what was looked at."""

    def __init__(self, message: str, checks: Sequence[Check] = ()) -> None:
        super().__init__(message)
        self.checks = tuple(checks)


def require_pass(checks: Sequence[Check], place: str, remedy: str) -> None:
    """Raise RefusedError naming each condition that failed."""
    failed = [check for check in checks if not check.passed]
    if failed:
        reasons = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        raise RefusedError(f"{place} is refused, {len(failed)} of {len(checks)} checks failed: {reasons}. {remedy}", checks)


def refusal_line(error: RefusedError) -> str:
    """Return the JSON object that a refused command ends with: the reason, and what was looked at."""
    return json.dumps({"refused": str(error), "checks": [check.to_json() for check in error.checks]}, ensure_ascii=False)
