import time
from dataclasses import dataclass
from threading import Event

import pytest

from streaming.heartbeat import BatchLeftError, Heartbeat
from streaming.limits import ConsumerLimits
from twinline.contract.errors import ContractError, TransientError, TwinlineError


@dataclass
class FakePlace:
    assignment_number: int = 1
    wanted: bool = False
    signs: int = 0
    held: float = 0
    error: Exception | None = None

    def wants_rebalance(self) -> bool:
        return self.wanted

    def stay(self) -> None:
        self.signs += 1
        if self.error:
            raise self.error

    def hold(self, seconds: float, stop: Event) -> None:
        self.held += seconds


def heartbeat_of(place: FakePlace, stop: Event | None = None, **limits: float) -> Heartbeat:
    return Heartbeat(place, 1, stop or Event(), ConsumerLimits(**limits))  # type: ignore[arg-type]


def test_a_quiet_group_gets_signs_of_life() -> None:
    place = FakePlace()
    heartbeat = heartbeat_of(place)
    heartbeat.check()
    heartbeat.hold(3)
    assert (place.signs, place.held) == (1, 3)


def test_a_rebalance_is_kept_waiting_for_as_long_as_the_limit_says_and_no_longer() -> None:
    place = FakePlace(wanted=True)
    heartbeat = heartbeat_of(place, handover_seconds=0.1)
    heartbeat.check()
    time.sleep(0.15)
    with pytest.raises(BatchLeftError, match="waits for this member"):
        heartbeat.check()


def test_a_rebalance_that_is_over_starts_the_clock_anew() -> None:
    place = FakePlace(wanted=True)
    heartbeat = heartbeat_of(place, handover_seconds=0.1)
    heartbeat.check()
    place.wanted = False
    heartbeat.check()
    time.sleep(0.15)
    place.wanted = True
    heartbeat.check()


def test_a_batch_whose_partitions_went_to_others_is_left_at_once() -> None:
    place = FakePlace(assignment_number=2)
    for act in (heartbeat_of(place).check, lambda: heartbeat_of(place).hold(1)):
        with pytest.raises(BatchLeftError, match="given to others"):
            act()


def test_during_an_outage_a_rebalance_goes_first() -> None:
    place = FakePlace(wanted=True)
    with pytest.raises(BatchLeftError):
        heartbeat_of(place).hold(10)
    assert place.held == 0


def test_after_a_stop_the_batch_is_worked_on_for_a_while() -> None:
    stop = Event()
    heartbeat = heartbeat_of(FakePlace(), stop, drain_seconds=0.1)
    stop.set()
    heartbeat.check()
    time.sleep(0.15)
    with pytest.raises(BatchLeftError, match="told to stop"):
        heartbeat.check()


def test_a_broker_that_is_away_does_not_stop_the_work() -> None:
    heartbeat_of(FakePlace(error=TransientError("away"))).check()


@pytest.mark.parametrize("error", [ContractError("fenced"), RuntimeError("a defect")])
def test_a_lost_place_is_never_blamed_on_a_message(error: Exception) -> None:
    """A ContractError out of the middle of a batch would send its messages to the dead letters."""
    with pytest.raises(BatchLeftError, match=str(error)):
        heartbeat_of(FakePlace(error=error)).check()


def test_a_batch_that_is_left_is_no_failure_of_a_dependency() -> None:
    """Loops that ask only whether a failure is transient would try it again."""
    assert not issubclass(BatchLeftError, TransientError)
    assert issubclass(BatchLeftError, TwinlineError)
