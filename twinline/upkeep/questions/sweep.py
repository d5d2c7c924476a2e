"""Search settings tried on one's own questions, without another release: fusion, depth, ef, and exact search.

    questions -> two halves by their ids
    one half        chooses: the best mean of all combinations
    the other half  confirms: the chosen one minus the served settings, with its interval

One half for both would find a best combination by chance alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from statistics import fmean
from typing import Any, Final, Literal

from twinline.contract.canonical import JSON
from twinline.contract.errors import SettingsError
from twinline.contract.sparse.fusion import Fusion
from twinline.scoring.intervals import Interval, paired_bootstrap
from twinline.upkeep.questions.measure import FEWEST_QUESTIONS, METRIC, Measured

MOST_TRIALS: Final = 64
AS_SERVED: Final = "as served"
# Fusion rule -> the field of a trial that its numbers fill; None: it has none.
_NUMBER: Final[Mapping[str, str | None]] = {"dense": None, "scores": "dense_percent", "ranks": "k"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination of settings: its name, and its fields in the admin API's trial question."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One combination, measured."""

    name: str
    fields: Mapping[str, Any]
    means: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sweep:
    """All combinations, and what the other half of the questions says of the chosen one.

    Args:
        outcome: `better`: the interval is above 0. `served is best`: no combination beat the served settings on the first half.
    """

    release: str
    rows: Sequence[Row]
    chosen: str
    outcome: Literal["better", "not better", "served is best", "undecided"]
    confirmed_on: int
    interval: Interval | None

    def sentence(self) -> str:
        """Return the outcome in words, with its numbers."""
        if self.outcome == "undecided":
            return (
                f"undecided: {self.confirmed_on} questions are left to confirm a choice, at least {FEWEST_QUESTIONS} are needed"
            )
        if self.interval is None:
            return "the settings as served are the best of these"
        found = self.interval
        said = "better than" if self.outcome == "better" else "not surely better than"
        return (
            f"`{self.chosen}` is {said} the settings as served: {METRIC} {found.mean:+.4f}, 95% interval {found.low:+.4f} to "
            f"{found.high:+.4f} on the {self.confirmed_on} questions that did not choose it"
        )

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return asdict(self)


def trials(fusions: Sequence[str], efs: str, depths: str, *, exact: bool) -> list[Trial]:
    """Return all combinations; the first is the settings as served.

    Args:
        fusions: `dense`, `scores:40,50` (percent of the cosine) or `ranks:10,60` (k).
        efs, depths: whole numbers, separated by commas; empty: as served.
        exact: try exact search too.

    Raises:
        SettingsError: there is nothing to try, too much, or no such setting.
    """
    choices: list[list[tuple[str, dict[str, Any]]]] = [
        [("", {}), *(each for text in fusions for each in _fusions(text))],
        [("", {}), *((f"depth={number}", {"depth": number}) for number in _numbers("--depth", depths))],
        [
            ("", {}),
            *((f"ef={number}", {"ef_search": number}) for number in _numbers("--ef", efs)),
            *([("exact", {"exact": True})] if exact else []),
        ],
    ]
    found = [
        Trial(" ".join(name for name, _ in parts if name) or AS_SERVED, {k: v for _, fields in parts for k, v in fields.items()})
        for parts in product(*choices)
    ]
    if len(found) == 1:
        raise SettingsError("there is nothing to try: name settings with --fusion, --depth, --ef or --exact")
    if len(found) > MOST_TRIALS:
        raise SettingsError(f"{len(found)} combinations are asked for, at most {MOST_TRIALS} can be tried: leave some out")
    return found


def sweep(combinations: Sequence[Trial], run: Callable[[Trial], Measured]) -> Sweep:
    """Measure every combination, choose the best on one half of the questions, and confirm it on the other."""
    measured = {trial.name: run(trial) for trial in combinations}
    served = measured[AS_SERVED]
    choosing, confirming = halves(list(served.asked))
    rows = [Row(trial.name, trial.fields, measured[trial.name].means()) for trial in combinations]

    def chosen_by(name: str) -> float:
        return fmean(measured[name].of(METRIC, choosing).values()) if choosing else 0.0

    # The first of equals, and the settings as served come first.
    best = max(measured, key=chosen_by)
    if min(len(choosing), len(confirming)) < FEWEST_QUESTIONS:
        return Sweep(served.release, rows, best, "undecided", len(confirming), None)
    if best == AS_SERVED:
        return Sweep(served.release, rows, best, "served is best", len(confirming), None)
    interval = paired_bootstrap(measured[best].of(METRIC, confirming), served.of(METRIC, confirming))
    return Sweep(served.release, rows, best, "better" if interval.low > 0 else "not better", len(confirming), interval)


def halves(questions: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the questions that choose and those that confirm: every other one in the order of their ids, which are hashes."""
    ordered = sorted(questions)
    return ordered[::2], ordered[1::2]


def _fusions(text: str) -> list[tuple[str, dict[str, Any]]]:
    rule, _, listed = text.partition(":")
    if rule not in _NUMBER:
        raise SettingsError(f"--fusion {text!r}: the rule is one of {', '.join(_NUMBER)}, such as scores:40,50,60")
    field = _NUMBER[rule]
    if field is None and listed:
        raise SettingsError(f"--fusion {text!r}: the rule `{rule}` has no numbers")
    found: list[dict[str, Any]] = [{}] if field is None or not listed else [{field: n} for n in _numbers("--fusion", listed)]
    # The contract's own type refuses numbers out of bounds.
    return [(Fusion(**{"rule": rule, **fields}).label, {"rule": rule, **fields}) for fields in found]


def _numbers(option: str, text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",") if text))
    except ValueError as exc:
        raise SettingsError(f"{option} {text!r}: give whole numbers, separated by commas, such as 64,128,256") from exc
