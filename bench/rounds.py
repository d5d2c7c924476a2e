"""Rounds: all contenders do the same work in turn, in a changing order, so that the machine's load meets all alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one turn: a number of units (documents, queries, messages), and its seconds."""

    units: float
    seconds: float

    @property
    def rate(self) -> float:
        """Return units a second."""
        return self.units / self.seconds


class Contender(Protocol):
    """A participant of the rounds."""

    @property
    def name(self) -> str:
        """Return the name in tables."""

    def turn(self) -> Work:
        """Do the work once."""


def take_turns(contenders: Sequence[Contender], rounds: int) -> dict[str, list[Work]]:
    """Return each contender's work in each round; the order is reversed from round to round, and shifts by one every second one.

    Were it to shift with every round, the first of two would stay the first.
    """
    done: dict[str, list[Work]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        first = number // 2 % len(contenders)
        order = [*contenders[first:], *contenders[:first]]
        for contender in order if number % 2 == 0 else reversed(order):
            done[contender.name].append(contender.turn())
    return done


def summary(done: Mapping[str, Sequence[Work]], reference: str, unit: str) -> list[dict[str, Any]]:
    """Return one row a contender: median rate, its spread, and the median over rounds of the ratio to the reference.

    Args:
        done: by contender, one entry a round.
        reference: the contender with rate 1; it takes part in every round, so each round gives a ratio of its own.
        unit: of the work, in the plural.
    """
    rows: list[dict[str, Any]] = []
    for name, works in done.items():
        rates = [work.rate for work in works]
        ratios = [work.rate / base.rate for work, base in zip(works, done[reference], strict=True)]
        rows.append(
            {
                "contender": name,
                f"{unit}_per_second": _short(median(rates)),
                "lowest": _short(min(rates)),
                "highest": _short(max(rates)),
                "ratio": _short(median(ratios)),
                "ratio_lowest": _short(min(ratios)),
                "ratio_highest": _short(max(ratios)),
                "rounds": len(works),
            }
        )
    return rows


def percentiles(milliseconds: Sequence[float], *shares: float) -> dict[str, float]:
    """Return percentiles by name, such as `p50_ms`, by nearest rank."""
    ordered = sorted(milliseconds)
    return {f"p{share:g}_ms": _short(ordered[max(0, -(-len(ordered) * share // 100).__int__() - 1)]) for share in shares}


def _short(value: float) -> float:
    return float(f"{value:.4g}")
