"""A condition with what was measured, and the refusal that lists the ones that failed."""

from collections.abc import Sequence
from dataclasses import dataclass

from contract.errors import ContractError


class RefusedError(ContractError):
    """A release must not go on; the message carries the numbers."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition, and what was measured."""

    name: str
    passed: bool
    detail: str


def require_pass(checks: Sequence[Check], place: str, remedy: str) -> None:
    """Raise RefusedError naming each condition that failed."""
    failed = [check for check in checks if not check.passed]
    if failed:
        reasons = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        raise RefusedError(f"{place} is refused, {len(failed)} of {len(checks)} checks failed: {reasons}. {remedy}")
