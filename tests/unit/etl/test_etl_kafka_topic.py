"""The source `kafka`: a topic up to recorded offsets, read through a stand-in for the consumer."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from etl.sources import Logged, Reject, kafka_topic
from etl.sources.kafka_topic import KafkaTopic
from tests.unit.etl.factories import settings
from twinline.clients.kafka import stretch
from twinline.clients.log_record import LogRecord
from twinline.contract.documents.records import Deletion, Document, encode_key, encode_value


@dataclass
class Record:
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    topic: str = "documents"
    timestamp: int = 1_000
    timestamp_type: int = 1


class Consumer:
    """Gives two records a poll, and goes past the recorded end as a real one does."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self._position = 0

    def assign(self, partitions: list[Any]) -> None:
        self._mine = [record for record in self._records if record.partition == partitions[0].partition]

    def seek(self, partition: Any, offset: int) -> None:
        self._position = offset

    def position(self, partition: Any, timeout_ms: int) -> int:
        return self._position

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        found = [record for record in self._mine if record.offset >= self._position][:2]
        if found:
            self._position = found[-1].offset + 1
        return {TopicPartition("documents", record.partition): found for record in found}

    def close(self) -> None:
        pass


def message(partition: int, offset: int, document: Document) -> Record:
    return Record(partition, offset, encode_key(document.source, document.key), encode_value(document))


def test_everything_up_to_the_recorded_ends_is_read_and_nothing_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, after = Document("s", "a", "one"), Document("s", "a", "two"), Document("s", "b", "after")
    records = [
        message(0, 3, one),  # messages before offset 3 have expired
        Record(0, 4, b"not json", b"x"),
        message(0, 5, two),
        message(0, 6, after),
        Record(1, 0, encode_key("s", "c"), None, [("version", b"7")]),
    ]
    for module in (kafka_topic, stretch):
        monkeypatch.setattr(module, "beginning_offsets", lambda settings, topic: {0: 3, 1: 0})
    monkeypatch.setattr(kafka_topic, "end_offsets", lambda settings, topic: {1: 1, 0: 6})
    log = LogRecord("cluster-a", "documents", "topic-1", "log-time", 2)
    monkeypatch.setattr(kafka_topic, "read_identity", lambda settings: replace(log, topic=settings.topic))
    monkeypatch.setattr(stretch, "make_consumer", lambda settings: Consumer(records))

    source = KafkaTopic("", "documents", settings(tmp_path))
    items = list(source.items())

    assert [(item.item, item.partition, item.offset) for item in items if isinstance(item, Logged)] == [
        (one, 0, 3),
        (two, 0, 5),
        (Deletion("s", "c", version=7), 1, 0),
    ]
    [reject] = [item for item in items if isinstance(item, Reject)]
    assert (reject.place, reject.line, reject.reason, reject.raw) == ("documents[0]", 4, "invalid_json", "x")
    named = {"topic": "documents", "cluster": "cluster-a", "topic_id": "topic-1"}
    assert source.provenance() == {**named, "begins": {"0": 3, "1": 0}, "ends": {"0": 6, "1": 1}}
