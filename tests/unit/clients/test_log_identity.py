"""A collection belongs to one log: another home, another topic, or a topic made again is refused by name, never mixed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.adapter_suites.memory_store import MemoryCollection, MemoryStore
from twinline.clients import log_identity
from twinline.clients.log_identity import check, claim, read_alarms, read_identity
from twinline.clients.log_record import LogRecord
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import CollectionInfo
from twinline.clients.store.vectors import one_dense
from twinline.contract.errors import MismatchError, SettingsError, TransientError, TwinlineError

INFO = CollectionInfo("r0123456789ab", "space", "contract", "vector", "index", one_dense(4))
SETTINGS = Settings(kafka_bootstrap="broker.example:9092")


@dataclass
class Broker:
    """A cluster with one topic; `times` are the append times of the messages of partition 0, from offset `begin`."""

    cluster: str = "cluster-a"
    topic: str = "documents"
    topic_id: str | None = "topic-1"
    partitions: int = 2
    error_code: int = 0
    begin: int = 0
    times: list[int] = field(default_factory=list)

    def admin(self, settings: Settings) -> Any:
        there = {"error_code": self.error_code, "topic_id": self.topic_id, "partitions": [{}] * self.partitions}
        absent = {"error_code": 3, "topic_id": None, "partitions": []}
        return SimpleNamespace(
            _manager=SimpleNamespace(run=lambda ask, topics: ask(topics)),
            _get_cluster_metadata=lambda topics: {
                "cluster_id": self.cluster, "topics": [there if topics == [self.topic] else absent]
            },
            close=lambda: None,
        )  # fmt: skip

    def ends(self, settings: Settings, topic: str) -> dict[int, int]:
        return {0: self.begin + len(self.times)} | dict.fromkeys(range(1, self.partitions), 0)

    def read(self, settings: Settings, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[Any]:
        for offset in range(max(self.begin, starts.get(0, 0)), min(ends.get(0, 0), self.begin + len(self.times))):
            yield SimpleNamespace(partition=0, offset=offset, timestamp=self.times[offset - self.begin])


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(log_identity, "make_admin", made.admin)
    monkeypatch.setattr(log_identity, "read_losses", lambda settings: [])
    monkeypatch.setattr(log_identity, "end_offsets", made.ends)
    monkeypatch.setattr(log_identity, "beginning_offsets", lambda *at: dict.fromkeys(range(made.partitions), made.begin))
    monkeypatch.setattr(log_identity, "read_topic", made.read)
    return made


@pytest.fixture
def collection() -> MemoryCollection:
    return MemoryCollection("documents_r0123456789ab", INFO)


def test_a_new_collection_records_its_log_and_opens_again(broker: Broker, collection: MemoryCollection) -> None:
    claim(SETTINGS, collection)
    assert collection.log == LogRecord("cluster-a", "documents", "topic-1", "log-time", 2)
    claim(SETTINGS, collection)
    assert collection.log == LogRecord("cluster-a", "documents", "topic-1", "log-time", 2)


# What another process reads, and the words of its refusal.
OTHERS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    # another home with a broker of its own
    ({"cluster": "cluster-b"}, {}, r"topic documents, id topic-1 of Kafka cluster cluster-a.*reads.*cluster-b"),
    ({"cluster": "cluster-b", "topic_id": "topic-2"}, {}, r"cluster-a.*cluster-b.*TWINLINE_QDRANT_PREFIX"),
    # a cluster without an id is not the cluster with one
    ({"cluster": ""}, {}, "cluster-a"),
    # another topic of the same cluster
    ({"topic": "other", "topic_id": "topic-2"}, {"topic": "other"}, r"topic documents.*reads topic other.*KAFKA_BOOTSTRAP"),
    ({"topic": "Documents"}, {"topic": "Documents"}, "reads topic Documents"),
    ({"topic": "documents.eu"}, {"topic": "documents.eu"}, r"reads topic documents\.eu"),
    # another topic of another cluster
    ({"cluster": "b", "topic": "other"}, {"topic": "other"}, "cluster b"),
    # the topic was made again
    ({"topic_id": "topic-2"}, {}, r"made again since.*topic-2.*release retire"),
    ({"topic_id": "topic-2", "partitions": 1}, {}, "made again"),
    ({"topic_id": "topic-2", "times": [1, 2]}, {}, "made again"),
    # the same log in another order
    ({}, {"topic_order": "offsets"}, r"order log-time, TWINLINE_TOPIC_ORDER is offsets.*release build"),
    ({}, {"topic_order": "versions"}, "TWINLINE_TOPIC_ORDER is versions"),
]


@pytest.mark.parametrize(("now", "settings", "message"), OTHERS)
def test_another_log_is_refused_with_both_names_and_the_way_out(
    broker: Broker, collection: MemoryCollection, now: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    claim(SETTINGS, collection)
    before = collection.log
    vars(broker).update(now)
    other = SETTINGS.model_copy(update=settings)
    with pytest.raises(MismatchError, match=f"(?s){message}"):
        claim(other, collection)
    with pytest.raises(MismatchError, match=f"(?s){message}"):
        check(other, MemoryStore({collection.name: collection}), collection.name)
    assert collection.log == before


@pytest.mark.parametrize(
    "now",
    [
        {"times": [1, 2, 3]},  # it has grown
        {"begin": 5, "times": [9]},  # its first messages have expired
        {"partitions": 6},  # it has more partitions
    ],
)
def test_the_same_log_is_taken_whatever_became_of_it(broker: Broker, collection: MemoryCollection, now: dict[str, Any]) -> None:
    claim(SETTINGS, collection)
    vars(broker).update(now)
    claim(SETTINGS, collection)
    check(SETTINGS, MemoryStore({collection.name: collection}), collection.name)


def test_a_collection_without_a_record_is_taken_once(
    broker: Broker, collection: MemoryCollection, caplog: pytest.LogCaptureFixture
) -> None:
    """As an older release of Twinline made it."""
    check(SETTINGS, MemoryStore({collection.name: collection}), collection.name)
    assert collection.log is None
    claim(SETTINGS, collection)
    claim(SETTINGS, collection)
    assert [record.message for record in caplog.records] == ["collection_takes_log"]
    broker.cluster = "cluster-b"
    with pytest.raises(MismatchError, match="cluster-a"):
        claim(SETTINGS, collection)


def test_of_two_that_claim_at_once_one_is_refused(broker: Broker, collection: MemoryCollection) -> None:
    class Raced(MemoryCollection):
        def put_log(self, log: LogRecord) -> None:
            self.log = replace(log, cluster="cluster-b")

    with pytest.raises(MismatchError, match="cluster-b"):
        claim(SETTINGS, Raced(collection.name, INFO))


# Where the broker has no ids of topics, a message is the mark: what it reads later, and whether that is still the log.
MARKS = [
    ({"times": [100, 200, 300]}, True),
    ({"times": [100]}, True),
    ({"begin": 1, "times": [200, 300]}, True),  # the mark has expired
    ({"begin": 9, "times": []}, True),
    ({"times": [100, 150]}, True),  # what follows the mark is not looked at
    ({"times": [101, 200]}, False),
    ({"times": [99]}, False),
    ({"times": [5000, 6000, 7000]}, False),
    ({"times": []}, False),  # empty: made again, and nothing published
    ({"times": [200, 100]}, False),
]


@pytest.mark.parametrize(("now", "is_same"), MARKS)
def test_without_ids_of_topics_a_topic_made_again_is_known_by_its_first_message(
    broker: Broker, collection: MemoryCollection, now: dict[str, Any], is_same: bool
) -> None:
    vars(broker).update(topic_id=None, times=[100, 200])
    claim(SETTINGS, collection)
    assert collection.log is not None
    assert collection.log.mark == (0, 0, 100)
    vars(broker).update(now)
    if is_same:
        claim(SETTINGS, collection)
        return
    with pytest.raises(MismatchError, match="made again"):
        claim(SETTINGS, collection)


def test_an_empty_topic_gets_its_mark_with_its_first_message_and_an_expired_mark_is_replaced(
    broker: Broker, collection: MemoryCollection
) -> None:
    broker.topic_id = None
    claim(SETTINGS, collection)
    marks = [collection.log and collection.log.mark]
    for begin, times in ((0, [100]), (3, [400]), (3, [400, 500])):
        vars(broker).update(begin=begin, times=times)
        claim(SETTINGS, collection)
        marks.append(collection.log and collection.log.mark)
    assert marks == [None, (0, 0, 100), (0, 3, 400), (0, 3, 400)]


def test_the_embedded_brokers_identity_is_that_of_its_data_folder(broker: Broker, tmp_path: Path) -> None:
    """All embedded brokers give the same cluster id, and no ids of topics."""
    homes = [Settings(home=tmp_path / name) for name in ("one", "two")]
    for home in homes:
        (home.home / "kafka").mkdir(parents=True)
    one, two = (read_identity(home).cluster for home in homes)
    assert one != two
    assert (read_identity(homes[0]).cluster, read_identity(homes[1]).cluster) == (one, two)
    # The same broker, named otherwise; and one elsewhere.
    named = homes[0].model_copy(update={"kafka_bootstrap": f"localhost:{homes[0].kafka_port}"})
    elsewhere = homes[0].model_copy(update={"kafka_bootstrap": "10.0.0.7:9092"})
    assert (read_identity(named).cluster, read_identity(elsewhere).cluster) == (one, "cluster-a")


def test_an_id_of_zeros_is_none(broker: Broker) -> None:
    broker.topic_id = "00000000-0000-0000-0000-000000000000"
    assert read_identity(SETTINGS).topic_id == ""


def test_a_topic_whose_leader_is_away_is_asked_for_again(broker: Broker) -> None:
    broker.error_code = 5
    with pytest.raises(TransientError):
        read_identity(SETTINGS)


def test_a_topic_that_is_not_there_is_named(broker: Broker) -> None:
    with pytest.raises(SettingsError, match="has no topic nowhere"):
        read_identity(SETTINGS.model_copy(update={"topic": "nowhere"}))


def test_a_change_of_partitions_is_named_where_offsets_order(broker: Broker, collection: MemoryCollection) -> None:
    offsets = SETTINGS.model_copy(update={"topic_order": "offsets"})
    claim(offsets, collection)
    assert read_alarms(offsets, collection) == []
    broker.partitions = 6
    claim(offsets, collection)
    (alarm,) = read_alarms(offsets, collection)
    assert "had 2 partitions" in alarm
    assert "has 6" in alarm
    assert read_alarms(SETTINGS, MemoryCollection("documents_r1", INFO)) == []


@pytest.mark.parametrize("value", [{}, {"cluster": "a"}, {**LogRecord("a", "b", "", "offsets", 1).to_json(), "new": 1}])
def test_a_record_of_another_version_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(TwinlineError, match="cannot read"):
        LogRecord.from_json(value, "collection x")
