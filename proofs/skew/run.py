"""A mutation run: every known way for training and serving to drift apart must be refused, at the right place.

system ─> control ─> for each fault: plant, walk, undo ─> control again ─> report
"""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from proofs.skew.faults import Fault
from proofs.skew.system import SHORT_SOURCE, SOURCE, System, running_system
from proofs.skew.walk import Finding, Walker
from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError, SettingsError, TransientError

_MESSAGE_CHARS: Final = 200


class Walks(Protocol):
    """A walk through all doors and hops."""

    def walk(self) -> Finding:
        """Return the first finding."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one fault; `found_by` is None for an unnoticed fault."""

    name: str
    planted: str
    where: str
    found_by: str | None
    expected: tuple[str, ...]
    right: bool
    message: str
    seconds: float


def measure_faults(folder: Path, only: Sequence[str] = (), *, short: bool = False) -> dict[str, JSON]:
    """Plant each fault in a system of its own kind, and return one JSON object.

    Args:
        folder: of the system; its releases are reused.
        only: names of faults; none: all.
        short: a few faults, one of each kind, over few documents.

    Raises:
        SettingsError: there is no fault of that name.
        ContractError: a walk without a planted fault has a finding.
    """
    faults = choose(all_faults(), only, short=short)
    with running_system(folder, SHORT_SOURCE if short else SOURCE) as system:
        return plant_faults(system, Walker(system), faults)


def plant_faults(system: System, walker: Walks, faults: Sequence[Fault]) -> dict[str, JSON]:
    """Plant each fault alone, with a control before and after them; return the report."""
    started = time.perf_counter()
    before = _control(walker, "before any fault")
    outcomes: list[Outcome] = []
    not_planted: dict[str, str] = {}
    for fault in faults:
        if why := fault.impossible():
            not_planted[fault.name] = why
            print(f"not planted: {fault.name}: {why}", file=sys.stderr, flush=True)
            continue
        with fault.plant(system):
            found = _walk(walker)
        outcomes.append(_outcome(fault, found))
        print(_line(len(outcomes) + len(not_planted), len(faults), outcomes[-1]), file=sys.stderr, flush=True)
    after = _control(walker, "after all faults were undone")
    return report(outcomes, not_planted, before, after, time.perf_counter() - started)


def report(
    outcomes: Sequence[Outcome], not_planted: Mapping[str, str], before: Finding, after: Finding, seconds: float
) -> dict[str, JSON]:
    """Return the JSON form of a run; `not_planted` has the reasons of faults that this machine cannot have."""
    missed = [outcome.name for outcome in outcomes if outcome.found_by is None]
    hops = before.report.hops if before.report else ()
    sample = before.report.sample if before.report else None
    worst: dict[str, JSON] = {hop.name: hop.worst for hop in hops if hop.worst is not None}
    return {
        "planted": len(outcomes),
        "caught": len(outcomes) - len(missed),
        "missed": missed,
        "wrong_place": [outcome.name for outcome in outcomes if outcome.found_by is not None and not outcome.right],
        "not_planted": {**not_planted},
        "faults": [asdict(outcome) for outcome in outcomes],
        "control": {
            "before": {"found_by": before.found_by, "seconds": before.seconds, "message": before.message},
            "after": {"found_by": after.found_by, "seconds": after.seconds, "message": after.message},
            "documents": sample.compared if sample else 0,
        },
        "worst": {**worst, "live sample": sample.worst if sample else None},
        "seconds": round(seconds, 1),
    }


def passed(found: dict[str, Any]) -> bool:
    """Return whether at least one fault was planted, and every one was caught at the right place."""
    return found["planted"] > 0 and not found["missed"] and not found["wrong_place"]


def all_faults() -> tuple[Fault, ...]:
    """Return the faults of every table."""
    # Imported here, because they import torch, and `--help` must not wait for it.
    from proofs.skew import faults_code, faults_consumer, faults_export, faults_index, faults_release, faults_serving

    tables = (faults_code, faults_release, faults_export, faults_serving, faults_index, faults_consumer)
    return tuple(fault for table in tables for fault in table.FAULTS)


def choose(faults: Iterable[Fault], only: Sequence[str], *, short: bool) -> tuple[Fault, ...]:
    """Return the wanted faults.

    Raises:
        SettingsError: a name is unknown.
    """
    known = {fault.name: fault for fault in faults}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SettingsError(f"no fault is called {', '.join(unknown)}: there are {', '.join(sorted(known))}")
    if only:
        return tuple(known[name] for name in only)
    return tuple(fault for fault in known.values() if fault.short or not short)


def _line(number: int, count: int, outcome: Outcome) -> str:
    place = outcome.found_by or "MISSED"
    wrong = "" if outcome.right else f" instead of {' or '.join(outcome.expected)}: {outcome.message}"
    return f"{number:>3}/{count} {outcome.name}: {place}{wrong} ({outcome.seconds} s)"


def _walk(walker: Walks) -> Finding:
    started = time.perf_counter()
    try:
        return walker.walk()
    except TransientError as exc:
        # A dependency that is away makes a client retry later: that is no refusal.
        return Finding(None, f"no refusal, but a dependency was away: {exc}", time.perf_counter() - started)


def _control(walker: Walks, when: str) -> Finding:
    found = walker.walk()
    if found.found_by is not None:
        raise ContractError(f"the walk {when} found something at `{found.found_by}`: {found.message}")
    return found


def _outcome(fault: Fault, found: Finding) -> Outcome:
    return Outcome(
        fault.name,
        fault.planted,
        fault.where,
        found.found_by,
        fault.expected,
        found.found_by in fault.expected,
        found.message[:_MESSAGE_CHARS],
        round(found.seconds, 2),
    )
