"""Kill -9 of each participant at each step of a release: searches are served, and a repeat of the command finishes.

for each case: bring the system to the start of the step ─> run it with the kill ─> run it again ─> check the system
"""

import argparse
import html
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from proofs.kills.cases import CASES, NEEDS, Case
from proofs.kills.kill_at import Plan
from proofs.kills.system import KillSystem, running_kill_system
from proofs.switch.load import Asked, Searchers, longest_gap_seconds
from proofs.switch.writes import real_texts
from twinline.contract.errors import SettingsError, TwinlineError

_CLIENTS: Final = 2
_SEARCHES_PER_SECOND: Final = 10.0
# Once the victim is back, the first attempt may still meet a dependency that is opening its collections.
_ATTEMPTS: Final = 3


@dataclass
class Outcome:
    """The outcome of one kill; `faults` is empty if the system recovered."""

    name: str
    step: str
    victim: str
    exit_code: int
    repeats: int = 0
    searches: int = 0
    failed: int = 0
    longest_gap_seconds: float = 0.0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def measure_kills(folder: Path, only: Sequence[str] = (), *, short: bool = False) -> dict[str, Any]:
    """Kill once in each case, and return one JSON object.

    Args:
        folder: of the system; its packaged releases are reused.
        only: parts of cases' names; none: all.
        short: a few cases.

    Raises:
        SettingsError: no case has such a name.
    """
    cases = choose(only, short=short)
    started = time.monotonic()
    outcomes: list[Outcome] = []
    with running_kill_system(folder) as system:
        queries = [" ".join(text.split()[:10]) for text in real_texts(json, html, argparse)]
        with Searchers(system.settings.search_url, queries, _CLIENTS, _SEARCHES_PER_SECOND) as searchers:
            for case in cases:
                outcomes.append(_one(system, case, searchers))
                print(_line(len(outcomes), len(cases), outcomes[-1]), file=sys.stderr, flush=True)
    return report(outcomes, time.monotonic() - started)


def choose(only: Sequence[str], *, short: bool) -> list[Case]:
    """Return the cases to run, in the order of the table."""
    unknown = [wanted for wanted in only if not any(wanted in case.name for case in CASES)]
    if unknown:
        raise SettingsError(f"no kill is called {', '.join(unknown)}; there are: {'; '.join(case.name for case in CASES)}")
    return [case for case in CASES if any(wanted in case.name for wanted in only) or (not only and (case.short or not short))]


def report(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """Return the JSON form of a run."""
    return {
        "kills": len(outcomes),
        "survived": sum(not outcome.faults for outcome in outcomes),
        "faults": [f"{outcome.name}: {fault}" for outcome in outcomes for fault in outcome.faults],
        "by_victim": {
            victim: sum(one.victim == victim for one in outcomes) for victim in sorted({one.victim for one in outcomes})
        },
        "searches": sum(outcome.searches for outcome in outcomes),
        "cases": [asdict(outcome) for outcome in outcomes],
        "seconds": round(seconds, 1),
    }


def passed(found: Mapping[str, Any]) -> bool:
    """Return whether every kill was survived."""
    return bool(found["kills"] == found["survived"] > 0)


def _one(system: KillSystem, case: Case, searchers: Searchers) -> Outcome:
    began = time.monotonic()
    system.bring_to(NEEDS[case.step])
    system.wait_until_back()
    before, command = len(searchers.asked), system.command(case.step)
    plan = Plan(
        str(system.registry), case.point, case.when, case.call, case.delay_seconds, case.victim, in_builder=case.in_builder
    )
    done = system.run(command, plan)
    outcome = Outcome(case.name, case.step, case.victim, done.code)
    if "kill_at: " not in done.errors:
        outcome.faults.append(f"no process was killed: the step never reached {case.point}")
    try:
        system.wait_until_back()
        for _ in range(_ATTEMPTS):
            outcome.repeats += 1
            again = system.run(command)
            if again.code == 0:
                break
        else:
            outcome.faults.append(f"the same command ends with {again.code} after {_ATTEMPTS} attempts: {again.errors[-300:]}")
        system.wait_until_back()
        outcome.faults += system.faults(system.active_after(case.step))
    except TwinlineError as error:
        outcome.faults.append(str(error))
    _judge_service(outcome, case, searchers.asked[before:])
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _judge_service(outcome: Outcome, case: Case, asked: Sequence[Asked]) -> None:
    failures = [one for one in asked if one.problem]
    outcome.searches, outcome.failed = len(asked), len(failures)
    outcome.longest_gap_seconds = longest_gap_seconds(asked)
    if not asked or asked[-1].problem:
        outcome.faults.append("searches are not answered at the end")
    if failures and case.must_serve_throughout:
        outcome.faults.append(f"{len(failures)} searches failed, the first with {failures[0].problem[:200]}")


def _line(number: int, total: int, outcome: Outcome) -> str:
    state = "ok" if not outcome.faults else f"FAULT {'; '.join(outcome.faults)}"
    return (
        f"{number}/{total} {outcome.name}: {state} ({outcome.seconds} s, {outcome.failed} of {outcome.searches} searches failed)"
    )
