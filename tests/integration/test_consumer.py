"""What the consumer promises to whoever reads, writes, and works beside it: a real broker, a real embedded store, a fake encoder.

KAFKA_BOOTSTRAP names another broker to run against; READER_UPDATES how often the document of the reader's test is updated.
"""

import json
import logging
import os
import random
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaProducer
from kafka.serializer import Serializer

from streaming.limits import ConsumerLimits
from streaming.log_reader import Batch, LogReader
from streaming.loop import Consumer
from tests.fixtures_log import set_aside
from tests.fixtures_streaming import FakeEmbedder, preprocessor, vector_of
from tests.integration.test_streaming import (
    LIMITS,
    ONE,
    TWO,
    collection,
    consumer_of,
    documents,
    publish,
    release,
    running,
    settings,
    store,
    stored,
    wait_for,
)
from twinline.clients.kafka.connect import committed_offsets, ensure_topics, make_admin
from twinline.clients.kafka.standing import group_lag
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Collection, nearest
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Document, encode_key
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import TransientError

__all__ = ["collection", "preprocessor", "release", "settings", "store"]

UPDATES = int(os.environ.get("READER_UPDATES", "200"))


@dataclass
class SlowEmbedder(FakeEmbedder):
    seconds: float = 0.25

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        time.sleep(self.seconds)
        return super().embed(texts, role)


def slow(release: Release, seconds: float = 0.25) -> Release:
    return Release(release.info, release.preprocessor, SlowEmbedder(seconds=seconds), release.golden)


# --- a reader ---


def test_a_reader_always_finds_a_document_and_all_of_it_once_the_consumer_is_done(
    settings: Settings, release: Release, collection: Collection
) -> None:
    numbers = random.Random(5)
    cut = release.preprocessor.chunks

    def look() -> list[str]:
        hits = nearest(collection, vector_of(ONE), limit=100, where={"source": "s", "key": "k"})
        return [hit.payload["text"] for hit in sorted(hits, key=lambda hit: hit.payload["chunk_index"])]

    looks = sent = 0
    with running(consumer_of(settings, release, collection)) as consumer:
        while sent < UPDATES:
            # Some at once: what one batch has of a document becomes one version of it.
            burst = numbers.randint(1, 4)
            texts = [
                " ".join(f"{sent + n} {word}" for word in ONE.split() * numbers.randint(1, 5)) for n in range(burst)
            ]  # unlike any other version's
            first = sent == 0
            publish(settings, *(Document("s", "k", text) for text in texts))
            sent += burst
            give_up = time.monotonic() + 30
            while consumer.state.handled < sent:
                found = look()
                looks += 1
                assert found or first, f"missing after {sent} updates"
                time.sleep(0.001)  # polls, and leaves the consumer the cores it shares with it
                assert time.monotonic() < give_up, "the consumer does not get on"
            assert look() == [chunk.text for chunk in cut(Document("s", "k", texts[-1]))], f"not whole after {sent} updates"
    assert looks > sent


# --- a group ---


@pytest.mark.parametrize("attends", [True, False], ids=["as_it_is", "were_nobody_to_attend_to_it"])
def test_a_batch_that_takes_longer_than_the_group_is_patient_keeps_its_place(
    settings: Settings,
    release: Release,
    collection: Collection,
    attends: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    patience_seconds = 3
    limits = LIMITS.model_copy(update={"max_batch_seconds": patience_seconds, "texts_per_request": 1, "drain_seconds": 0.5})
    if not attends:
        monkeypatch.setattr(LogReader, "stay", lambda self: None)
    publish(settings, *documents(14))
    made = slow(release)
    consumer = Consumer(settings, made, collection, limits)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="kafka"), running(consumer):
        if not attends:
            # What this test is about: without a sign of life the place is lost, and the batch would come again and again.
            wait_for(lambda: "poll timeout has expired" in caplog.text, "the group gives up on it")
            return
        wait_for(lambda: consumer.state.handled >= 14, "all documents")
    assert time.monotonic() - started > 2 * patience_seconds
    assert "poll timeout has expired" not in caplog.text
    assert len(stored(collection)) == 28
    assert sum(committed_offsets(settings, release.group, settings.topic).values()) == 14


def test_an_outage_that_is_longer_than_the_group_is_patient_costs_only_time(
    settings: Settings, release: Release, collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    limits = LIMITS.model_copy(update={"max_batch_seconds": 3})
    back = Event()

    class Away(FakeEmbedder):
        def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
            if not back.is_set():
                raise TransientError("the encoder is away")
            return super().embed(texts, role)

    publish(settings, *documents(3))
    consumer = Consumer(settings, replace(release, embedder=Away()), collection, limits)
    with caplog.at_level(logging.INFO), running(consumer):
        wait_for(lambda: consumer.state.last_error == "the encoder is away", "it notices")
        time.sleep(7)
        back.set()
        wait_for(lambda: consumer.state.handled == 3, "it goes on")
    assert "poll timeout has expired" not in caplog.text
    assert "batch_left" not in caplog.messages
    assert sum(committed_offsets(settings, release.group, settings.topic).values()) == 3


def test_a_second_consumer_gets_its_share_while_the_first_is_in_the_middle_of_a_long_batch(
    settings: Settings, release: Release, collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    def member(number: int, seconds: float) -> Consumer:
        limits = LIMITS.model_copy(update={"instance": number, "texts_per_request": 1, "handover_seconds": 0.5})
        return Consumer(settings, slow(release, seconds), collection, limits)

    publish(settings, *documents(30))
    first, second = member(0, 0.4), member(1, 0.01)
    with caplog.at_level(logging.INFO, logger="streaming.loop"), running(first):
        wait_for(lambda: bool(first._indexer._embedder.calls), "the first is at work")  # type: ignore[attr-defined]
        with running(second):
            # One batch of the first would take 24 s.
            wait_for(lambda: "batch_left" in caplog.messages, "the first hands over")
            wait_for(lambda: second.state.handled > 0, "the second works")
            first._indexer._embedder.seconds = 0.01  # type: ignore[attr-defined]
            wait_for(lambda: sum(group_lag(settings, release.group, settings.topic).values()) == 0, "all is committed")
    assert set(stored(collection)) == {(f"k{number}", index) for number in range(30) for index in range(2)}
    assert first.state.handled > 0, "each has a partition"
    assert set(first.state.lag) | set(second.state.lag) == {0, 1}
    assert not set(first.state.lag) & set(second.state.lag)


def test_what_a_member_has_read_and_not_committed_is_read_again_after_a_rebalance(settings: Settings, release: Release) -> None:
    """kafka-python goes on where it was in a partition that stays; what was in hand is not in hand any more."""
    publish(settings, *documents(12))
    first = LogReader(settings, release.group, 0, 60)
    before, after, others = set(), set(), set()
    wait_for(lambda: before.update(places(first.poll(100))) or len(before) == 12, "all is read")
    second = LogReader(settings, release.group, 1, 60)
    # Each waits for the other to join, so both have to be asked.
    stop = Event()
    thread = Thread(target=lambda: [others.update(places(second.poll(100))) for _ in iter(stop.is_set, True)])
    thread.start()
    try:
        wait_for(lambda: after.update(places(first.poll(100))) or before == after | others, "all is read again")
    finally:
        stop.set()
        thread.join()
        first.close()
        second.close()
    assert after, "the first kept a partition"
    assert others, "the second got one"


def places(batch: Batch) -> set[tuple[int, int]]:
    return {(message.partition, message.offset) for message in batch.messages}


def test_a_consumer_told_to_stop_leaves_a_batch_that_would_take_too_long(
    settings: Settings, release: Release, collection: Collection
) -> None:
    limits = LIMITS.model_copy(update={"texts_per_request": 1, "drain_seconds": 0.5})
    publish(settings, *documents(30))
    made = slow(release, seconds=0.3)
    consumer = Consumer(settings, made, collection, limits)
    with running(consumer):
        wait_for(lambda: bool(made.embedder.calls), "it is at work")  # type: ignore[attr-defined]
        asked_at = time.monotonic()
    assert time.monotonic() - asked_at < 9, "the batch would have taken that long"
    assert committed_offsets(settings, release.group, settings.topic) == {}
    with running(consumer_of(settings, release, collection)):
        wait_for(lambda: len(stored(collection)) == 60, "the next start does it")


# --- producers ---


def plain_producer(settings: Settings, **options: Any) -> KafkaProducer:
    """As a program that knows nothing of Twinline makes it."""
    return KafkaProducer(bootstrap_servers=settings.kafka_address, max_request_size=34 * 1024 * 1024, **options)


def test_a_producer_that_shares_no_code_can_write_from_the_page_alone(
    settings: Settings, release: Release, collection: Collection
) -> None:
    producer = plain_producer(settings)

    def send(key: list[str], value: dict[str, Any] | None, **headers: str) -> None:
        producer.send(
            settings.topic,
            key=json.dumps(key).encode(),
            value=None if value is None else json.dumps(value).encode(),
            headers=[(name, text.encode()) for name, text in headers.items()],
        ).get(timeout=30)

    send(["wiki", "1"], {"schema": 1, "text": ONE, "metadata": {"team": "x"}, "language": "en"}, source_uri="http://e.x/1")
    send(["wiki", "2"], {"schema": 1, "text": ONE, "version": 7})
    send(["wiki", "2"], None, version="8")
    send(["wiki", "2"], {"schema": 1, "text": TWO, "version": 6})
    send(["wiki", "3"], {"schema": 2, "text": "of a later time"})
    expected = {("1", 0): ONE}
    if node := shutil.which("node"):
        script = 'for (const part of [["wiki", "é4"], {schema: 1, text: process.argv[1]}]) console.log(JSON.stringify(part))'
        key, value = subprocess.run([node, "-e", script, TWO], check=True, capture_output=True, timeout=60).stdout.splitlines()
        producer.send(settings.topic, key=key, value=value).get(timeout=30)
        expected["é4", 0] = TWO
    producer.close()
    with running(consumer_of(settings, release, collection)) as consumer:
        wait_for(lambda: consumer.state.handled == 5 + bool(node), "all messages")
    assert stored(collection) == expected
    (point,), _ = collection.scroll({"kind": "chunk", "key": "1"})
    (head,) = collection.read_heads([head_id("wiki", "1")]).values()
    assert (head.metadata, point.payload["metadata"]) == ({"team": "x", "_fields": {"language": "en"}}, {})
    assert point.payload["headers"] == {"source_uri": "http://e.x/1"}
    assert collection.count({"kind": "head", "metadata._fields.language": "en"}) == 1
    (letter,) = set_aside(settings)
    assert letter.reason == "unknown_schema"
    assert "knows 1" in letter.error


def rubbish() -> list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]:
    """Return messages that no consumer can use: 10 MB of random bytes, and whatever else somebody may send."""
    numbers = random.Random(7)
    key = encode_key("s", "bad")
    deep = b"[" * 100_000 + b"]" * 100_000
    values = [
        *(numbers.randbytes(size) for size in [1, 10, 100, 1_000, 10_000, 100_000] * 3 + [1_000_000] * 10),
        deep,
        b'{"schema":1,"text":"a","metadata":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
        b'{"schema":1,"text":"a","metadata":' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}",
        b'{"schema":1,"text":"a","text":"b"}',
        b'{"schema":1,"text":"\\ud800"}',
        b'{"schema":1,"text":"\xed\xa0\x80"}',
        b'{"schema":1,"text":"a","metadata":{"x":"\\udfff"}}',
        b'{"schema":1,"text":"a","metadata":{"x":NaN}}',
        b'{"schema":1,"text":"a","metadata":{"x":-Infinity}}',
        b'{"schema":1,"text":"a","metadata":{"x":%s}}' % (b"9" * 4_000),
        b'{"schema":1,"text":"a","metadata":{"x":18446744073709551616}}',
        b'{"schema":1,"text":"a","metadata":{"x":"%s"}}' % (b"x" * 100_000),
        b'{"schema":1,"text":"a","version":1e400}',
        b'{"schema":1,"text":"a","version":%s}' % (b"9" * 4_000),
        b'{"schema":1,"text":"a","title":"%s"}' % (b"t" * 20_000),
        b'{"schema":1,"text":"a","tenant":"%s"}' % (b"t" * 20_000),
        b'{"schema":1,"text":"%s"}' % (b"x" * (17 * 1024 * 1024)),
        b'{"schema":1,"text":"\\u200b \\u0000"}',
        b'{"schema":1}',
        b"null",
        b"",
        b"\xff\xfe{\x00}\x00",
        *(json.dumps({"schema": 1, "text": wrong}).encode() for wrong in (None, 1, 1.5, True, [], {}, ["a"])),
        *(json.dumps({"schema": wrong, "text": "a"}).encode() for wrong in (None, 0, 2, -1, "1", True, [], {}, 1e308)),
        *(json.dumps({"schema": 1, "text": "a", "title": wrong}).encode() for wrong in (1, True, [], {})),
        *(json.dumps({"schema": 1, "text": "a", "metadata": wrong}).encode() for wrong in (1, True, [], "x")),
        *(json.dumps({"schema": 1, "text": "a", "version": wrong}).encode() for wrong in (-1, 1.5, True, "1", [], 2**53)),
        *(json.dumps({"schema": 1, "text": "a", "tenant": wrong}).encode() for wrong in (1, True, [], {}, "")),
    ]
    good = b'{"schema":1,"text":"a"}'
    keys = [
        None,
        b"",
        b"k",
        b"[]",
        b'["s"]',
        b'["s","k","x"]',
        b'["s",1]',
        b'["s",null]',
        b'["","k"]',
        b'["s",""]',
        b'{"s":"k"}',
        b"null",
        deep,
        numbers.randbytes(100_000),
        encode_key("s" * 2_000, "k"),
        encode_key("s", "k" * 1_000_000),
        b'["s","\\ud800"]',
    ]
    return [
        *((key, value, []) for value in values),
        *((each, good, [("run_id", b"\xff"), ("", b""), ("dead-letter-reason", b"mine")]) for each in keys),
        (None, None, []),
        *((each, None, []) for each in keys if each is not None),
        (key, None, [("version", b"x")]),
        # Not two headers of one name: the embedded broker keeps the last alone. The unit tests have them.
    ]


@dataclass
class Whole:
    """A key as it is, null too, which kafka-python does not send beside a null value."""

    key: bytes | None


class KeyOfWhole(Serializer):  # type: ignore[misc]
    def serialize(self, topic: str, headers: Any, data: Whole) -> bytes | None:
        return data.key


def test_whatever_is_sent_ends_in_the_dead_letters_and_stops_nothing(
    settings: Settings, release: Release, collection: Collection
) -> None:
    sent = rubbish()
    assert sum(len(value or b"") for _, value, _ in sent) > 10_000_000
    producer = plain_producer(settings, key_serializer=KeyOfWhole())
    futures = []
    for number, (key, value, headers) in enumerate(sent):
        futures.append(producer.send(settings.topic, key=Whole(key), value=value, headers=headers))
        neighbour = Document("s", f"good{number}", f"{number} {ONE}")
        good = json.dumps({"schema": 1, "text": neighbour.text}).encode()
        futures.append(producer.send(settings.topic, key=Whole(encode_key("s", neighbour.key)), value=good))
    for future in futures:
        future.get(timeout=60)
    producer.close()
    with running(consumer_of(settings, release, collection)) as consumer:
        wait_for(lambda: consumer.state.handled == 2 * len(sent), "all messages", seconds=150)
    letters = set_aside(settings)
    assert sorted(((x.message.key or b"", x.message.value or b"") for x in letters), key=repr) == sorted(
        ((key or b"", value or b"") for key, value, _ in sent), key=repr
    )
    assert {(x.message.key is None, x.message.value is None) for x in letters} >= {(True, True), (True, False), (False, True)}
    assert all(x.reason and x.stage in ("decode", "chunk") and x.digest and x.error for x in letters)
    assert not [x for x in letters if x.reason in ("unexpected", "refused")]
    assert collection.count({"kind": "head"}) == len(sent)
    assert {point[0] for point in stored(collection)} == {f"good{number}" for number in range(len(sent))}
    assert sum(group_lag(settings, release.group, settings.topic).values()) == 0


def test_a_dead_letter_that_its_topic_cannot_take_is_kept_without_its_value(
    broker: str, release: Release, collection: Collection
) -> None:
    made = Settings(kafka_bootstrap=broker, topic=f"documents-{uuid4().hex[:8]}")
    admin = make_admin(made)
    admin.create_topics(
        {made.dead_letter_topic: {"num_partitions": 1, "replication_factor": 1, "configs": _SMALL}}, wait_for_metadata=True
    )
    admin.close()
    ensure_topics(made)
    publish(made, b"x" * 3_000_000, Document("s", "k", ONE))
    with running(consumer_of(made, release, collection)) as consumer:
        wait_for(lambda: consumer.state.handled == 2, "both messages")
    letters = set_aside(made)
    assert [(letter.reason, letter.message.key) for letter in letters] == [("invalid_json", b"poison")]
    assert (letters[0].omitted, letters[0].message.value) == ("value", None)
    assert stored(collection) == {("k", 0): ONE}


_SMALL = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "100000"}


def test_a_document_of_thousands_of_chunks_is_indexed_whole(settings: Settings, release: Release, collection: Collection) -> None:
    words = 40_000
    text = " ".join(f"w{number}" for number in range(words))
    large = Document("s", "large", text)
    publish(settings, large, Document("s", "small", ONE))
    limits = ConsumerLimits(texts_per_request=256, commit_interval_seconds=0.2)
    consumer = Consumer(settings, release, collection, limits)
    with running(consumer):
        wait_for(lambda: consumer.state.handled == 2, "both", seconds=120)
    assert collection.count({"kind": "chunk", "key": "large"}) == len(release.preprocessor.chunks(large)) >= words // 8
    assert collection.count({"kind": "chunk", "key": "small"}) == 1
