"""A member of a consumer group reads the log. The peculiarities of kafka-python are handled in here.

Outside a group, `twinline.clients.kafka.stretch` reads the log.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from kafka import TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError
from kafka.structs import OffsetAndMetadata
from kafka.util import Timer

from streaming.decode import Message, Unreadable
from twinline.clients.kafka.connect import kafka_errors, make_consumer, unless_set
from twinline.clients.kafka.fetched import Unreadable as UnreadableRecord
from twinline.clients.kafka.stretch import headers_of
from twinline.clients.settings import Settings
from twinline.contract.errors import TransientError

_log = logging.getLogger(__name__)

_ROUND_MS = 3_000
# Enough to join a group whose other members first finish their batches: kafka-python loses track of a join that outlasts the
# round it began in.
_JOIN_MS = 6_000
# How soon a member notices that another one wants to join, which waits for so long.
_HEARTBEAT_MS = 1_000
# A sign of life is sent after this share of the time in which a member must poll.
_SIGN_OF_LIFE_SHARE = 3
_POSITION_MS = 200
# Enough for a broker on the same machine; a distant one answers in time for the next glance.
_GLANCE_MS = 5
_HOLD_MS = 200
# The pause after a round without messages: an embedded broker answers an empty fetch at once, and the reader would spin. It adds
# to the time until a document is found.
_IDLE_SECONDS = 0.025
# Connections come and go; a broker that is away for longer is reported.
_OFFLINE_LIMIT_SECONDS = 3.0
# Not with every poll: kafka-python computes all of its metrics for a check, which costs as much as the poll.
_CONNECTION_CHECK_SECONDS = 0.5
# After this long without partitions, the group has lost track of the member, which joins again.
_JOIN_LIMIT_SECONDS = 120.0
_COMMIT_TIMEOUT_MS = 10_000
_CLOSE_TIMEOUT_MS = 5_000
_LOST_PLACE = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
# In kafka-python's records: 0 where a producer's clock set the time, 1 where the log did.
_LOG_APPEND_TIME = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in the order of the log.

    Args:
        next_offsets: where each partition continues: beyond its last message where the log has markers of transactions or gaps.
        assignment: the assignment's number.
        began_at: where each partition stood before the poll.
    """

    messages: list[Message]
    next_offsets: Mapping[int, int]
    assignment: int
    began_at: Mapping[int, int] = field(default_factory=dict)


class LogReader:
    """Reads one topic as a member of a group; every method may raise TransientError while the broker is away.

    Raises:
        ContractError: another consumer took this one's place; its credentials are refused.
    """

    def __init__(self, settings: Settings, group: str, instance: int, max_batch_seconds: int) -> None:
        self._settings = settings
        self._group = group
        self._instance = instance
        self._max_batch_seconds = max_batch_seconds
        self._membership = _Membership(0)
        # The next offset of each of this member's partitions, at the last poll; unknown ones are left out.
        self.positions: dict[int, int] = {}
        # The assignment in which reading began at the group's committed offsets.
        self._placed_in = -1
        self._join()

    def poll(self, max_messages: int) -> Batch:
        """Return the messages that have arrived, or an empty batch after a short pause. Rebalances happen in here."""
        batch = self._read(_ROUND_MS, max_messages)
        if not batch.messages:
            self._check_connection()
            time.sleep(_IDLE_SECONDS)
        if self._membership.seconds_without_partitions() > _JOIN_LIMIT_SECONDS:
            _log.warning("joins_again", extra={"group": self._group, "seconds": _JOIN_LIMIT_SECONDS})
            self.close()
            self._join()
        return batch

    def glance(self, max_messages: int) -> Batch:
        """Return the messages that have arrived, at once, beside other work.

        Not to be called while the group waits for this member: joining takes long.
        """
        self.go_on()
        return self._read(_GLANCE_MS, max_messages)

    @property
    def assignment_number(self) -> int:
        """Return a number that changes whenever partitions are taken from this member, even for a moment."""
        return self._membership.revocations

    def wants_rebalance(self) -> bool:
        """Say whether the group waits for this member to join again, which the next `poll()` does. Sends no request."""
        return bool(self._consumer._coordinator.need_rejoin())

    def stay(self) -> None:
        """Show that this member is alive although it does not poll. To be called often: it acts only when it is due."""
        if time.monotonic() - self._polled_at > self._max_batch_seconds / _SIGN_OF_LIFE_SHARE:
            self._round_without_messages()

    def give_back(self, offsets: Mapping[int, int], assignment: int) -> None:
        """Read again from offsets by partition; another assignment begins at the committed offsets anyway."""
        if assignment != self.assignment_number:
            self.positions = {}
            return
        for number, offset in offsets.items():
            self._consumer.seek(self._partition(number), offset)
            self.positions[number] = offset

    def start_at(self, offsets: Mapping[int, int]) -> bool:
        """Try to move the group to offsets by partition; return False when the caller must try again.

        They are committed too: a rebalance would otherwise restore older commits of the group.
        """
        self.poll(max_messages=1)  # its messages come again after the seek
        mine = {partition.partition: offsets.get(partition.partition, 0) for partition in self._assignment()}
        for number, offset in mine.items():
            self._consumer.seek(self._partition(number), offset)
        return bool(mine) and self.commit(mine)

    def commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit offsets by partition; return False when this member lost its place, and the messages will come again."""
        # A partition of another consumer is that consumer's to commit.
        mine = {
            partition: OffsetAndMetadata(offsets[partition.partition], "", -1)
            for partition in self._assignment()
            if partition.partition in offsets
        }
        if not mine:
            return True
        with kafka_errors(self._settings):
            try:
                self._consumer.commit(mine, timeout_ms=_COMMIT_TIMEOUT_MS)
            except _LOST_PLACE as exc:
                _log.info("rebalanced_under_commit", extra={"group": self._group, "error": str(exc)})
                return False
        return True

    def lag(self) -> dict[int, int]:
        """Return how many messages of each of this member's partitions were not polled yet, by the last known ends."""
        owned = self.positions.keys() & {partition.partition for partition in self._assignment()}
        ends = {number: self._consumer.highwater(self._partition(number)) for number in owned}
        return {number: max(0, end - self.positions[number]) for number, end in ends.items() if end is not None}

    def hold(self, seconds: float, stop: Event) -> None:
        """Wait without reading, and stay a member of the group."""
        deadline = time.monotonic() + seconds
        while not stop.is_set() and time.monotonic() < deadline and not self.wants_rebalance():
            try:
                self._round_without_messages()
            except TransientError:
                # The broker is away too. The caller waits for another dependency; the next poll will report the broker.
                stop.wait(_HOLD_MS / 1000)

    def go_on(self) -> None:
        """Resume reading after `hold()`."""
        self._consumer.resume(*self._consumer.paused())

    def close(self) -> None:
        """Close the connection and keep the place in the group; commit nothing."""
        self._consumer.close(autocommit=False, timeout_ms=_CLOSE_TIMEOUT_MS)

    def _join(self) -> None:
        # The number continues: a batch from before this join is of another assignment.
        self._membership = _Membership(self._membership.revocations + 1)
        self._connected_at = self._polled_at = self._check_at = time.monotonic()
        self._consumer = make_consumer(
            self._settings,
            self._group,
            # Static membership: a restarted consumer takes its old place without a rebalance, even after kill -9.
            group_instance_id=f"{self._group}-{self._instance}",
            max_poll_interval_ms=self._max_batch_seconds * 1000,
            **unless_set(self._settings, heartbeat_interval_ms=_HEARTBEAT_MS),
        )
        try:
            with kafka_errors(self._settings):
                self._consumer.subscribe([self._settings.topic], listener=self._membership)
                # A member that joins before it knows the topic's partitions joins a second time right after.
                self._consumer.partitions_for_topic(self._settings.topic)
        except BaseException:
            self.close()
            raise

    def _read(self, limit_ms: int, max_messages: int) -> Batch:
        # Before the round: an error after it would lose the round's messages.
        positions = self._find_positions()
        polled = self._round(limit_ms, max_messages)
        number = self.assignment_number
        if number != self._placed_in and self._assignment():
            # The new owner of a partition reads its uncommitted messages again. Where that is this member, kafka-python would
            # continue at the old position.
            self.positions = {}
            self._go_to_committed()
            self._placed_in = number
            return Batch([], {}, number)
        self.positions = {**positions, **self._known_positions(positions)}
        messages = [message_of(record) for records in polled.values() for record in records]
        return Batch(messages, dict(self.positions), number, positions)

    def _go_to_committed(self) -> None:
        for partition in self._assignment():
            with kafka_errors(self._settings):
                offset = self._consumer.committed(partition, timeout_ms=_COMMIT_TIMEOUT_MS)
                if offset is None:
                    self._consumer.seek_to_beginning(partition)
                else:
                    self._consumer.seek(partition, offset)

    def _round(self, limit_ms: int, max_messages: int) -> Mapping[TopicPartition, list[Any]]:
        """Return the records of one fetch; it takes up to `limit_ms` where the group or the broker is slow."""
        # The public poll() repeats this round without a pause until its time is up; with little time, it interrupts joins.
        limit_ms = _JOIN_MS if self.wants_rebalance() else limit_ms
        with kafka_errors(self._settings):
            polled: Mapping[TopicPartition, list[Any]] = self._consumer._poll_once(Timer(limit_ms), max_messages)
        self._polled_at = time.monotonic()
        return polled

    def _round_without_messages(self) -> None:
        self._consumer.pause(*self._assignment())
        polled = self._round(_HOLD_MS, max_messages=1)
        # A partition assigned in this round was not paused: its records are to be read again.
        for partition, records in polled.items():
            self._consumer.seek(partition, records[0].offset)

    def _check_connection(self) -> None:
        """Raise when no broker was connected for a while: kafka-python returns no messages then, and no error."""
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + _CONNECTION_CHECK_SECONDS
        if self._consumer.metrics()["consumer-metrics"]["connection-count"]:
            self._connected_at = now
        elif now - self._connected_at > _OFFLINE_LIMIT_SECONDS:
            # A consumer that was let in once does not give up: credentials may be changed on both sides, one after the other.
            why = self._consumer._client.last_failure
            raise TransientError(
                f"no Kafka answers at {self._settings.kafka_address}: nothing is indexed until it does; start it (twinline up)"
                + (f"; the last attempt: {why}" if why else "")
            )

    def _find_positions(self) -> dict[int, int]:
        positions = {}
        for partition in self._assignment():
            with kafka_errors(self._settings):
                position = self._consumer.position(partition, timeout_ms=_POSITION_MS)
            if position is not None:
                positions[partition.partition] = int(position)
        return positions

    def _known_positions(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return the positions after a round, without asking the broker: an error now would lose the round's messages."""
        states = self._consumer._subscription.assignment
        known = {number: states[self._partition(number)].position for number in numbers if self._partition(number) in states}
        return {number: int(position.offset) for number, position in known.items() if position is not None}

    def _assignment(self) -> set[TopicPartition]:
        assigned: set[TopicPartition] = self._consumer.assignment()
        return assigned

    def _partition(self, number: int) -> TopicPartition:
        return TopicPartition(self._settings.topic, number)


class _Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """How long this member has been without partitions, and how often they were revoked."""

    def __init__(self, revocations: int) -> None:
        self.revocations = revocations
        self._without_since: float | None = time.monotonic()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Note that a rebalance has begun."""
        self.revocations += 1
        self._without_since = time.monotonic()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Note that it has ended; a member may be assigned none."""
        self._without_since = None

    def seconds_without_partitions(self) -> float:
        """Return how long a rebalance has been under way, 0 when none is."""
        return 0.0 if self._without_since is None else time.monotonic() - self._without_since


def message_of(record: Any) -> Message:
    """Return one of kafka-python's records as a message."""
    unreadable = Unreadable(record.last, record.error) if isinstance(record, UnreadableRecord) else None
    return Message(
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        headers_of(record),
        appended_by_log=record.timestamp_type == _LOG_APPEND_TIME,
        unreadable=unreadable,
    )
