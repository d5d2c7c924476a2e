"""Where the live sample takes its documents and messages from: random, few reads, and nothing that is not there."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from kafka import TopicPartition

from twinline.clients.kafka import stretch
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Head, StoredPoint
from twinline.contract.documents.records import Version
from twinline.contract.errors import TransientError
from twinline.upkeep.skew.stored import AdminDocuments, KafkaLog


class FakeAdmin:
    """Heads of one collection, in pages by id."""

    def __init__(self, count: int, deleted: Iterable[int] = ()) -> None:
        heads = [Head("src", str(number), Version("log", 1, number), number in set(deleted), 1) for number in range(count)]
        self._points = sorted((StoredPoint(head.id, head.to_payload()) for head in heads), key=lambda point: point.id.int)
        self.pages = 0

    def points(self, name: str, *, kind: str, limit: int, offset: UUID | None) -> tuple[list[StoredPoint], UUID | None]:
        self.pages += 1
        rest = [point for point in self._points if offset is None or point.id.int >= offset.int]
        return rest[:limit], rest[limit].id if len(rest) > limit else None


def chosen(admin: FakeAdmin, count: int, seed: int = 0) -> list[str]:
    return [head.key for head in AdminDocuments(admin, "documents_r1").choose(count, seed)]  # type: ignore[arg-type]


def test_a_small_collection_is_taken_whole_but_for_what_was_deleted() -> None:
    assert sorted(chosen(FakeAdmin(5, deleted=[3]), 100)) == ["0", "1", "2", "4"]


def test_of_a_large_collection_some_are_taken_without_reading_all() -> None:
    admin = FakeAdmin(5_000, deleted=range(0, 5_000, 2))
    keys = chosen(admin, 40)
    assert len(set(keys)) == 40
    assert all(int(key) % 2 for key in keys)
    assert admin.pages < 60
    assert chosen(admin, 40) == keys
    assert chosen(admin, 40, seed=1) != keys


class FakeConsumer:
    """A log of two partitions that gives ten messages a poll, and where every hundredth offset is no message."""

    def __init__(self, *, silent: bool = False) -> None:
        self.seeks: list[int] = []
        self.closed = False
        self._silent = silent

    def assign(self, partitions: list[TopicPartition]) -> None:
        [self._partition] = partitions

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.seeks.append(offset)
        self._position = offset

    def position(self, partition: TopicPartition, timeout_ms: int) -> int:
        return self._position

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        if self._silent:
            return {}
        offsets = [offset for offset in range(self._position, self._position + 10) if offset % 100]
        self._position += 10
        number = self._partition.partition
        records = [
            SimpleNamespace(
                partition=number, offset=offset, timestamp=1, key=b"k", value=b"v", headers=[], timestamp_type=1
            )
            for offset in offsets
        ]  # fmt: skip
        return {self._partition: records}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    return use(FakeConsumer(), monkeypatch)


def use(consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    monkeypatch.setattr(stretch, "make_consumer", lambda settings: consumer)
    monkeypatch.setattr(stretch, "beginning_offsets", lambda settings, topic: {0: 50, 1: 0})
    monkeypatch.setattr(stretch, "end_offsets", lambda settings, topic: {0: 90_000, 1: 500})
    return consumer


def test_messages_are_read_where_they_lie_near_ones_on_the_way_far_ones_by_a_jump(consumer: FakeConsumer) -> None:
    places = [(0, 60), (0, 75), (0, 80_001), (1, 7)]
    found = KafkaLog(Settings()).messages(places)
    assert sorted(found) == places
    assert all((message.partition, message.offset) == place for place, message in found.items())
    assert consumer.seeks == [60, 80_001, 7]
    assert consumer.closed


def test_what_expired_lies_beyond_the_end_or_is_no_message_is_not_found(consumer: FakeConsumer) -> None:
    assert list(KafkaLog(Settings()).messages([(0, 49), (0, 100), (0, 101), (1, 500), (7, 1)])) == [(0, 101)]


def test_a_broker_that_gives_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = use(FakeConsumer(silent=True), monkeypatch)
    monkeypatch.setattr(stretch, "SILENCE_SECONDS", 0.01)
    with pytest.raises(TransientError, match="gives nothing at 1/7"):
        KafkaLog(Settings()).messages([(1, 7)])
    assert consumer.closed


def test_nothing_is_asked_of_the_log_for_no_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretch, "make_consumer", None)
    assert KafkaLog(Settings()).messages([]) == {}
