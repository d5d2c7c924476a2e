"""What other people's producers write: every codec, transactions, markers, bytes that nobody can read, topics made again."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

from tests.fixtures_log import Keeping, set_aside
from tests.fixtures_streaming import preprocessor
from tests.unit.clients.test_kafka_fetched import RawName
from twinline.clients.kafka.connect import beginning_offsets, end_offsets, ensure_topics, kafka_errors, make_admin, make_producer
from twinline.clients.kafka.standing import StandingReader, group_lag
from twinline.clients.kafka.stretch import delete_before
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.upkeep.dead_letters.entries import read_entries
from twinline.upkeep.dead_letters.replay import choose
from twinline.upkeep.skew.new_documents import read_newest

__all__ = ["preprocessor"]

TEXT = "marmots whistle when an eagle comes near"


@dataclass
class Shared(Keeping):
    """A log that other people write to, and whose topic they own."""

    owner: Settings = field(default_factory=Settings)


@pytest.fixture
def keeping(broker: str, request: pytest.FixtureRequest, tmp_path: Path, preprocessor: Preprocessor) -> Iterator[Shared]:
    made = Shared.start(broker, tmp_path, preprocessor)
    assert isinstance(made, Shared)
    made.owner = made.settings
    if request.config.getoption("--broker") == "apache-secure":
        # Others come with rights of their own, by another door.
        plain = {"kafka_bootstrap": request.getfixturevalue("apache").address, "kafka_security_protocol": "PLAINTEXT"}
        made.owner = made.settings.model_copy(update=plain)
    yield made
    made.close()


def foreign(keeping: Shared, **options: Any) -> Producer:
    """A producer of librdkafka, which spreads keys as Java's does."""
    return Producer({"bootstrap.servers": keeping.owner.kafka_address, "partitioner": "murmur2_random", **options})


def send(keeping: Shared, producer: Producer, *keys: str) -> None:
    for key in keys:
        value = json.dumps({"schema": 1, "text": f"{TEXT} {key}"})
        producer.produce(keeping.settings.topic, key=json.dumps(["s", key], separators=(",", ":")), value=value)


def behind(keeping: Shared) -> int:
    return sum(group_lag(keeping.settings, keeping.release.group, keeping.settings.topic).values())


def standing(keeping: Shared) -> Any:
    with closing(StandingReader(keeping.settings, keeping.release.group, keeping.settings.topic)) as reader:
        return reader.read()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_of_a_foreign_client_is_indexed(keeping: Shared, codec: str) -> None:
    producer = foreign(keeping, **{"compression.type": codec, "linger.ms": 50})
    send(keeping, producer, *(f"{codec}{number}" for number in range(20)))
    # Above a mebibyte in one message, of one long word.
    long = json.dumps({"schema": 1, "text": TEXT, "metadata": {"x": "y" * 60_000}})
    producer.produce(keeping.settings.topic, key='["s","long"]', value=long)
    producer.flush(20)

    keeping.consume()

    assert set(keeping.texts()) == {f"{codec}{number}" for number in range(20)} | {"long"}
    assert not set_aside(keeping.settings)
    assert (behind(keeping), keeping.compare().clean) == (0, True)


@pytest.mark.parametrize(
    "acts",
    [
        ("commit",),  # the log ends with a marker
        ("abort",),  # and with nothing else
        ("commit", "abort", "plain", "empty"),
        ("plain", "abort", "abort", "commit"),
        ("abort", "plain"),
        ("empty", "empty"),
    ],
    ids="_".join,
)
def test_a_log_with_markers_is_read_to_its_end(keeping: Shared, acts: Sequence[str]) -> None:
    producer, plain = foreign(keeping, **{"transactional.id": f"tx-{keeping.settings.topic}"}), foreign(keeping)
    producer.init_transactions(30)
    wanted = set()
    for number, act in enumerate(acts):
        if act == "plain":
            send(keeping, plain, f"plain{number}")
            plain.flush(20)
            wanted.add(f"plain{number}")
            continue
        producer.begin_transaction()
        if act != "empty":
            send(keeping, producer, *(f"{act}{number}-{n}" for n in range(3)))
        if act == "abort":
            producer.flush(20)
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            wanted |= {f"{act}{number}-{n}" for n in range(3)} if act == "commit" else set()

    keeping.consume()

    assert set(keeping.texts()) == wanted
    assert behind(keeping) == 0
    assert standing(keeping).passed == end_offsets(keeping.settings, keeping.settings.topic)
    compared = keeping.compare()
    assert (compared.clean, compared.documents) == (True, len(wanted))


def test_an_open_transaction_is_named_and_no_lag(keeping: Shared) -> None:
    name = f"flink-{keeping.settings.topic}"
    producer, plain = foreign(keeping, **{"transactional.id": name}), foreign(keeping)
    send(keeping, plain, "before")
    plain.flush(20)
    producer.init_transactions(30)
    producer.begin_transaction()
    send(keeping, producer, "within")
    producer.flush(20)
    send(keeping, plain, *(f"after{number}" for number in range(20)))
    plain.flush(20)

    keeping.consume()

    assert behind(keeping) == 0
    assert keeping.compare().clean
    assert "within" not in keeping.texts()
    # A transaction that is open for a moment is nothing to speak of.
    deadline = time.monotonic() + 20
    while not (said := standing(keeping).held_up):
        assert time.monotonic() < deadline, "nobody names it"
        time.sleep(0.5)
    assert "holds partition" in said[0]
    assert "later offsets cannot be read until it is committed or aborted" in said[0]

    producer.commit_transaction(30)
    keeping.consume()
    assert {"before", "within", "after0", "after19"} <= set(keeping.texts())
    assert (behind(keeping), standing(keeping).held_up, keeping.compare().clean) == (0, (), True)


def test_deleted_records_are_no_lag(keeping: Shared) -> None:
    producer = foreign(keeping)
    send(keeping, producer, *(f"k{number}" for number in range(20)))
    producer.flush(20)
    ends = end_offsets(keeping.settings, keeping.settings.topic)
    assert behind(keeping) == 20

    delete_before(keeping.owner, keeping.settings.topic, ends)

    # Before this group has committed anything.
    assert behind(keeping) == 0
    assert beginning_offsets(keeping.settings, keeping.settings.topic) == ends
    send(keeping, producer, "later")
    producer.flush(20)
    assert behind(keeping) == 1
    keeping.consume()
    assert (behind(keeping), set(keeping.texts())) == (0, {"later"})


def test_a_topic_that_was_made_again_is_no_standing_at_its_end(keeping: Shared) -> None:
    producer = foreign(keeping)
    send(keeping, producer, *(f"k{number}" for number in range(20)))
    producer.flush(20)
    keeping.consume()
    with closing(make_admin(keeping.owner)) as admin, kafka_errors(keeping.owner):
        admin.delete_topics([keeping.settings.topic])
    time.sleep(1)
    ensure_topics(keeping.settings)
    send(keeping, foreign(keeping), "first")
    again = foreign(keeping)
    send(keeping, again, "new")
    again.flush(20)

    found = standing(keeping)

    ends = end_offsets(keeping.settings, keeping.settings.topic)
    assert sum(found.behind.values()) == sum(ends.values()) > 0
    assert found.made_again or all(offset == 0 for offset in found.passed.values())


def test_header_names_of_any_bytes_are_no_reason_to_stop(keeping: Shared) -> None:
    headers = [(RawName(b"\xff\xfe"), b"\x00"), (RawName(b"caf\xe9"), b"latin"), ("source_uri", b"file:/a")]
    keeping.publish(Document("s", "odd", TEXT, version=1), headers=headers)
    keeping.publish(Document("s", "even", TEXT, version=1))

    keeping.consume()

    assert set(keeping.texts()) == {"odd", "even"}
    assert not set_aside(keeping.settings)


@pytest.mark.usefixtures("_embedded_only")  # Apache Kafka refuses such a batch at its door
def test_a_batch_that_nobody_can_read_is_set_aside_and_the_rest_is_indexed(
    keeping: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = DefaultRecordBatchBuilder.build

    def damaged(self: DefaultRecordBatchBuilder) -> bytearray:
        batch = bytearray(build(self))
        at = DefaultRecordBatch.HEADER_STRUCT.size
        batch[at:] = b"\xff" * (len(batch) - at)
        checksum = calc_crc32c(bytes(batch[DefaultRecordBatch.ATTRIBUTES_OFFSET :]))
        batch[DefaultRecordBatch.CRC_OFFSET : DefaultRecordBatch.CRC_OFFSET + 4] = checksum.to_bytes(4)
        return batch

    keeping.publish(*(Document("s", f"before{number}", TEXT) for number in range(6)))
    with monkeypatch.context() as patch:
        patch.setattr(DefaultRecordBatchBuilder, "build", damaged)
        producer = make_producer(keeping.settings, compression_type="gzip", linger_ms=200)
        with closing(producer), kafka_errors(keeping.settings):
            for number in range(3):
                producer.send(keeping.settings.topic, key=b"k", value=b"%d" % number, partition=1)
    keeping.publish(*(Document("s", f"after{number}", TEXT) for number in range(6)))

    consumer = keeping.consume()

    assert set(keeping.texts()) == {f"{when}{number}" for when in ("before", "after") for number in range(6)}
    [letter] = set_aside(keeping.settings)
    assert (letter.reason, letter.stage, letter.message.key, letter.message.value) == ("unreadable", "decode", None, None)
    assert letter.message.unreadable is not None
    assert letter.message.unreadable.last - letter.message.offset == 2
    assert f"offsets {letter.message.offset} to {letter.message.unreadable.last}" in letter.error
    assert consumer.state.dead_letters == 1
    assert (behind(keeping), keeping.compare().clean) == (0, True)
    # There is nothing to send again.
    [entry] = read_entries(keeping.settings)
    assert choose([entry], again=True).left.keys() == {entry.message}


def test_the_newest_documents_are_found_among_markers(keeping: Shared) -> None:
    producer = foreign(keeping, **{"transactional.id": f"tx-{keeping.settings.topic}"})
    producer.init_transactions(30)
    for number in range(8):
        # One message each, and so a marker each; then as many offsets that hold nothing.
        producer.begin_transaction()
        send(keeping, producer, f"k{number}")
        producer.flush(20)
        producer.commit_transaction(30)
    for number in range(8):
        producer.begin_transaction()
        send(keeping, producer, f"gone{number}")
        producer.flush(20)
        producer.abort_transaction(30)

    assert len(read_newest(keeping.settings, 5)) == 5
