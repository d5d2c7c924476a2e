"""The consumer's loop: 1. poll, 2. handle, 3. flush and commit. Nothing is committed before it is durable.

A batch that is cut short, by a crash or by a rebalance, is delivered again, and the law of `handle()` makes that harmless. So the
loop never asks whether it still owns a partition: a commit that the group refuses is dropped, with the work it stood for.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError
from kafka.structs import OffsetAndMetadata
from tenacity import stop_when_event_set

from clients.kafka import kafka_errors, make_consumer
from clients.retry import retrying
from clients.settings import Settings
from clients.store import Collection
from contract.embedding import Embedder
from contract.errors import TransientError
from contract.preprocess import Preprocessor
from streaming.dead_letters import KafkaDeadLetters
from streaming.decode import Message
from streaming.indexer import Indexer
from streaming.limits import ConsumerLimits
from streaming.metrics import StreamingMetrics

_log = logging.getLogger(__name__)

_POLL_MS = 200
# An embedded broker answers an empty fetch at once, and a poll with a time limit would ask again and again: a third of a core
# for nothing. So the loop looks, and rests this long when there is nothing; it is added to the time until a document is found.
_IDLE_SECONDS = 0.025
_COMMIT_TIMEOUT_MS = 10_000
_CLOSE_TIMEOUT_MS = 5_000
_LOST_PLACE = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
# In kafka-python's records: 0 where a producer's clock set the time, 1 where the log did.
_LOG_APPEND_TIME = 1


@dataclass(slots=True)
class ConsumerState:
    """What a consumer says of itself; written by its thread, read by any.

    Args:
        lag: messages not yet handled, by partition.
        last_error: why the last attempt failed, empty while all goes well.
    """

    running: bool = False
    handled: int = 0
    dead_letters: int = 0
    lag: dict[int, int] = field(default_factory=dict)
    last_error: str = ""


class Consumer:
    """Feeds one collection from the log, in the thread that calls `run()`."""

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder,
        collection: Collection,
        preprocessor: Preprocessor,
        group: str,
        limits: ConsumerLimits | None = None,
        metrics: StreamingMetrics | None = None,
    ) -> None:
        """Open nothing yet.

        Raises:
            MismatchError: encoder, contract and collection are not of one release.
        """
        self.group = group
        self.state = ConsumerState()
        self._settings = settings
        self._limits = limits or ConsumerLimits()
        self._metrics = metrics
        self._release = collection.info.release
        self._dead_letters = KafkaDeadLetters(settings)
        self._indexer = Indexer(collection, embedder, preprocessor, self._dead_letters, self._limits, metrics)
        self._to_commit: dict[TopicPartition, OffsetAndMetadata] = {}
        self._committed_at = 0.0

    def run(
        self,
        stop: Event,
        start: Mapping[int, int] | None = None,
        until: Mapping[int, int] | None = None,
        progress: Callable[[int], object] = lambda handled: None,
    ) -> None:
        """Consume until `stop` is set; what is in hand then is finished and committed.

        Args:
            start: offsets by partition to start from, whatever the group has committed. For a group with one consumer.
            until: return once every partition is handled up to its offset here.
            progress: called after each batch, with its size.

        Raises:
            ContractError: not a message is wrong but what it all runs on, or another consumer took this one's place.
        """
        consumer = self._connect(stop)
        if consumer is None:
            return
        self.state.running = True
        try:
            consumer.subscribe([self._settings.topic])
            if start is not None:
                self._seek(consumer, start, stop)
            while not stop.is_set():
                # 1. Poll: heartbeats and rebalances happen in here, and no batch is in hand.
                polled = self._poll(consumer, stop)
                # 2. Handle: durable against the death of this process when it returns.
                if polled and not self._handle(consumer, polled, stop):
                    break
                progress(sum(map(len, polled.values())))
                self._observe_lag(consumer)
                # 3. Flush and commit, at once when there is nothing else to do.
                if not polled or time.monotonic() - self._committed_at >= self._limits.commit_interval_seconds:
                    self._commit(consumer)
                if until is not None and self._reached(consumer, until):
                    break
            self._commit(consumer)
        finally:
            self.state.running = False
            # No commit in here: what was not committed above is not known to be durable.
            consumer.close(autocommit=False, timeout_ms=_CLOSE_TIMEOUT_MS)
            self._dead_letters.close()

    def _connect(self, stop: Event) -> KafkaConsumer | None:
        """Return a consumer as soon as a broker answers; None when told to stop before."""
        policy = retrying(stop=stop_when_event_set(stop), sleep=stop.wait, longest_wait_seconds=self._limits.longest_wait_seconds)
        try:
            for attempt in policy:
                with attempt:
                    return self._attempt_connect()
        except TransientError:
            if not stop.is_set():
                raise
        return None

    def _attempt_connect(self) -> KafkaConsumer:
        try:
            consumer = make_consumer(
                self._settings,
                self.group,
                # Static membership: a consumer that comes back takes its old place without a rebalance, even after kill -9.
                group_instance_id=f"{self.group}-{self._limits.instance}",
                max_poll_interval_ms=self._limits.max_batch_seconds * 1000,
            )
        except TransientError as exc:
            self._failed(exc)
            raise
        self.state.last_error = ""
        return consumer

    def _poll(self, consumer: KafkaConsumer, stop: Event) -> Mapping[TopicPartition, list[Any]]:
        try:
            with kafka_errors(self._settings):
                polled: Mapping[TopicPartition, list[Any]] = consumer.poll(timeout_ms=0, max_records=self._limits.max_messages)
        except TransientError as exc:
            self._failed(exc)
            stop.wait(_POLL_MS / 1000)
            return {}
        if not polled:
            stop.wait(_IDLE_SECONDS)
        return polled

    def _seek(self, consumer: KafkaConsumer, start: Mapping[int, int], stop: Event) -> None:
        while not consumer.assignment() and not stop.is_set():
            # What this poll may return is met again after the seek.
            consumer.poll(timeout_ms=_POLL_MS, max_records=1)
        for partition in consumer.assignment():
            if partition.partition in start:
                consumer.seek(partition, start[partition.partition])

    def _handle(self, consumer: KafkaConsumer, polled: Mapping[TopicPartition, list[Any]], stop: Event) -> bool:
        """Handle a batch, as often as it takes; return False when told to stop before it worked."""
        batch = [_message(record) for records in polled.values() for record in records]
        policy = retrying(
            stop=stop_when_event_set(stop),
            sleep=lambda seconds: self._wait(consumer, seconds, stop),
            longest_wait_seconds=self._limits.longest_wait_seconds,
        )
        try:
            for attempt in policy:
                with attempt:
                    self._attempt(batch)
        except TransientError:
            if stop.is_set():
                return False
            raise
        finally:
            consumer.resume(*consumer.paused())
        for partition, records in polled.items():
            self._to_commit[partition] = OffsetAndMetadata(records[-1].offset + 1, "", -1)
        return True

    def _attempt(self, batch: list[Message]) -> None:
        try:
            handled = self._indexer.handle(batch)
        except TransientError as exc:
            self._failed(exc)
            raise
        self.state.last_error = ""
        self.state.handled += len(batch)
        self.state.dead_letters += len(handled.dead_letters)

    def _wait(self, consumer: KafkaConsumer, seconds: float, stop: Event) -> None:
        """Back off with all partitions paused, polling so that the group does not take this consumer for dead."""
        deadline = time.monotonic() + seconds
        while not stop.is_set() and time.monotonic() < deadline:
            consumer.pause(*consumer.assignment())
            with kafka_errors(self._settings):
                polled = consumer.poll(timeout_ms=_POLL_MS, max_records=1)
            # A partition assigned in this poll was not paused: give back what it brought.
            for partition, records in polled.items():
                consumer.seek(partition, records[0].offset)

    def _commit(self, consumer: KafkaConsumer) -> None:
        # A partition that went to another consumer is that one's to commit.
        self._to_commit = {mine: self._to_commit[mine] for mine in self._to_commit.keys() & consumer.assignment()}
        if not self._to_commit:
            return
        self._indexer.flush()
        try:
            with kafka_errors(self._settings):
                try:
                    consumer.commit(self._to_commit, timeout_ms=_COMMIT_TIMEOUT_MS)
                except _LOST_PLACE as exc:
                    # The messages come again, to this consumer or another.
                    _log.info("rebalanced_under_commit", extra={"group": self.group, "error": str(exc)})
        except TransientError as exc:
            # The work is done and stays done; the next commit covers this one.
            self._failed(exc)
            return
        self._to_commit = {}
        self._committed_at = time.monotonic()

    def _observe_lag(self, consumer: KafkaConsumer) -> None:
        lag = {}
        for partition, position in self._positions(consumer).items():
            end = consumer.highwater(TopicPartition(self._settings.topic, partition))
            if end is not None:
                lag[partition] = max(0, end - position)
                if self._metrics is not None:
                    self._metrics.lag.labels(self._release, str(partition)).set(lag[partition])
        self.state.lag = lag

    def _reached(self, consumer: KafkaConsumer, until: Mapping[int, int]) -> bool:
        positions = self._positions(consumer)
        return all(positions.get(partition, -1) >= end for partition, end in until.items())

    def _positions(self, consumer: KafkaConsumer) -> dict[int, int]:
        """Return where each of this consumer's partitions will be read next; nothing for one that does not know yet."""
        positions = {}
        for partition in consumer.assignment():
            try:
                with kafka_errors(self._settings):
                    position = consumer.position(partition, timeout_ms=_POLL_MS)
            except TransientError as exc:
                self._failed(exc)
                continue
            if position is not None:
                positions[partition.partition] = int(position)
        return positions

    def _failed(self, exc: TransientError) -> None:
        self.state.last_error = str(exc)
        _log.warning("consumer_tries_again", extra={"group": self.group, "error": str(exc)})
        if self._metrics is not None:
            self._metrics.retries.labels(self._release).inc()


def _message(record: Any) -> Message:
    return Message(
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        # A header may have no value at all.
        [(name, value or b"") for name, value in record.headers],
        appended_by_log=record.timestamp_type == _LOG_APPEND_TIME,
    )
