"""The heartbeat of a long batch: the consumer keeps its place in the group, and notices a rebalance or a stop."""

import logging
import time
from threading import Event
from typing import Protocol

from streaming.limits import ConsumerLimits
from twinline.contract.errors import TransientError, TwinlineError

_log = logging.getLogger(__name__)


class BatchLeftError(TwinlineError):
    """The batch in flight is left to the next owner of its partitions, or to the next start of this process.

    It is no TransientError: no dependency has failed, and this consumer must not try the batch again.
    """


class Place(Protocol):
    """A place in a consumer group."""

    @property
    def assignment_number(self) -> int:
        """Return a number that changes whenever partitions are taken from this member."""

    def wants_rebalance(self) -> bool:
        """Say whether the group waits for this member to join again."""

    def stay(self) -> None:
        """Show that this member is alive although it does not poll."""

    def hold(self, seconds: float, stop: Event) -> None:
        """Wait without reading, and stay a member of the group."""


class Heartbeat:
    """The heartbeat of one batch. Both methods raise BatchLeftError once this consumer has lost the batch, or must leave it."""

    def __init__(self, place: Place, assignment: int, stop: Event, limits: ConsumerLimits) -> None:
        self._place = place
        self._assignment = assignment
        self._stop = stop
        self._limits = limits
        self._stopping = _Since(limits.drain_seconds)
        self._rebalancing = _Since(limits.handover_seconds)

    def check(self) -> None:
        """Check stop, rebalance and assignment between two pieces of work."""
        if self._stopping.too_long(self._stop.is_set()):
            raise BatchLeftError(f"told to stop {self._limits.drain_seconds} s ago")
        try:
            wants_rebalance = self._place.wants_rebalance()
            if not wants_rebalance:
                self._place.stay()
        except TransientError as exc:
            # The work needs no broker. The commit will find out whether the place is lost.
            _log.info("no_sign_of_life", extra={"error": str(exc)})
            return
        except Exception as exc:
            # The batch is not at fault. The next poll raises this again.
            raise BatchLeftError(f"the place in the group is lost: {exc}") from exc
        if self._rebalancing.too_long(wants_rebalance):
            raise BatchLeftError("the group waits for this member")
        self._check_assignment()

    def hold(self, seconds: float) -> None:
        """Wait for a dependency. Nothing is under way that could be finished, so a rebalance goes first."""
        if self._place.wants_rebalance():
            raise BatchLeftError("the group waits for this member")
        self._place.hold(seconds, self._stop)
        self._check_assignment()

    def _check_assignment(self) -> None:
        if self._assignment != self._place.assignment_number:
            raise BatchLeftError("its partitions were given to others")


class _Since:
    """How long a condition has held."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._began: float | None = None

    def too_long(self, holds: bool) -> bool:
        """Note whether the condition holds now; say whether it has held for longer than the limit."""
        now = time.monotonic()
        if not holds:
            self._began = None
            return False
        self._began = self._began if self._began is not None else now
        return now - self._began >= self._limit_seconds
