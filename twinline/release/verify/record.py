"""The record of a verification: its checks, their numbers, and the active release of the comparison."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from twinline.clients.files import replace_file
from twinline.contract.canonical import JSON
from twinline.contract.errors import MismatchError
from twinline.contract.release.checks import Check


@dataclass(frozen=True, slots=True)
class Verification:
    """One verification, passed or refused.

    Args:
        time: ISO 8601, UTC.
        against: the active release of that time, for comparison; empty where there was none.
    """

    release: str
    time: str
    by: str
    against: str
    passed: bool
    checks: tuple[Check, ...]

    @classmethod
    def of(cls, release: str, by: str, against: str, checks: Sequence[Check]) -> Self:
        """Return the record of a verification that ended now."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        return cls(release, time, by, against, all(check.passed for check in checks), tuple(checks))

    def save(self, folder: Path) -> None:
        """Save it as the last one of its release."""
        replace_file(_place(folder, self.release), json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return asdict(self)


def last_verification(folder: Path, release: str) -> Verification | None:
    """Return the last verification of a release's current collection, None where there was none.

    Raises:
        MismatchError: the file is no record.
    """
    place = _place(folder, release)
    try:
        value: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        checks = tuple(Check(**check) for check in value.pop("checks"))
        return Verification(**value, checks=checks)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as exc:
        raise MismatchError(f"{place} is not a record of a verification ({exc!r}): remove it, and verify again") from exc


def forget_verification(folder: Path, release: str) -> None:
    """Remove the record: its collection is about to change."""
    _place(folder, release).unlink(missing_ok=True)


def _place(folder: Path, release: str) -> Path:
    return folder / release / "verification.json"
