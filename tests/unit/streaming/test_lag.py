"""Lag is the broker's word at any time: beside a busy consumer, after an end, and never a number that nobody knows any more."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streaming import lag as module
from streaming.lag import LagReporter
from streaming.metrics import StreamingMetrics
from twinline.clients.kafka.standing import Standing, passed_offset
from twinline.clients.settings import Settings
from twinline.contract.errors import TransientError


@pytest.mark.parametrize(
    ("committed", "begin", "end", "passed"),
    [
        (7, 0, 10, 7),
        (None, 0, 10, 0),
        (None, 4, 10, 4),  # expired before anybody read it
        (2, 4, 10, 4),  # deleted records are behind nobody
        (10, 0, 10, 10),
        (10, 10, 10, 10),
        (None, 10, 10, 10),
        (50, 0, 10, 0),  # a topic that was made again: its commits are another's
        (50, 3, 10, 3),
        (1, 0, 0, 0),
        (0, 0, 0, 0),
    ],
)
def test_the_offset_that_a_group_has_passed(committed: int | None, begin: int, end: int, passed: int) -> None:
    assert passed_offset(committed, begin, end) == passed


class Broker:
    """Says what the test tells it to."""

    def __init__(self) -> None:
        self.said: list[Standing | Exception] = [Standing({}, {0: 2, 1: 5})]
        self.asked = 0

    def __call__(self, *_: Any) -> "Broker":
        return self

    def read(self) -> Standing:
        self.asked += 1
        answer = self.said[-1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None: ...


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(module, "StandingReader", made)
    monkeypatch.setattr(module, "_EVERY_SECONDS", 0.01)
    return made


@pytest.fixture
def report(broker: Broker) -> Iterator[Callable[..., LagReporter]]:
    made: list[LagReporter] = []

    def begin(**options: Any) -> LagReporter:
        made.append(LagReporter(Settings(), "twinline.r1", "r1", **options))
        return made[-1]

    yield begin
    for each in made:
        each.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def shown(registry: CollectorRegistry, partition: str) -> float | None:
    return registry.get_sample_value("twinline_consumer_lag", {"release": "r1", "partition": partition})


def test_the_lag_follows_the_broker_and_is_unknown_when_it_is_away(broker: Broker, report: Callable[..., LagReporter]) -> None:
    registry = CollectorRegistry()
    reporter = report(metrics=StreamingMetrics(registry))
    until(lambda: reporter.lag == 7)
    until(lambda: (shown(registry, "0"), shown(registry, "1")) == (2, 5))
    broker.said.append(Standing({}, {0: 0, 1: 3_500}))
    until(lambda: reporter.lag == 3_500)
    broker.said.append(TransientError("no Kafka answers"))
    until(lambda: reporter.lag is None)
    assert reporter.notes == ["the lag is unknown: no Kafka answers"]
    broker.said.append(Standing({}, {0: 0, 1: 0}))
    until(lambda: reporter.lag == 0)
    assert reporter.notes == []


def test_what_holds_a_partition_up_is_told(broker: Broker, report: Callable[..., LagReporter]) -> None:
    broker.said.append(Standing({}, {0: 0}, ("an open transaction of 'x' holds partition 0 up",), (1,)))
    reporter = report()
    until(lambda: reporter.lag == 0)
    assert reporter.notes[0] == "an open transaction of 'x' holds partition 0 up"
    assert "partition 1" in reporter.notes[1]
    assert "made again" in reporter.notes[1]


def test_of_several_consumers_each_shows_its_own_partitions(broker: Broker, report: Callable[..., LagReporter]) -> None:
    registry = CollectorRegistry()
    own: dict[int, int] = {1: 0}
    report(metrics=StreamingMetrics(registry), own_partitions=lambda: own)
    until(lambda: shown(registry, "1") == 5)
    assert shown(registry, "0") is None
    # Its end: the group's partitions have nobody else to show them.
    own.clear()
    until(lambda: shown(registry, "0") == 2)
