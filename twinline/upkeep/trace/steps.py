"""The steps of a trace: each has a recorded value, the value computed again now, and a verdict."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Literal

from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError, TransientError
from twinline.registry.revisions import NotHereError

Status = Literal["VERIFIED", "DIFFERS", "NOT HERE", "RECORDED"]

STATUSES: dict[Status, str] = {
    "VERIFIED": "computed again just now, and equal",
    "DIFFERS": "computed again just now, and not what is recorded",
    "NOT HERE": "recorded, but what it could be checked against cannot be had on this machine",
    "RECORDED": "a record that nothing can be computed from again, such as the id of a run",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a trace. `note` says why a value is missing, or adds a remark for people."""

    section: str
    what: str
    value: JSON
    recomputed: JSON
    status: Status
    note: str = ""


@dataclass(slots=True)
class Section:
    """The steps about one subject, such as the release, in order."""

    name: str
    steps: list[Step] = field(default_factory=list)

    def compare(self, what: str, value: JSON, recomputed: JSON, note: str = "") -> bool:
        """Add a record beside the value computed now; return whether they are equal."""
        if value is None:
            self.absent(what, None, "not recorded")
            return False
        is_equal = value == recomputed
        self.steps.append(Step(self.name, what, value, recomputed, "VERIFIED" if is_equal else "DIFFERS", note))
        return is_equal

    def record(self, what: str, value: JSON, note: str = "") -> None:
        """Add a value that is only recorded; add nothing where it is not."""
        if value not in (None, ""):
            self.steps.append(Step(self.name, what, value, None, "RECORDED", note))

    def absent(self, what: str, value: JSON, reason: str) -> None:
        """Add a record that cannot be checked here, with the reason."""
        self.steps.append(Step(self.name, what, value, None, "NOT HERE", reason))

    def differs(self, what: str, value: JSON, recomputed: JSON, note: str = "") -> None:
        """Add a record that is known to be wrong."""
        self.steps.append(Step(self.name, what, value, recomputed, "DIFFERS", note))

    @contextmanager
    def looking(self, what: str, value: JSON = None) -> Iterator[None]:
        """Turn a failed read into a step: a missing part does not end the trace."""
        try:
            yield
        except (NotHereError, TransientError) as exc:
            self.absent(what, value, str(exc))
        except ContractError as exc:
            self.differs(what, value, str(exc))


@dataclass(frozen=True, slots=True)
class Trace:
    """The whole lineage of `subject`, section by section."""

    subject: str
    steps: Sequence[Step]

    @property
    def differing(self) -> list[Step]:
        """Return the steps whose record is wrong."""
        return [step for step in self.steps if step.status == "DIFFERS"]

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        counts: dict[str, JSON] = {status: sum(step.status == status for step in self.steps) for status in STATUSES}
        return {"subject": self.subject, "counts": counts, "steps": [asdict(step) for step in self.steps]}
