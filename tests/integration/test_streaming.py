"""The consumer with a real broker and a real embedded store; only the encoder is a fake, so that vectors can be foretold."""

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from uuid import uuid4

import numpy as np
import pytest

from streaming.building.build import build, find_inputs
from streaming.limits import ConsumerLimits
from streaming.loop import Consumer
from tests.checkout import CHECKOUT
from tests.fixtures_log import set_aside
from tests.fixtures_streaming import GOLDEN, Counted, FakeEmbedder, info_of, preprocessor, vector_of
from twinline.clients.kafka.connect import (
    committed_offsets,
    end_offsets,
    ensure_topics,
    kafka_errors,
    make_admin,
    make_producer,
)
from twinline.clients.kafka.standing import group_lag
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import Collection, nearest
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Deletion, Document, encode_key, encode_value, version_header
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import SettingsError, TransientError
from twinline.stack import broker as embedded_broker

__all__ = ["preprocessor"]


LIMITS = ConsumerLimits(longest_wait_seconds=0.5, commit_interval_seconds=0.2)
PATIENCE_SECONDS = 30
ONE = "one two three four five six seven eight"
TWO = "nine ten eleven twelve thirteen fourteen fifteen sixteen"


@pytest.fixture
def settings(broker: str, tmp_path: Path) -> Settings:
    """A topic of its own for each test."""
    made = Settings(kafka_bootstrap=broker, topic=f"documents-{uuid4().hex[:8]}", home=tmp_path)
    ensure_topics(made)
    return made


@pytest.fixture
def release(preprocessor: Preprocessor) -> Release:
    """A release, and so a consumer group, of its own for each test."""
    return Release(info_of(preprocessor, f"r{uuid4().hex[:12]}"), preprocessor, FakeEmbedder(), GOLDEN)


@pytest.fixture
def store(tmp_path: Path) -> EdgeStore:
    return EdgeStore(tmp_path / "store")


@pytest.fixture
def collection(store: EdgeStore, release: Release) -> Iterator[Collection]:
    made = store.create(release.collection_name, release.info)
    yield made
    made.close()


def publish(settings: Settings, *items: Document | Deletion | bytes) -> None:
    """Put documents, deletions and raw values on the topic, and wait until the broker has them."""
    producer = make_producer(settings)
    with kafka_errors(settings):
        for item in items:
            if isinstance(item, bytes):
                sent = producer.send(settings.topic, key=b"poison", value=item, headers=[("run_id", b"run-7")])
            else:
                value = encode_value(item) if isinstance(item, Document) else None
                headers = version_header(item) if isinstance(item, Deletion) else []
                sent = producer.send(settings.topic, key=encode_key(item.source, item.key), value=value, headers=headers)
            sent.get(timeout=PATIENCE_SECONDS)
    producer.close()


def documents(count: int) -> list[Document]:
    """Return documents of two chunks each; no two chunks are alike."""
    return [Document("s", f"k{number}", f"{number} two three four five six seven eight of {number}") for number in range(count)]


def consumer_of(settings: Settings, release: Release, collection: Collection) -> Consumer:
    return Consumer(settings, release, collection, LIMITS)


@contextmanager
def running(consumer: Consumer) -> Iterator[Consumer]:
    """Run a consumer on a thread; what it did not expect is raised here."""
    stop = Event()
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(consumer.run, stop)
        try:
            yield consumer
        finally:
            stop.set()
        future.result(timeout=PATIENCE_SECONDS)


def wait_for(what: Callable[[], bool], meaning: str, seconds: float = PATIENCE_SECONDS) -> None:
    give_up = time.monotonic() + seconds
    while not what():
        if time.monotonic() > give_up:
            pytest.fail(f"waited {seconds} s in vain: {meaning}")
        time.sleep(0.05)


def stored(collection: Collection) -> dict[tuple[str, int], str]:
    """Return the texts of all chunks by key and index, after checking that each has its own vector."""
    points, following = collection.scroll({"kind": "chunk"}, limit=10_000, with_vectors=True)
    assert following is None
    for point in points:
        assert point.dense is not None
        np.testing.assert_allclose(point.dense, vector_of(point.payload["text"]), atol=1e-6)
    found = {(point.payload["key"], point.payload["chunk_index"]): point.payload["text"] for point in points}
    assert len(found) == len(points), "a chunk is stored twice"
    return found


def test_what_is_published_updated_and_deleted_is_what_is_stored(
    settings: Settings, release: Release, collection: Collection
) -> None:
    with running(consumer_of(settings, release, collection)):
        publish(settings, Document("s", "a", f"{ONE} {TWO}"), Document("s", "b", ONE), b"poison")
        wait_for(lambda: len(stored(collection)) == 3, "two documents indexed")
        publish(settings, Document("s", "a", TWO), Deletion("s", "b"))
        wait_for(lambda: stored(collection) == {("a", 0): TWO}, "one document updated, the other deleted")
        hits = nearest(collection, vector_of(TWO), limit=5)
        assert [(hit.payload["key"], round(hit.score or 0, 4)) for hit in hits] == [("a", 1.0)]
    head = collection.read_heads([head_id("s", "b")])[head_id("s", "b")]
    assert head.deleted
    assert sum(group_lag(settings, release.group, settings.topic).values()) == 0
    (letter,) = set_aside(settings)
    assert (letter.message.key, letter.message.value, letter.message.headers) == (b"poison", b"poison", [("run_id", b"run-7")])
    assert (letter.stage, letter.reason, letter.release) == ("decode", "invalid_json", release.info.release)


def test_a_consumer_killed_between_handling_and_committing_leaves_no_duplicate(
    settings: Settings, release: Release, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def die() -> None:
        raise KilledError

    publish(settings, *documents(20))
    with monkeypatch.context() as patch:
        patch.setattr(collection, "flush", die)  # the first thing after a batch was handled
        with pytest.raises(KilledError):
            consumer_of(settings, release, collection).run(Event())
    assert committed_offsets(settings, release.group, settings.topic) == {}
    half_way = stored(collection)
    assert half_way
    with running(consumer_of(settings, release, collection)) as again:
        wait_for(lambda: again.state.handled >= 20, "the batch was delivered again")
    assert set(stored(collection)) == {(f"k{number}", index) for number in range(20) for index in range(2)}
    assert collection.count({"kind": "head"}) == 20
    embedded = [text for call in release.embedder.calls for text in call]  # type: ignore[attr-defined]
    assert len(embedded) == len(set(embedded)), "a text was embedded twice"


def test_nothing_is_committed_while_the_encoder_is_away(settings: Settings, release: Release, collection: Collection) -> None:
    embedder = release.embedder
    assert isinstance(embedder, FakeEmbedder)
    embedder.failures = [TransientError("the encoder is away")] * 6
    publish(settings, *documents(3))
    with running(consumer_of(settings, release, collection)) as consumer:
        wait_for(lambda: len(embedder.failures) == 2, "some attempts")
        assert consumer.state.last_error == "the encoder is away"
        assert committed_offsets(settings, release.group, settings.topic) == {}
        assert stored(collection) == {}
        # Published during the pause: it waits its turn, and is not lost.
        publish(settings, Document("s", "late", ONE))
        wait_for(lambda: len(stored(collection)) == 7, "all documents after the encoder came back")
    assert consumer.state.last_error == ""
    assert sum(group_lag(settings, release.group, settings.topic).values()) == 0


@pytest.mark.usefixtures("_embedded_only")
# kafka-python leaves the sockets of failed attempts to the garbage collector, which warns of them.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_broker_that_is_restarted_loses_nothing(
    settings: Settings, release: Release, collection: Collection, short_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A captured record would keep the error, its frames, and in them the sockets.
    caplog.set_level("CRITICAL", logger="kafka")

    def broker(act: str) -> None:
        command = [embedded_broker.binary(), act, "kafka", "--data-dir", short_folder / "broker"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    with running(consumer_of(settings, release, collection)) as consumer:
        publish(settings, *documents(10))
        broker("stop")
        wait_for(lambda: "no Kafka answers" in consumer.state.last_error, "the consumer notices")
        broker("start")
        publish(settings, *(replace(document, key=f"after-{document.key}") for document in documents(10)))
        wait_for(lambda: len(stored(collection)) == 40, "documents from before and after the restart")
    assert collection.count({"kind": "head"}) == 20
    # Here, while the warning is expected, and not in some later test.
    gc.collect()


def test_a_consumer_told_to_stop_finishes_its_batch_and_commits(
    settings: Settings, release: Release, collection: Collection
) -> None:
    publish(settings, *documents(30))
    stop = Event()
    consumer = consumer_of(settings, release, collection)
    consumer.run(stop, progress=lambda handled: stop.set() if handled else None)
    committed = committed_offsets(settings, release.group, settings.topic)
    assert sum(committed.values()) == consumer.state.handled > 0
    assert collection.count({"kind": "head"}) == consumer.state.handled


def test_a_second_consumer_takes_over_and_the_first_one_says_so(
    settings: Settings, release: Release, store: EdgeStore, collection: Collection
) -> None:
    other = store.create("documents_other", release.info)
    first = consumer_of(settings, release, collection)
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(first.run, Event())
        wait_for(lambda: bool(first.state.lag) or first.state.running, "the first has joined")
        publish(settings, *documents(1))
        wait_for(lambda: len(stored(collection)) == 2, "the first consumes")
        with running(consumer_of(settings, release, other)):
            publish(settings, Document("s", "for-the-second", ONE))
            with pytest.raises(Exception, match="took over"):
                future.result(timeout=PATIENCE_SECONDS)
    other.close()


def test_a_build_is_hidden_until_it_is_whole_and_the_consumer_goes_on_from_it(
    settings: Settings, release: Release, store: EdgeStore
) -> None:
    publish(settings, *documents(100), Deletion("s", "k0"))
    stop, seen = Event(), []

    def interrupt(handled: int) -> None:
        seen.append(handled)
        if sum(seen) > 0:
            stop.set()

    assert not build(release, store, settings, LIMITS, find_inputs(settings, None), stop, Counted(interrupt))
    assert store.names() == []
    seen.clear()
    inputs = find_inputs(settings, None)
    assert build(release, store, settings, LIMITS, inputs, Event(), Counted(seen.append))
    # More than that where a rebalance made the broker deliver again.
    assert sum(seen) >= inputs.size == 101
    assert store.names() == [release.collection_name]
    embedded = [text for call in release.embedder.calls for text in call]  # type: ignore[attr-defined]
    assert len(embedded) == len(set(embedded)), "the second attempt embedded what the first had done"

    publish(settings, Document("s", "new", ONE))
    collection = store.open(release.collection_name, release.info)
    with running(consumer_of(settings, release, collection)) as consumer:
        wait_for(lambda: ("new", 0) in stored(collection), "the consumer goes on")
    assert consumer.state.handled == 1, "only what the build had not read"
    assert collection.count({"kind": "head"}) == 101
    collection.close()


def test_a_build_forgets_what_an_earlier_life_of_its_group_had_committed(
    settings: Settings, release: Release, store: EdgeStore
) -> None:
    publish(settings, *documents(5))
    for _ in range(2):
        assert build(release, store, settings, LIMITS, find_inputs(settings, None), Event(), Counted())
        collection = store.open(release.collection_name, release.info)
        assert collection.count({"kind": "head"}) == 5
        collection.close()
        store.drop(release.collection_name)


def test_a_build_from_a_snapshot_of_the_topic_equals_one_from_the_log(
    settings: Settings, release: Release, store: EdgeStore, broker_variables: Mapping[str, str]
) -> None:
    publish(settings, *documents(10), Document("s", "v", ONE, version=5), Deletion("s", "k0"), Document("s", "k1", TWO))
    environment = {
        **broker_variables,
        "TWINLINE_HOME": str(settings.home),
        "KAFKA_BOOTSTRAP": settings.kafka_address,
        "TWINLINE_TOPIC": settings.topic,
    }
    command = [sys.executable, "-m", "etl", "ingest", "--source", f"kafka:{settings.topic}", "--store"]
    subprocess.run(
        command, cwd=CHECKOUT, env={"PATH": "/usr/bin:/bin", **environment}, check=True, timeout=240, capture_output=True
    )
    (snapshot,) = [path.name for path in settings.snapshots.glob("s*") if (path / "snapshot.json").exists()]
    # After the snapshot: one change, and a late event that is older than what the snapshot holds.
    publish(settings, Document("s", "k2", TWO), Document("s", "v", TWO, version=4))

    contents = []
    for chosen in (snapshot, None):
        inputs = find_inputs(settings, chosen)
        assert build(release, store, settings, LIMITS, inputs, Event(), Counted())
        collection = store.open(release.collection_name, release.info)
        heads, _ = collection.scroll({"kind": "head"}, limit=1000)
        contents.append((stored(collection), {point.payload["key"]: point.payload for point in heads}))
        collection.close()
        store.drop(release.collection_name)
    assert contents[0] == contents[1]
    texts, heads_by_key = contents[0]
    assert (texts["v", 0], texts["k2", 0]) == (ONE, TWO)
    assert heads_by_key["k0"]["deleted"]


@pytest.mark.parametrize(
    ("configs", "reason"),
    [
        ({"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}, "compacted"),
        ({"cleanup.policy": "delete"}, "LogAppendTime"),
    ],
)
def test_a_topic_that_would_lose_versions_is_refused(broker: str, configs: dict[str, str], reason: str) -> None:
    settings = Settings(kafka_bootstrap=broker, topic=f"documents-{uuid4().hex[:8]}")
    admin = make_admin(settings)
    admin.create_topics({settings.topic: {"num_partitions": 1, "replication_factor": 1, "configs": configs}})
    admin.close()
    with pytest.raises(SettingsError, match=reason):
        ensure_topics(settings)


def test_a_topic_that_is_not_there_is_named(broker: str) -> None:
    with pytest.raises(SettingsError, match="no-such-topic"):
        end_offsets(Settings(kafka_bootstrap=broker), "no-such-topic")
