"""The plan of deaths: kinds, order and pauses, and the record of the deaths that happened."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from proofs.chaos.points import CONSUMER_POINTS, START_POINTS, TRITON_POINT

Participant = Literal["consumer", "online", "triton"]
ONLINE_AT_RANDOM, TRITON_AT_RANDOM, WHILE_STARTING = "online_at_random", "triton_at_random", "start_at_random"
BOTH, BROKER = "both", "broker"

# One pass: each point of a batch, start-ups (two deaths each), Triton, random moments, the broker.
LONG_DECK = (
    *CONSUMER_POINTS,
    *START_POINTS,
    *(TRITON_POINT, TRITON_POINT, TRITON_AT_RANDOM),
    *(ONLINE_AT_RANDOM, ONLINE_AT_RANDOM, WHILE_STARTING, BOTH),
    *(BROKER, BROKER),
)
# One of each class, in an order that makes them overlap.
SHORT_DECK = (
    "between_heads_and_chunks",
    TRITON_POINT,
    BROKER,
    "between_insert_and_delete",
    "during_dead_letter",
    "between_flush_and_commit",
    BROKER,
    "start_first_batch",
    "after_handle",
    "after_embed",
)
# At points that a batch seldom passes, fewer passes are skipped.
SELDOM = frozenset({"during_dead_letter", "after_dead_letter", "between_insert_and_delete", "after_surplus"})


@dataclass(frozen=True, slots=True)
class Pace:
    """The pauses between deaths.

    Args:
        quiet_seconds: shortest and longest pause between two deaths.
        most_skipped: number of times that a process may pass an armed point before it dies.
    """

    quiet_seconds: tuple[float, float]
    most_skipped: int


LONG_PACE, SHORT_PACE = Pace((0.3, 3.0), 5), Pace((0.2, 0.8), 1)


@dataclass(slots=True)
class Kill:
    """One confirmed death, and the seconds until a search was answered and until documents were committed again."""

    point: str
    participant: Participant
    at: float
    search_seconds: float | None = None
    index_seconds: float | None = None


@dataclass(slots=True)
class Record:
    """All faults of a run."""

    kills: list[Kill] = field(default_factory=list)
    broker: Counter[str] = field(default_factory=Counter)
    unreached: Counter[str] = field(default_factory=Counter)
    not_recovered: list[str] = field(default_factory=list)

    def disturbed(self) -> list[tuple[float, float]]:
        """Return (from, to) of each death and the first answer after it; for two in a row, the answer after the second."""
        spans: list[tuple[float, float]] = []
        answered = float("inf")
        for kill in reversed(self.kills):
            if kill.search_seconds is not None:
                answered = kill.at + kill.search_seconds
            # Death is noted once the process is gone, a little after its last answer.
            spans.append((kill.at - 1, answered))
        return spans

    def summary(self) -> dict[str, Any]:
        """Return counts by point and by participant, and medians of recovery."""

        def middle(participant: str, which: str) -> float | None:
            known = [
                value for kill in self.kills if kill.participant == participant and (value := getattr(kill, which)) is not None
            ]
            return round(median(known), 2) if known else None

        participants = Counter(kill.participant for kill in self.kills)
        return {
            "kills": len(self.kills),
            "kills_by_point": dict(sorted(Counter(kill.point for kill in self.kills).items())),
            "kills_by_participant": dict(sorted(participants.items())),
            "broker": dict(self.broker),
            "armed_but_not_reached": dict(self.unreached),
            "recovery_median_seconds": {
                name: {"search": middle(name, "search_seconds"), "index": middle(name, "index_seconds")}
                for name in sorted(participants)
            },
        }
