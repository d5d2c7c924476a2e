"""The consumer's loop: 1. poll, 2. handle, 3. flush and commit. Nothing is committed before it is durable.

An interrupted batch, by a crash or a rebalance, is delivered again; the law of `handle()` makes that harmless. Before a
rebalance, handled messages are committed. The batch in flight is finished if that takes little time, and left to the next owner
of its partitions otherwise, never both.

A large document may hold the encoder for seconds or minutes. Small messages do not wait for it: they are handled first, and those
that arrive meanwhile are handled between its pieces (`in_flight`).
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TypeVar

from tenacity import Retrying, stop_when_event_set

from streaming.building.vector_reuse import VectorSource
from streaming.dead_letters import KafkaDeadLetters
from streaming.decode import Message
from streaming.heartbeat import BatchLeftError, Heartbeat
from streaming.in_flight import InFlight
from streaming.indexer import Handled, Indexer
from streaming.known_vectors import KnownVectors
from streaming.limits import ConsumerLimits
from streaming.log_reader import Batch, LogReader
from streaming.metrics import StreamingMetrics
from twinline.clients.kafka.erasures import ErasureTopic
from twinline.clients.release import Release
from twinline.clients.retry import retrying
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Collection
from twinline.contract.errors import TransientError

_log = logging.getLogger(__name__)
# The broker is asked more often than the limits say: a refusal costs it nothing, and people wait for it.
_LONGEST_BROKER_WAIT_SECONDS = 2.0
# Above this, nothing more is read beside the current batch.
_MAX_BYTES_IN_FLIGHT = 16 * 1024 * 1024
# The pause after a failure beside the current batch.
_PASS_AGAIN_SECONDS = 1.0
T = TypeVar("T")


@dataclass(slots=True)
class ConsumerState:
    """The state of a consumer; written by its thread, read by any.

    Args:
        lag: messages not yet handled, by partition of this consumer, at its last batch; `streaming.lag` asks the broker.
        last_error: why the last attempt failed, empty while all goes well.
        succeeded_at: when a batch was last handled, or nothing was found to handle; seconds since the epoch.
    """

    running: bool = False
    handled: int = 0
    dead_letters: int = 0
    chunks_embedded: int = 0
    chunks_reused: int = 0
    lag: dict[int, int] = field(default_factory=dict)
    last_error: str = ""
    succeeded_at: float | None = None

    def add(self, messages: int, handled: Handled) -> None:
        """Count a batch of so many messages."""
        self.handled += messages
        self.dead_letters += len(handled.dead_letters)
        self.chunks_embedded += handled.chunks_embedded
        self.chunks_reused += handled.chunks_reused


class Consumer:
    """Feeds one collection from the log, in the thread that calls `run()`."""

    def __init__(
        self,
        settings: Settings,
        release: Release,
        collection: Collection,
        limits: ConsumerLimits | None = None,
        metrics: StreamingMetrics | None = None,
        reuse: VectorSource | None = None,
        group: str = "",
    ) -> None:
        """Open nothing yet.

        Args:
            reuse: another collection, whose vectors of unchanged texts are taken instead of embedding them.
            group: another consumer group than the release's.

        Raises:
            MismatchError: encoder, contract and collection are not of one release.
        """
        self.group = group or release.group
        self.state = ConsumerState()
        self._settings = settings
        self._limits = limits or ConsumerLimits()
        self._metrics = metrics
        self._release = collection.info.release
        self._dead_letters = KafkaDeadLetters(settings)
        self._erasures = ErasureTopic(settings)
        known = KnownVectors.of(settings, release, self._limits.vector_cache_mib)
        # Two, since one handles small messages in the middle of the other one's batch.
        self._indexer, self._passing = (
            Indexer(collection, release, self._dead_letters, self._erasures, self._limits, metrics, reuse, known)
            for _ in range(2)
        )
        self._in_flight = InFlight(self._limits.small_message_bytes)
        self._committed: dict[int, int] = {}
        self._committed_at = 0.0
        self._assignment = -1
        self._pass_again_at = 0.0

    def run(
        self,
        stop: Event,
        start: Mapping[int, int] | None = None,
        until: Mapping[int, int] | None = None,
        progress: Callable[[int], object] = lambda handled: None,
    ) -> None:
        """Consume until `stop` is set; the batch in flight is then finished, where that takes little time, and committed.

        Args:
            start: offsets by partition to start from, in place of the group's commits. For a group with one consumer.
            until: return once every partition is handled and committed up to its offset here.
            progress: called after each batch, with its size.

        Raises:
            ContractError: no message is at fault, but a space, a setting or a collection; or another consumer took this place.
        """
        reader = self._ask_broker(stop, self._open_reader)
        if reader is None:
            return
        self.state.running = True
        try:
            while start is not None and not stop.is_set():
                if self._ask_broker(stop, lambda: reader.start_at(start)):
                    break
            while not stop.is_set():
                # 1. Poll. A rebalance happens in here: handled messages must be committed before.
                if reader.wants_rebalance():
                    self._commit(reader)
                batch = self._ask_broker(stop, lambda: self._read(reader))
                if batch is None:
                    break
                # 2. Handle: durable against the death of this process when it returns.
                before = self.state.handled
                if self._handle(reader, batch, stop):
                    self._note_success()
                    progress(self.state.handled - before)
                self._observe_lag(reader)
                # 3. Flush and commit, no more often than needed: queries wait while the embedded store flushes.
                if time.monotonic() - self._committed_at >= self._limits.commit_interval_seconds:
                    self._commit(reader)
                # Only an accepted commit counts: after a rebalance, the messages of a refused one are read again.
                if until is not None and self._has_handled(reader, until) and self._commit(reader):
                    break
            self._commit(reader)
        finally:
            self.state.running = False
            # No commit in here: uncommitted messages are not known to be durable.
            try:
                reader.close()
            finally:
                self._dead_letters.close()
                self._erasures.close()

    def _open_reader(self) -> LogReader:
        return LogReader(self._settings, self.group, self._limits.instance, self._limits.max_batch_seconds)

    def _read(self, reader: LogReader) -> Batch:
        # With messages in flight, a poll must not wait for more.
        read = reader.glance if self._in_flight else reader.poll
        return read(self._limits.max_messages)

    def _handle(self, reader: LogReader, batch: Batch, stop: Event) -> bool:
        """Handle a batch, in as many attempts as it takes; return False when it was left: its messages then come again."""
        self._take_in(batch)
        if not self._in_flight:
            return True
        heartbeat = Heartbeat(reader, batch.assignment, stop, self._limits)
        again = retrying(
            stop=stop_when_event_set(stop),
            sleep=heartbeat.hold,
            longest_wait_seconds=self._limits.longest_wait_seconds,
        )

        def look_up() -> None:
            heartbeat.check()
            if not stop.is_set():
                self._let_small_pass(reader, heartbeat)

        def work_off() -> bool:
            self._work_off(self._passing, self._in_flight.small(), heartbeat.check)
            # Large messages that arrive meanwhile are the next round's: commits must not wait for all of them.
            self._work_off(self._indexer, self._in_flight.large(), look_up)
            return True

        try:
            finished = self._attempt(again, work_off)
        finally:
            reader.go_on()
        if not finished:
            _log.info("batch_left", extra={"group": self.group, "messages": len(self._in_flight)})
            reader.give_back(self._in_flight.give_up(), self._assignment)
        return bool(finished)

    def _let_small_pass(self, reader: LogReader, heartbeat: Heartbeat) -> None:
        """Handle small messages that arrived while large ones are worked on; memory stays bounded.

        The current batch keeps running if a dependency fails here; restarting it could cost minutes. A fault of a small message,
        or of the broker, is never taken for one of the large messages.
        """
        if time.monotonic() < self._pass_again_at:
            return
        try:
            is_full = len(self._in_flight) >= 2 * self._limits.max_messages or self._in_flight.bytes >= _MAX_BYTES_IN_FLIGHT
            if not is_full and not reader.wants_rebalance() and self._take_in(reader.glance(self._limits.max_messages)):
                raise BatchLeftError("its partitions were assigned again")
            self._work_off(self._passing, self._in_flight.small(), heartbeat.check)
        except BatchLeftError:
            raise
        except TransientError as exc:
            self._failed(exc)
            self._pass_again_at = time.monotonic() + _PASS_AGAIN_SECONDS
        except Exception as exc:
            # The next batch meets this failure on its own, and raises it.
            raise BatchLeftError(f"not a fault of the current batch: {exc}") from exc

    def _take_in(self, batch: Batch) -> bool:
        """Add a poll to the messages in flight; return whether the assignment has changed, and the earlier ones are gone."""
        is_new = self._forget_what_was_revoked(batch.assignment)
        self._in_flight.begin(batch.began_at)
        self._in_flight.add(batch.messages, batch.next_offsets)
        return is_new

    def _work_off(self, indexer: Indexer, messages: Sequence[Message], between: Callable[[], object]) -> None:
        if not messages:
            return
        handled = indexer.handle(messages, between)
        self._in_flight.done(messages)
        self.state.add(len(messages), handled)

    def _commit(self, reader: LogReader) -> bool:
        """Flush and commit; return False when the group refused it, or the broker is away."""
        self._forget_what_was_revoked(reader.assignment_number)
        offsets = self._in_flight.to_commit()
        if offsets == self._committed:
            return True
        try:
            self._indexer.flush()
            accepted = reader.commit(offsets)
        except TransientError as exc:
            # The messages stay handled, and the next commit covers this one. Not at once: a full disk stays full for a while.
            self._failed(exc)
            self._committed_at = time.monotonic()
            return False
        self._committed_at = time.monotonic()
        if accepted:
            self._committed = offsets
        return accepted

    def _forget_what_was_revoked(self, assignment: int) -> bool:
        """Drop the messages of an ended assignment, whose next owner may be further; return whether it has ended."""
        if assignment == self._assignment:
            return False
        self._assignment, self._committed = assignment, {}
        self._in_flight.forget()
        return True

    def _ask_broker(self, stop: Event, call: Callable[[], T]) -> T | None:
        again = retrying(stop=stop_when_event_set(stop), sleep=stop.wait, longest_wait_seconds=_LONGEST_BROKER_WAIT_SECONDS)
        return self._attempt(again, call)

    def _attempt(self, again: Retrying, call: Callable[[], T]) -> T | None:
        """Return the answer of a call, in as many attempts as it takes; None after a stop, or when the batch was left."""

        def attempt() -> T:
            try:
                answer = call()
            except TransientError as exc:
                self._failed(exc)
                raise
            self.state.last_error = ""
            return answer

        try:
            return again(attempt)
        except (BatchLeftError, TransientError):
            # A TransientError ends the attempts only once the event is set.
            return None

    def _has_handled(self, reader: LogReader, until: Mapping[int, int]) -> bool:
        """Say whether every partition is handled up to an offset; messages beyond it may be in flight."""
        goes_on, in_flight = self._in_flight.next_offsets(), self._in_flight.counts()
        # With nothing in flight the reader's positions count: the log may end with marks of transactions, which are no messages.
        done = {**reader.positions, **{partition: goes_on[partition] for partition in in_flight}}
        return all(done.get(partition, -1) >= end for partition, end in until.items())

    def _observe_lag(self, reader: LogReader) -> None:
        in_flight = self._in_flight.counts()
        self.state.lag = {partition: unread + in_flight.get(partition, 0) for partition, unread in reader.lag().items()}

    def _note_success(self) -> None:
        self.state.succeeded_at = time.time()
        if self._metrics is not None:
            self._metrics.last_success.labels(self._release).set(self.state.succeeded_at)

    def _failed(self, exc: TransientError) -> None:
        self.state.last_error = str(exc)
        _log.warning("consumer_tries_again", extra={"group": self.group, "error": str(exc)})
        if self._metrics is not None:
            self._metrics.retries.labels(self._release).inc()
