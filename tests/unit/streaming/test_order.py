"""Which state is newer: the sender's version; within a partition the offset alone; append time only between partitions."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from streaming.alarms import Alarms
from streaming.decode import Message, Order
from streaming.indexer import Indexer
from streaming.limits import ConsumerLimits
from streaming.metrics import StreamingMetrics
from tests.fixtures_streaming import NothingErased, World
from twinline.clients.log_record import LogRecord
from twinline.clients.store.protocol import StoredPoint, stored_version, version_fields
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Version, encode_key

DAY_MS = 24 * 60 * 60 * 1000
NOW = 1_763_800_000_000


def state(partition: int, offset: int, append_ms: int, text: str | None, key: str = "k", by_log: bool = True) -> Message:
    value = None if text is None else b'{"schema":1,"text":"%s"}' % text.encode()
    return Message(partition, offset, append_ms, encode_key("s", key), value, appended_by_log=by_log)


def place_of(world: World, key: str = "k") -> tuple[int | None, int]:
    version = stored_version(world.collection.points[head_id("s", key)].payload)
    return version.partition, version.offset


# States of one document in the order in which they were written, and how its partitions are read: the last of each row stands.
SAME_PARTITION = [
    [(0, NOW), (1, NOW - 1)],
    [(0, NOW), (1, NOW - DAY_MS)],
    [(0, NOW + 365 * DAY_MS), (1, NOW)],
    [(0, NOW), (1, NOW), (2, NOW)],
    [(0, NOW), (1, NOW - 5), (2, NOW - 10), (3, NOW - 15)],
    [(0, NOW), (1, NOW + 5), (2, NOW - 5), (3, NOW)],
    [(5, NOW), (900, NOW - DAY_MS), (901, NOW + DAY_MS), (902, 0)],
    [(0, 1), (1, 0)],
    [(0, 4_102_444_800_000), (1, NOW)],
    [(0, NOW), (1, -1)],
]


@pytest.mark.parametrize("states", SAME_PARTITION)
@pytest.mark.parametrize("cut", [1, 10])
def test_within_a_partition_the_offset_alone_decides(world: World, states: list[tuple[int, int]], cut: int) -> None:
    messages = [state(3, offset, append_ms, f"text {offset}") for offset, append_ms in states]
    for start in range(0, len(messages), cut):
        world.handle(*messages[start : start + cut])
    last = states[-1][0]
    assert (world.texts("k"), place_of(world)) == ([f"text {last}"], (3, last))
    # Delivered again, from any place on: the last one stands.
    for start in range(len(messages)):
        world.handle(*messages[start:])
        assert world.texts("k") == [f"text {last}"]
    # An older one alone changes nothing.
    world.handle(messages[0])
    assert place_of(world) == (3, last)


def test_a_deletion_after_a_step_back_of_the_clock_deletes_and_a_later_state_comes_back(world: World) -> None:
    world.handle(state(0, 0, NOW, "one"))
    world.handle(state(0, 1, NOW - DAY_MS, None))
    assert world.texts("k") == []
    world.handle(state(0, 0, NOW, "one"))
    assert world.texts("k") == []
    world.handle(state(0, 2, NOW - 2 * DAY_MS, "two"))
    assert world.texts("k") == ["two"]


# The states of one document in two or three partitions, and the one that stands, in whatever order they come.
BETWEEN = [
    # The older state in partition 0, the newer in partition 1, in one millisecond, or the other way round: the higher partition.
    ([(0, 200, NOW), (1, 0, NOW)], (1, 0)),
    ([(0, 0, NOW), (1, 200, NOW)], (1, 200)),
    ([(1, 200, NOW), (0, 0, NOW)], (1, 200)),
    # Equal offsets too.
    ([(0, 7, NOW), (1, 7, NOW)], (1, 7)),
    ([(5, 7, NOW), (1, 7, NOW)], (5, 7)),
    # A millisecond decides, whatever the offsets.
    ([(0, 200, NOW), (1, 0, NOW + 1)], (1, 0)),
    ([(0, 0, NOW + 1), (1, 200, NOW)], (0, 0)),
    ([(0, 0, NOW - DAY_MS), (1, 0, NOW), (2, 9, NOW - 1)], (1, 0)),
    ([(0, 1, NOW), (1, 1, NOW), (2, 1, NOW)], (2, 1)),
    ([(0, 3, NOW), (1, 2, NOW), (2, 1, NOW)], (2, 1)),
    ([(0, 0, 0), (1, 0, 1)], (1, 0)),
    ([(9, 0, NOW), (10, 0, NOW)], (10, 0)),
]


@pytest.mark.parametrize(("states", "stands"), BETWEEN)
def test_between_partitions_time_then_the_partition_decide_in_any_order(
    world: World, states: list[tuple[int, int, int]], stands: tuple[int, int]
) -> None:
    messages = [state(*place, f"text of {place[0]}/{place[1]}") for place in states]
    for order in permutations(messages):
        for batches in ([[message] for message in order], [list(order)]):
            world.collection.points.clear()
            for batch in batches:
                world.handle(*batch)
            assert place_of(world) == stands
            assert world.texts("k") == [f"text of {stands[0]}/{stands[1]}"]


_STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("abcd"), st.sampled_from([-DAY_MS, -1, 0, 1, DAY_MS]), st.booleans()),
    min_size=1,
    max_size=12,
)


def _one_partition(key: str) -> int:
    return ord(key) % 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS, cuts=st.lists(st.integers(1, 6), min_size=1, max_size=6), chance=st.randoms(use_true_random=False))
def test_any_interleaving_with_clocks_stepping_ends_in_the_last_state_of_each_key(
    world: World, steps: list[tuple[int, str, int, bool]], cuts: list[int], chance: object
) -> None:
    """Each key in one partition; each partition with a clock of its own, which may step at any message."""
    world.collection.points.clear()
    logs, clocks, last = {0: [], 1: []}, {0: NOW, 1: NOW}, {}  # type: ignore[var-annotated]
    for number, (_, key, step_ms, is_deletion) in enumerate(steps):
        partition = _one_partition(key)
        clocks[partition] += step_ms
        text = None if is_deletion else f"text {number}"
        logs[partition].append(state(partition, len(logs[partition]), clocks[partition], text, key))
        last[key] = text
    _deliver(world, list(logs.values()), cuts, chance)
    for key, text in last.items():
        assert world.texts(key) == ([] if text is None else [text])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS, cuts=st.lists(st.integers(1, 6), min_size=1, max_size=6), chance=st.randoms(use_true_random=False))
def test_keys_in_several_partitions_end_alike_however_they_are_delivered(
    world: World, steps: list[tuple[int, str, int, bool]], cuts: list[int], chance: object
) -> None:
    """The order is one order: no delivery, and no delivery again, ends in another state."""
    logs, clocks = {0: [], 1: [], 2: []}, {0: NOW, 1: NOW, 2: NOW}  # type: ignore[var-annotated]
    for number, (partition, key, step_ms, is_deletion) in enumerate(steps):
        clocks[partition] += step_ms
        text = None if is_deletion else f"text {number}"
        logs[partition].append(state(partition, len(logs[partition]), clocks[partition], text, key))
    ends = []
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        world.collection.points.clear()
        _deliver(world, [logs[partition] for partition in order], cuts, chance)
        ends.append(world.snapshot())
    assert all(end == ends[0] for end in ends)


def _deliver(world: World, logs: Sequence[list[Message]], cuts: list[int], chance: object) -> None:
    """Deliver each partition in its order, in any interleaving; then each of them again from some place on, to its end."""
    positions = [0] * len(logs)
    for turn in range(10_000):
        waiting = [number for number, log in enumerate(logs) if positions[number] < len(log)]
        if not waiting:
            break
        number = chance.choice(waiting)  # type: ignore[attr-defined]
        start, size = positions[number], cuts[turn % len(cuts)]
        world.handle(*logs[number][start : start + size])
        positions[number] = start + size
    for log in logs:
        world.handle(*log[chance.randint(0, len(log)) :])  # type: ignore[attr-defined]


# Topics that somebody else made: the kind of time, the order that was chosen, and what becomes of two states in one partition.
ADOPTED: list[tuple[Order, bool, str | None]] = [
    ("log-time", True, "second"),
    ("log-time", False, "second"),
    ("offsets", False, "second"),
    ("offsets", True, "second"),
    ("versions", False, None),
    ("versions", True, None),
]


@pytest.mark.parametrize(("order", "by_log", "stands"), ADOPTED)
@pytest.mark.parametrize("step_ms", [-DAY_MS, 0, 10**12])
def test_an_adopted_topic_is_read_in_the_chosen_order(
    world: World, order: Order, by_log: bool, stands: str | None, step_ms: int
) -> None:
    """A message without a version, in a topic ordered by versions, is a dead letter; it never ends anything."""
    world.collection.log = LogRecord("cluster", "mydocs", "", order, 1)
    messages = [state(0, 0, NOW, "first", by_log=by_log), state(0, 1, NOW + step_ms, "second", by_log=by_log)]
    versioned = replace(messages[0], offset=2, key=encode_key("s", "v"), value=b'{"schema":1,"text":"kept","version":1}')
    world.handle(*messages, versioned)
    assert world.texts("k") == ([] if stands is None else [stands])
    assert world.texts("v") == ["kept"]
    reasons = [letter.reason for letter in world.sink.letters]
    assert reasons == (["no_version"] * 2 if stands is None else [])
    assert all("TWINLINE_TOPIC_ORDER=offsets" in letter.error for letter in world.sink.letters)


def test_a_message_of_the_past_is_older_than_any_that_the_log_timed_in_another_partition(world: World) -> None:
    past = state(0, 900, NOW + DAY_MS, "past", by_log=False)
    timed = state(1, 0, NOW, "timed")
    for order in ([past, timed], [timed, past]):
        world.collection.points.clear()
        for message in order:
            world.handle(message)
        assert world.texts("k") == ["timed"]


def test_a_document_that_an_older_release_stored_is_compared_by_its_first_chunk(world: World) -> None:
    """Its head names no partition, its chunks do."""
    world.handle(state(0, 5, NOW, "old"))
    for id_, point in world.collection.points.items():
        payload = {name: value for name, value in point.payload.items() if name != "version_partition"}
        world.collection.points[id_] = StoredPoint(id_, payload, point.vectors)
    assert stored_version(world.collection.points[head_id("s", "k")].payload) == Version("log", NOW, 5)
    assert stored_version(world.collection.points[point_id("s", "k", 0)].payload) == Version("log", NOW, 5, 0)
    # Redelivered: it is the same state, and now names its partition.
    assert world.handle(state(0, 5, NOW, "old")).documents == 1
    world.handle(state(0, 4, NOW + DAY_MS, "older"))
    assert world.texts("k") == ["old"]
    world.handle(state(0, 6, NOW - DAY_MS, "newer"))
    assert (world.texts("k"), place_of(world)) == (["newer"], (0, 6))


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (state(0, 6, NOW + 1, "new"), ["new"]),
        (state(0, 4, NOW - 1, "new"), []),
        (state(1, 0, NOW + 1, "new"), ["new"]),
        (state(1, 9, NOW - 1, "new"), []),
    ],
)
def test_a_deletion_that_an_older_release_stored_is_compared_by_time(world: World, later: Message, expected: list[str]) -> None:
    """Nothing says in which partition it stood."""
    world.handle(state(0, 5, NOW, None))
    ((id_, point),) = world.collection.points.items()
    payload = {name: value for name, value in point.payload.items() if name != "version_partition"}
    world.collection.points[id_] = StoredPoint(id_, payload, {})
    world.handle(later)
    assert world.texts("k") == expected


def test_within_a_partition_a_stored_time_never_goes_back(world: World) -> None:
    """Otherwise three states in two partitions could each be older than the next."""
    a, b, c = state(0, 5, NOW + 100, "a"), state(0, 6, NOW + 50, "b"), state(1, 1, NOW + 75, "c")
    for batches in ([a, b, c], [c, a, b], [a, c, b]):
        world.collection.points.clear()
        for message in batches:
            world.handle(message)
        assert world.texts("k") == ["b"]
    stored = stored_version(world.collection.points[head_id("s", "k")].payload)
    assert stored == Version("log", NOW + 100, 6, 0)
    assert version_fields(stored)["version_partition"] == 0


def test_a_step_back_of_the_clock_is_an_alarm_once(world: World) -> None:
    metrics = StreamingMetrics(CollectorRegistry())
    indexer = Indexer(world.collection, world.release, world.sink, NothingErased(), ConsumerLimits(), metrics)
    release = world.collection.info.release
    indexer.handle([state(0, 0, NOW, "one"), state(0, 1, NOW, "two"), state(1, 0, NOW - DAY_MS, "other", key="x")])
    assert metrics.alarms.texts(release) == []
    indexer.handle([state(0, 2, NOW - 3_600_000, "three")])
    indexer.handle([state(0, 1, NOW, "two"), state(0, 2, NOW - 3_600_000, "three"), state(0, 3, NOW - 3_599_999, "four")])
    (alarm,) = metrics.alarms.texts(release)
    assert "stepped back by 3600 s at 0/2" in alarm
    assert metrics.clock_steps.labels(release, "0")._value.get() == 1
    assert metrics.alarms.texts("another") == []


def test_a_producers_clock_is_no_alarm() -> None:
    alarms = Alarms()
    assert alarms.saw("r", [state(0, 0, NOW, "one", by_log=False), state(0, 1, NOW - 5, "two", by_log=False)]) == []
    alarms.replace("r", ["the topic loses"])
    alarms.replace("r", ["the topic loses more"])
    assert alarms.texts("r") == ["the topic loses more"]
