"""Foreign producers: every message is indexed or set aside, and lag, verify and reconcile are right at every stop.

librdkafka and Java's own client write with every codec: plain messages, keys and headers of random bytes, and transactions that
are committed, aborted, empty, or left open over a stop. At each stop a third client (librdkafka's consumer, read_committed) says
what can be read; the consumer must have handled exactly that.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Producer, TopicPartition
from confluent_kafka import Consumer as ForeignConsumer
from tokenizers import Tokenizer, models, pre_tokenizers

from bench.backlog import running_broker
from bench.backlog_worker import HashEmbedder
from bench.workspace import make_workspace
from proofs.foreign.apache import ApacheKafka, fetch_jars, java_client
from streaming.lag import LagReporter
from streaming.limits import ConsumerLimits
from streaming.loop import Consumer
from streaming.opening import open_indexer
from twinline.clients.kafka.connect import end_offsets, ensure_topics
from twinline.clients.kafka.standing import StandingReader
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import Collection, CollectionInfo
from twinline.clients.store.vectors import one_dense
from twinline.contract.documents.records import decode_message
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import ChunkerSettings, make_contract
from twinline.contract.errors import DocumentError, TransientError
from twinline.release.verify.index import wait_until_caught_up
from twinline.release.verify.log_sample import read_log
from twinline.upkeep.dead_letters.entries import read_letters
from twinline.upkeep.reconcile.measure import Reconciliation
from twinline.upkeep.reconcile.target import Direct, Target

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
_DIMENSION: Final = 8
_STANDSTILL_SECONDS: Final = 90.0
_PATIENCE_SECONDS: Final = 20.0
_TRANSACTION_SECONDS: Final = 30
_KEYS: Final = 400


@dataclass
class Written:
    """What was written: messages that can be read sooner or later, and transactions by their ends."""

    messages: int = 0
    transactions: Counter[str] = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)


def measure_foreign(folder: Path, broker: str, messages: int, transactions: int, stops: int, seed: int) -> dict[str, Any]:
    """Write, stop, and compare, `stops` times; return the counts, with the failures in words.

    Args:
        broker: `apache` or `embedded`.
    """
    began = time.monotonic()
    chance = random.Random(seed)  # noqa: S311
    jars = fetch_jars()
    with ExitStack() as opened:
        address = opened.enter_context(_running(folder / uuid4().hex[:8], broker))
        settings = Settings(kafka_bootstrap=address, topic=f"documents-{uuid4().hex[:8]}", home=folder / uuid4().hex[:8])
        ensure_topics(settings)
        release = _release()
        collection = opened.enter_context(
            closing(EdgeStore(settings.home / "store").create(release.collection_name, release.info))
        )
        producers = _Producers(settings, jars, chance)
        watch = opened.enter_context(closing(LagReporter(settings, release.group, release.info.release)))
        handled, set_aside, failures, standstill = 0, 0, [], 0
        for stop in range(stops):
            producers.settle()
            is_last = stop == stops - 1
            producers.write(messages // stops, transactions // stops, leaves_open=not is_last)
            consumer = Consumer(settings, release, collection, ConsumerLimits(commit_interval_seconds=0.2))
            if not _consume(consumer, end_offsets(settings, settings.topic)):
                standstill += 1
                failures.append(f"stop {stop}: the consumer stands still: {consumer.state.last_error or consumer.state.lag}")
            handled += consumer.state.handled
            set_aside += consumer.state.dead_letters
            failures += [f"stop {stop}: {fault}" for fault in _faults(settings, release, collection, watch, handled)]
    if handled != producers.written.messages:
        failures.append(f"{producers.written.messages} messages were written to be read, {handled} were handled")
    return {
        "proof": "foreign",
        "broker": broker,
        "seed": seed,
        "messages": producers.written.messages,
        "by_client": dict(producers.written.clients),
        "transactions": dict(producers.written.transactions),
        "indexed": handled - set_aside,
        "set_aside": set_aside,
        "stops": stops,
        "standstill": standstill,
        "failures": failures,
        "seconds": round(time.monotonic() - began, 1),
    }


class _Producers:
    """Writes as other people's programs do."""

    def __init__(self, settings: Settings, jars: Path, chance: random.Random) -> None:
        self._settings, self._jars, self._chance = settings, jars, chance
        self.written = Written()
        self._numbers = iter(range(10**9))
        self._plain = {codec: self._producer(codec) for codec in CODECS}
        self._transactional = [self._producer(codec, **{"transactional.id": f"tx-{uuid4().hex[:8]}"}) for codec in CODECS]
        for producer in self._transactional:
            producer.init_transactions(_TRANSACTION_SECONDS)
        self._open: list[tuple[Producer, int]] = []

    def write(self, messages: int, transactions: int, leaves_open: bool) -> None:
        """Write about so many messages in a random order of plain ones and transactions; at most one stays open."""
        acts = ["transaction"] * transactions
        in_java = max(1, messages // 10)
        acts += ["plain"] * max(0, messages - in_java - 2 * transactions)
        self._chance.shuffle(acts)
        self._write_in_java(in_java)
        for act in acts:
            if act == "plain":
                self._plain_message()
            else:
                self._transaction(self._chance.choices(("committed", "aborted", "empty"), (6, 3, 1))[0])
        if leaves_open:
            self._transaction("left_open")
            for _ in range(10):
                self._plain_message()
        for producer in self._plain.values():
            producer.flush(_TRANSACTION_SECONDS)

    def settle(self) -> None:
        """Commit or abort the transactions that were left open."""
        for producer, size in self._open:
            if self._chance.random() < 0.5:
                producer.commit_transaction(_TRANSACTION_SECONDS)
                self.written.messages += size
            else:
                producer.abort_transaction(_TRANSACTION_SECONDS)
        self._open = []

    def _producer(self, codec: str, **options: Any) -> Producer:
        given = {"bootstrap.servers": self._settings.kafka_address, "partitioner": "murmur2_random", "compression.type": codec}
        return Producer({**given, "linger.ms": 20, **options})

    def _plain_message(self) -> None:
        self._send(self._plain[self._chance.choice(CODECS)])
        self.written.messages += 1

    def _transaction(self, end: str) -> None:
        producer = self._chance.choice([each for each in self._transactional if all(each is not held for held, _ in self._open)])
        producer.begin_transaction()
        size = 0 if end == "empty" else self._chance.randint(1, 4)
        for _ in range(size):
            self._send(producer)
        self.written.transactions[end] += 1
        if end == "left_open":
            producer.flush(_TRANSACTION_SECONDS)
            self._open.append((producer, size))
        elif end == "aborted":
            # On the log, and not only in the client's memory.
            producer.flush(_TRANSACTION_SECONDS)
            producer.abort_transaction(_TRANSACTION_SECONDS)
        else:
            producer.commit_transaction(_TRANSACTION_SECONDS)
            self.written.messages += size

    def _send(self, producer: Producer) -> None:
        number = next(self._numbers)
        key: bytes = json.dumps(["foreign", f"k{number % _KEYS}"], separators=(",", ":")).encode()
        value: bytes | None = json.dumps({"schema": 1, "text": f"message {number} of a foreign client"}).encode()
        kind = self._chance.random()
        if kind < 0.05:
            key = self._chance.randbytes(self._chance.randint(0, 40))
        elif kind < 0.08:
            value = self._chance.randbytes(self._chance.randint(0, 200))
        elif kind < 0.12:
            value = None
        headers: list[tuple[str, str | bytes | None]] = [
            (f"h{n}", self._chance.randbytes(self._chance.randint(0, 30))) for n in range(self._chance.randint(0, 4))
        ]
        producer.produce(self._settings.topic, key=key, value=value, headers=headers)
        producer.poll(0)
        self.written.clients["librdkafka"] += 1

    def _write_in_java(self, count: int) -> None:
        """Let Kafka's own console producer write with one codec after the other."""
        codec = CODECS[sum(self.written.transactions.values()) % len(CODECS)]
        lines = []
        for _ in range(count):
            number = next(self._numbers)
            key = json.dumps(["java", f"k{number % _KEYS}"], separators=(",", ":"))
            lines.append(f"{key}\t{json.dumps({'schema': 1, 'text': f'message {number} of Java, {codec}'})}\n")
        command = ("--bootstrap-server", self._settings.kafka_address, "--topic", self._settings.topic)
        reader = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=\t")
        java_client(
            self._jars,
            "org.apache.kafka.tools.ConsoleProducer",
            *(*command, "--compression-codec", codec, *reader),
            text="".join(lines),
        )
        self.written.messages += count
        self.written.clients["java"] += count


def _faults(settings: Settings, release: Release, collection: Collection, watch: LagReporter, handled: int) -> Iterator[str]:
    """Yield what is wrong at a stop."""
    seen = _readable(settings)
    if len(seen) != handled:
        yield f"{len(seen)} messages can be read, {handled} were handled"
    with closing(StandingReader(settings, release.group, settings.topic)) as reader:
        found = reader.read()
    ends = end_offsets(settings, settings.topic)
    if sum(found.behind.values()) or dict(found.passed) != ends:
        yield f"the lag is {dict(found.behind)} at a stop"
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while watch.lag != 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    if watch.lag != 0:
        yield f"the reported lag is {watch.lag} at a stop: {watch.notes}"
    wait_until_caught_up(ends, lambda: found.passed, _PATIENCE_SECONDS)
    wanted = _newest(seen)
    state = read_log(settings, ends, 24)
    if {name for name in state.versions if name not in state.deleted} != {name for name, text in wanted.items() if text}:
        yield "verify reads another state of the log than a foreign client"
    stored = _stored(collection)
    if stored != {name: text for name, text in wanted.items() if text}:
        yield f"the index differs from the log in {len(set(stored.items()) ^ {(n, t) for n, t in wanted.items() if t})} documents"
    refused = len(list(read_letters(settings)))
    if refused != sum(not _is_message(*message) for message in seen):
        yield f"{refused} messages are set aside, others than a foreign client counts"
    with open_indexer(settings, release, collection) as indexer:
        index = Direct(collection, indexer)
        target = Target(release.info.release, release.info, release.preprocessor, index, lambda: found.passed, release.words)
        with Reconciliation(settings, target) as reconciliation:
            compared = reconciliation.compare(_PATIENCE_SECONDS)
    if not compared.clean:
        yield f"reconcile finds {dict(compared.counts)}"


def _readable(settings: Settings) -> list[tuple[bytes | None, bytes | None]]:
    """Return keys and values of all messages that a foreign consumer reads, each partition in its order."""
    ends = end_offsets(settings, settings.topic)
    options = {"isolation.level": "read_committed", "enable.partition.eof": True, "enable.auto.commit": False}
    consumer = ForeignConsumer({"bootstrap.servers": settings.kafka_address, "group.id": uuid4().hex, **options})
    seen: list[tuple[bytes | None, bytes | None]] = []
    try:
        consumer.assign([TopicPartition(settings.topic, number, OFFSET_BEGINNING) for number in ends])
        ended: set[int | None] = set()
        deadline = time.monotonic() + _STANDSTILL_SECONDS
        while len(ended) < len(ends):
            if time.monotonic() > deadline:
                raise TransientError("the foreign consumer does not come to the end of the log")
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                ended.add(message.partition())
            else:
                seen.append((message.key(), message.value()))
    finally:
        consumer.close()
    return seen


def _newest(seen: list[tuple[bytes | None, bytes | None]]) -> dict[tuple[str, str], str]:
    """Return the newest text of each document, empty for a deletion: each key lies in one partition."""
    newest = {}
    for key, value in seen:
        if _is_message(key, value):
            item = decode_message(key, value)
            newest[item.source, item.key] = getattr(item, "text", "")
    return newest


def _is_message(key: bytes | None, value: bytes | None) -> bool:
    try:
        decode_message(key, value)
    except DocumentError:
        return False
    return True


def _stored(collection: Collection) -> dict[tuple[str, str], str]:
    chunks: dict[tuple[str, str], dict[int, str]] = {}
    points, _ = collection.scroll({"kind": "chunk"}, limit=100_000)
    for point in points:
        name = (str(point.payload["source"]), str(point.payload["key"]))
        chunks.setdefault(name, {})[int(point.payload["chunk_index"])] = str(point.payload["text"])
    return {name: " ".join(texts[index] for index in sorted(texts)) for name, texts in chunks.items()}


def _consume(consumer: Consumer, until: Mapping[int, int]) -> bool:
    """Let a consumer go to the ends of the log; return False where it does not come there."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(consumer.run, stop, None, until)
        try:
            future.result(_STANDSTILL_SECONDS)
        except NotInTime:
            return False
        finally:
            stop.set()
    return True


def _release() -> Release:
    """Return a release of which no model is needed: words as tokens, hashes as vectors."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    chunker = ChunkerSettings(overlap_tokens=0, title="omit", title_max_tokens=0)
    contract, own = make_contract(tokenizer.to_str().encode(), max_tokens=64, dimension=_DIMENSION, chunker=chunker)
    prints = (contract.fingerprint, contract.vector_fingerprint, contract.index_fingerprint)
    info = CollectionInfo(f"r{uuid4().hex[:12]}", "space-of-the-proof", *prints, one_dense(_DIMENSION))
    return Release(info, Preprocessor(contract, own), HashEmbedder(info.space, _DIMENSION), GoldenSet((), limit=1e-6))


@contextmanager
def _running(folder: Path, broker: str) -> Iterator[str]:
    if broker == "apache":
        started = ApacheKafka.start(folder)
        try:
            yield started.address
        finally:
            started.stop()
        return
    with running_broker(make_workspace(folder, {})) as settings:
        yield settings.kafka_address
