"""The one reader of the log: from offsets to offsets, with one patience for every caller, so that nothing polls for ever."""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import NodeNotReadyError
from pydantic import SecretStr

from etl.sources import kafka_topic
from etl.sources.kafka_topic import KafkaTopic
from twinline.clients.erasure_list import Erasures
from twinline.clients.kafka import erasures as erasure_topic
from twinline.clients.kafka import stretch
from twinline.clients.kafka.erasures import ErasureTopic
from twinline.clients.kafka.stretch import read_places, read_topic
from twinline.clients.log_record import LogRecord
from twinline.clients.settings import Settings
from twinline.contract.errors import TransientError
from twinline.release.verify import log_sample
from twinline.upkeep.skew import new_documents
from twinline.upkeep.skew.stored import KafkaLog
from twinline.upkeep.trace import reach

REPOSITORY = Path(__file__).parents[3]
BROKER = "broker.example:9092"


@dataclass
class Log:
    """A topic of two partitions. `marks` are offsets without a record, as of a transaction; `fails` is raised by a poll."""

    ends: Mapping[int, int] = field(default_factory=lambda: {0: 40, 1: 5})
    begins: Mapping[int, int] = field(default_factory=lambda: {0: 10, 1: 0})
    marks: frozenset[tuple[int, int]] = frozenset()
    silent_from: int = 1_000
    fails: Exception | None = None
    consumers: list["FakeConsumer"] = field(default_factory=list)

    def open(self, _: Settings) -> "FakeConsumer":
        self.consumers.append(FakeConsumer(self))
        return self.consumers[-1]


class FakeConsumer:
    """Gives up to seven records of each partition a poll, and goes past the ends that a reader was given, as a real one does."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.closed = False

    def assign(self, places: list[TopicPartition]) -> None:
        self.positions = dict.fromkeys(places, -1)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.positions[place] = offset

    def seek_to_beginning(self, place: TopicPartition) -> None:
        self.seek(place, self.log.begins[place.partition])

    def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self.log.ends[place.partition] for place in places}

    def position(self, place: TopicPartition, timeout_ms: int) -> int | None:
        return None if self.positions[place] < 0 else self.positions[place]

    def pause(self, *places: TopicPartition) -> None:
        self.paused |= set(places)

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        if self.log.fails:
            raise self.log.fails
        polled: dict[TopicPartition, list[Any]] = {}
        for place in self.positions.keys() - self.paused:
            offsets = range(self.positions[place], min(self.positions[place] + 7, self.log.silent_from, 1_000))
            records = [self._record(place, at) for at in offsets if (place.partition, at) not in self.log.marks]
            self.positions[place] += len(offsets)
            polled |= {place: records} if records else {}
        return polled

    def close(self) -> None:
        self.closed = True

    def _record(self, place: TopicPartition, offset: int) -> Any:
        return SimpleNamespace(
            topic=place.topic,
            partition=place.partition,
            offset=offset,
            timestamp=1,
            timestamp_type=1,
            key=b"k",
            value=b"v",
            headers=[],
        )


def use(log: Log, monkeypatch: pytest.MonkeyPatch) -> Log:
    for module in (stretch, kafka_topic, log_sample, new_documents, reach):
        for name, offsets in (("beginning_offsets", log.begins), ("end_offsets", log.ends)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda settings, topic, offsets=offsets: dict(offsets))
    identity = LogRecord("cluster-a", "documents", "topic-1", "log-time", 2)
    monkeypatch.setattr(kafka_topic, "read_identity", lambda settings: identity)
    monkeypatch.setattr(stretch, "make_consumer", log.open)
    monkeypatch.setattr(erasure_topic, "make_consumer", log.open)
    monkeypatch.setattr(stretch, "SILENCE_SECONDS", 0.02)
    return log


def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, kafka_bootstrap=BROKER, topic="documents", erasure_secret=SecretStr("s" * 32))


def places(records: Any) -> list[tuple[int, int]]:
    return sorted((record.partition, record.offset) for record in records)


def test_a_topic_is_read_from_what_is_kept_to_where_it_ended_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = use(Log(), monkeypatch)
    found = list(read_topic(settings(tmp_path), "documents"))
    assert places(found) == [*((0, at) for at in range(10, 40)), *((1, at) for at in range(5))]
    for partition in (0, 1):
        offsets = [record.offset for record in found if record.partition == partition]
        assert offsets == sorted(offsets)
    assert log.consumers[0].closed


def test_a_stretch_begins_where_it_is_told_to_but_not_before_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Log(), monkeypatch)
    found = read_topic(settings(tmp_path), "documents", {0: 3, 1: 2}, {0: 12, 1: 4})
    assert places(found) == [(0, 10), (0, 11), (1, 2), (1, 3)]


def test_nothing_is_opened_for_a_stretch_without_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = use(Log(), monkeypatch)
    assert list(read_topic(settings(tmp_path), "documents", {0: 40, 1: 5})) == []
    assert log.consumers == []


def test_marks_of_transactions_are_passed_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Log(marks=frozenset((0, at) for at in range(11, 40))), monkeypatch)
    monkeypatch.setattr(stretch, "SILENCE_SECONDS", -1.0)  # a poll without a record is no silence where the position has moved
    assert places(read_topic(settings(tmp_path), "documents")) == [(0, 10), *((1, at) for at in range(5))]


def test_places_are_read_by_one_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = use(Log(marks=frozenset({(0, 20)})), monkeypatch)
    wanted = [(1, 3), (0, 30), (0, 20), (0, 9), (0, 12), (0, 40), (2, 0)]
    assert places(read_places(settings(tmp_path), "documents", wanted)) == [(0, 12), (0, 30), (1, 3)]
    assert (len(log.consumers), log.consumers[0].closed) == (1, True)


def test_an_error_of_the_broker_closes_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = use(Log(fails=NodeNotReadyError("away")), monkeypatch)
    with pytest.raises(TransientError, match=BROKER):
        list(read_topic(settings(tmp_path), "documents"))
    assert log.consumers[0].closed


def _read_log(settings: Settings) -> object:
    return log_sample.read_log(settings, {0: 40, 1: 5}, 10)


def _follow_erasures(settings: Settings) -> object:
    return ErasureTopic(settings).current()


# Every reader of the log, with the topic that it reads. Of these `release verify` (the first two) and the drift report had no
# patience at all, and polled a silent broker for ever.
READERS: dict[str, tuple[Callable[[Settings], object], str]] = {
    "verify: the log": (_read_log, "documents"),
    "verify: the dead letters": (log_sample.refused_keys, "documents.dead-letters"),
    "drift: the newest documents": (lambda settings: new_documents.read_newest(settings, 10), "documents"),
    "skew: the live sample": (lambda settings: KafkaLog(settings).messages([(0, 30)]), "documents"),
    "trace: one message": (lambda settings: reach.read_message(settings, 0, 30), "documents"),
    "ingest: a snapshot": (lambda settings: list(KafkaTopic("", "documents", settings).items()), "documents"),
    "erasures": (_follow_erasures, "documents.erasures"),
    "a stretch": (lambda settings: list(read_topic(settings, "documents")), "documents"),
}


@pytest.mark.parametrize("silent_from", [0, 25], ids=["at once", "half-way"])
@pytest.mark.parametrize(("read", "topic"), READERS.values(), ids=list(READERS))
def test_a_broker_that_falls_silent_ends_every_reading_with_topic_and_address(
    read: Callable[[Settings], object], topic: str, silent_from: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = use(Log(silent_from=silent_from), monkeypatch)
    monkeypatch.setattr(log_sample, "current_erasures", lambda settings: Erasures())
    # What it gave before is no record of an erasure: only the silence is looked at.
    monkeypatch.setattr(erasure_topic, "_event", lambda record: {})
    with pytest.raises(TransientError, match=rf"topic {topic} at {BROKER} gives nothing at .*, though it has more"):
        read(settings(tmp_path))
    assert all(consumer.closed for consumer in log.consumers)


def test_the_patience_is_half_a_minute() -> None:
    assert stretch.SILENCE_SECONDS == 30.0


def test_nothing_else_reads_the_log() -> None:
    """A consumer is made by the reader of stretches, by the list of erasures for it, and by a member of a group; nowhere else."""
    makers = set()
    for package in ("twinline", "etl", "train", "export", "streaming", "triton_models"):
        for path in (REPOSITORY / package).rglob("*.py"):
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            if any(isinstance(call, ast.Name) and call.id in ("make_consumer", "KafkaConsumer") for call in calls):
                makers.add(str(path.relative_to(REPOSITORY)))
    readers = {"twinline/clients/kafka/stretch.py", "twinline/clients/kafka/erasures.py", "streaming/log_reader.py"}
    assert makers == readers | {"twinline/clients/kafka/connect.py"}
