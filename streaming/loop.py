"""The consumer's loop: 1. poll, 2. handle, 3. flush and commit. Nothing is committed before it is durable.

A batch that is cut short, by a crash or by a rebalance, is delivered again, and the law of `handle()` makes that harmless. When
the group wants to rebalance, what is handled is committed first, and a batch in hand is finished if that takes little time, else
left to whoever gets its partitions: it is finished or handed over, not both.

A large document may hold the encoder for seconds or minutes. Small messages do not wait for it: they are handled first, and those
that come meanwhile are handled between its pieces (`in_hand`).
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TypeVar

from tenacity import Retrying, stop_when_event_set

from streaming.building.vector_reuse import Donor
from streaming.dead_letters import KafkaDeadLetters
from streaming.decode import Message
from streaming.heartbeat import Attendance, BatchLeftError
from streaming.in_flight import InHand
from streaming.indexer import Indexer
from streaming.limits import ConsumerLimits
from streaming.log_reader import Batch, LogReader
from streaming.metrics import StreamingMetrics
from twinline.clients.kafka.erasures import ErasureTopic
from twinline.clients.retry import retrying
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Collection
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import TransientError

_log = logging.getLogger(__name__)
# The broker is asked more often than the limits say: what it has to say in reply costs it nothing, and people wait for it.
_LONGEST_BROKER_WAIT_SECONDS = 2.0
# Beyond so much nothing is read beside the work in hand.
_MOST_BYTES_IN_HAND = 16 * 1024 * 1024
# After a failure beside the work in hand.
_PASS_AGAIN_SECONDS = 1.0
T = TypeVar("T")


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
    chunks_embedded: int = 0
    chunks_reused: int = 0
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
        self._erasures = ErasureTopic(settings)
        # Two, since one works on small messages in the middle of what the other one does.
        self._indexer, self._passing = (
            Indexer(collection, embedder, preprocessor, self._dead_letters, self._limits, metrics) for _ in range(2)
        )
        for indexer in (self._indexer, self._passing):
            indexer.keep_out(self._erasures)
        self._in_hand = InHand(self._limits.small_message_bytes)
        self._committed: dict[int, int] = {}
        self._committed_at = 0.0
        self._assignment = -1
        self._pass_again_at = 0.0

    def take_vectors_from(self, donor: Donor) -> None:
        """Look for vectors of texts that did not change in another collection, too, before they are embedded."""
        for indexer in (self._indexer, self._passing):
            indexer.take_vectors_from(donor)

    def run(
        self,
        stop: Event,
        start: Mapping[int, int] | None = None,
        until: Mapping[int, int] | None = None,
        progress: Callable[[int], object] = lambda handled: None,
    ) -> None:
        """Consume until `stop` is set; what is worked on then is finished, where that takes little time, and committed.

        Args:
            start: offsets by partition to start from, whatever the group has committed. For a group with one consumer.
            until: return once every partition is handled and committed up to its offset here.
            progress: called after each batch, with its size.

        Raises:
            ContractError: not a message is wrong but what it all runs on, or another consumer took this one's place.
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
                # 1. Poll. A rebalance happens in here: what is handled must be committed before.
                if reader.wants_rebalance():
                    self._commit(reader)
                batch = self._ask_broker(stop, lambda: self._read(reader))
                if batch is None:
                    break
                # 2. Handle: durable against the death of this process when it returns.
                before = self.state.handled
                if self._handle(reader, batch, stop):
                    progress(self.state.handled - before)
                self._observe_lag(reader)
                # 3. Flush and commit, not more often than needed: queries wait while the embedded store flushes.
                if time.monotonic() - self._committed_at >= self._limits.commit_interval_seconds:
                    self._commit(reader)
                # Only a commit that the group took counts: after a rebalance, what it stood for is read again.
                if until is not None and self._has_handled(reader, until) and self._commit(reader):
                    break
            self._commit(reader)
        finally:
            self.state.running = False
            # No commit in here: what was not committed above is not known to be durable.
            try:
                reader.close()
            finally:
                self._dead_letters.close()
                self._erasures.close()

    def _open_reader(self) -> LogReader:
        return LogReader(self._settings, self.group, self._limits.instance, self._limits.max_batch_seconds)

    def _read(self, reader: LogReader) -> Batch:
        # With work in hand nobody waits for more.
        read = reader.glance if self._in_hand else reader.poll
        return read(self._limits.max_messages)

    def _handle(self, reader: LogReader, batch: Batch, stop: Event) -> bool:
        """Handle a batch, as often as it takes; return False when it was left: then its messages come again."""
        self._take_in(batch)
        if not self._in_hand:
            return True
        attendance = Attendance(reader, batch.assignment, stop, self._limits)
        again = retrying(
            # Only a failure of a dependency is tried again here; a batch that was left is the group's to give out.
            retry=lambda failure: not isinstance(failure, BatchLeftError),
            stop=stop_when_event_set(stop),
            sleep=attendance.hold,
            longest_wait_seconds=self._limits.longest_wait_seconds,
        )

        def look_up() -> None:
            attendance.check()
            if not stop.is_set():
                self._let_small_pass(reader)

        self._passing.between, self._indexer.between = attendance.check, look_up

        def work_off() -> bool:
            self._work_off(self._passing, self._in_hand.small())
            # Large ones that come while these are worked on are the next round's: commits must not wait for all of them.
            self._work_off(self._indexer, self._in_hand.large())
            return True

        try:
            finished = self._attempt(again, work_off)
        finally:
            reader.go_on()
        if not finished:
            _log.info("batch_left", extra={"group": self.group, "messages": len(self._in_hand)})
            reader.give_back(self._in_hand.give_up(), self._assignment)
        return bool(finished)

    def _let_small_pass(self, reader: LogReader) -> None:
        """Handle the small messages that have come while large ones are worked on; what is held stays bounded.

        What is worked on goes on whatever is away: it may have taken long, and would begin anew. And no fault of a small message,
        or of the broker, may be taken for one of the large ones.
        """
        if time.monotonic() < self._pass_again_at:
            return
        try:
            is_full = len(self._in_hand) >= 2 * self._limits.max_messages or self._in_hand.bytes >= _MOST_BYTES_IN_HAND
            if not is_full and not reader.wants_rebalance() and self._take_in(reader.glance(self._limits.max_messages)):
                raise BatchLeftError("its partitions were given out anew")
            self._work_off(self._passing, self._in_hand.small())
        except BatchLeftError:
            raise
        except TransientError as exc:
            self._failed(exc)
            self._pass_again_at = time.monotonic() + _PASS_AGAIN_SECONDS
        except Exception as exc:
            # Met again by itself, and raised, when the next batch begins.
            raise BatchLeftError(f"not for what is worked on: {exc}") from exc

    def _take_in(self, batch: Batch) -> bool:
        """Take what was polled in hand; return whether the assignment has changed, which leaves nothing else there."""
        is_new = self._forget_what_was_revoked(batch.assignment)
        self._in_hand.add(batch.messages, batch.next_offsets)
        return is_new

    def _work_off(self, indexer: Indexer, messages: Sequence[Message]) -> None:
        if not messages:
            return
        handled = indexer.handle(messages)
        self._in_hand.done(messages)
        self.state.handled += len(messages)
        self.state.dead_letters += len(handled.dead_letters)
        self.state.chunks_embedded += handled.chunks_embedded
        self.state.chunks_reused += handled.chunks_reused

    def _commit(self, reader: LogReader) -> bool:
        """Flush and commit; return False when the group, or a broker that is away, did not take it."""
        self._forget_what_was_revoked(reader.assignment_number)
        offsets = self._in_hand.to_commit()
        if offsets == self._committed:
            return True
        try:
            self._indexer.flush()
            accepted = reader.commit(offsets)
        except TransientError as exc:
            # The work is done and stays done, and the next commit covers this one. Not at once: a full disk is full for a while.
            self._failed(exc)
            self._committed_at = time.monotonic()
            return False
        self._committed_at = time.monotonic()
        if accepted:
            self._committed = offsets
        return accepted

    def _forget_what_was_revoked(self, assignment: int) -> bool:
        """Drop what was polled in an assignment that is over, its next owner may be further already; return whether it is."""
        if assignment == self._assignment:
            return False
        self._assignment, self._committed = assignment, {}
        self._in_hand.forget()
        return True

    def _ask_broker(self, stop: Event, call: Callable[[], T]) -> T | None:
        again = retrying(stop=stop_when_event_set(stop), sleep=stop.wait, longest_wait_seconds=_LONGEST_BROKER_WAIT_SECONDS)
        return self._attempt(again, call)

    def _attempt(self, again: Retrying, call: Callable[[], T]) -> T | None:
        """Return what a call returns, after as many attempts as it takes; None when told to stop before."""

        def attempt() -> T:
            try:
                answer = call()
            except BatchLeftError:
                raise
            except TransientError as exc:
                self._failed(exc)
                raise
            self.state.last_error = ""
            return answer

        try:
            return again(attempt)
        except TransientError:
            # Only the event ends the attempts, or a batch that was left.
            return None

    def _has_handled(self, reader: LogReader, until: Mapping[int, int]) -> bool:
        """Say whether every partition is handled up to an offset; messages beyond it may be in hand."""
        goes_on, in_hand = self._in_hand.next_offsets(), self._in_hand.counts()
        # Where nothing is in hand the reader's own positions: the log may end with marks of transactions, which are no messages.
        done = {**reader.positions, **{partition: goes_on[partition] for partition in in_hand}}
        return all(done.get(partition, -1) >= end for partition, end in until.items())

    def _observe_lag(self, reader: LogReader) -> None:
        in_hand = self._in_hand.counts()
        self.state.lag = {partition: unread + in_hand.get(partition, 0) for partition, unread in reader.lag().items()}
        if self._metrics is not None:
            self._metrics.show_lag(self._release, self.state.lag)

    def _failed(self, exc: TransientError) -> None:
        self.state.last_error = str(exc)
        _log.warning("consumer_tries_again", extra={"group": self.group, "error": str(exc)})
        if self._metrics is not None:
            self._metrics.retries.labels(self._release).inc()
