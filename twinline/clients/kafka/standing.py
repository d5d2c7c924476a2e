"""Where a consumer group stands in a topic, as the broker says now.

An offset is not a message: markers of transactions, aborted records and what compaction removed have offsets too. `behind` counts
offsets up to the last stable one, behind which nobody reads; it is 0 when a group has read all that can be read.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, UnknownTopicOrPartitionError
from kafka.protocol.consumer import IsolationLevel

from twinline.clients.kafka.connect import kafka_errors, make_admin
from twinline.clients.settings import Settings
from twinline.contract.errors import SettingsError

# A transaction that is open for less is nothing to speak of.
_LONG_OPEN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """A group's place in a topic.

    Args:
        passed: the offset up to which it has passed, by partition: its commit, or the log's beginning where it has none.
        behind: offsets between there and the last stable one, by partition.
        held_up: open transactions that hold the last stable offset up, in words.
        made_again: partitions whose log ends below the group's commit: their commits are of another log, and do not count.
    """

    passed: Mapping[int, int]
    behind: Mapping[int, int]
    held_up: tuple[str, ...] = ()
    made_again: tuple[int, ...] = ()


def passed_offset(committed: int | None, begin: int, end: int) -> int:
    """Return the offset up to which a group has passed.

    Below the beginning everything has expired. A commit beyond the end is of a topic that was there before this one, or of a log
    that has lost its end: the group reads again from the beginning.
    """
    return begin if committed is None or committed > end else max(begin, committed)


def passed_offsets(settings: Settings, group: str, topic: str) -> dict[int, int]:
    """Return the offset up to which a group has passed, for each partition of a topic.

    Raises:
        SettingsError: there is no such topic.
        TransientError: no broker answers.
    """
    reader = StandingReader(settings, group, topic)
    try:
        return dict(reader.read().passed)
    finally:
        reader.close()


def group_lag(settings: Settings, group: str, topic: str) -> dict[int, int]:
    """Return how many offsets of each partition a group has not passed, up to the last stable one; raises as `passed_offsets`."""
    reader = StandingReader(settings, group, topic)
    try:
        return dict(reader.read().behind)
    finally:
        reader.close()


class StandingReader:
    """Asks the broker over one connection, which it keeps. One thread at a time."""

    def __init__(self, settings: Settings, group: str, topic: str) -> None:
        """Open nothing yet."""
        self._settings, self._group, self._topic = settings, group, topic
        self._admin: KafkaAdminClient | None = None

    def read(self) -> Standing:
        """Return the place now.

        Raises:
            SettingsError: there is no such topic; or the credentials are refused.
            TransientError: no broker answers.
        """
        if self._admin is None:
            self._admin = make_admin(self._settings)
        try:
            with kafka_errors(self._settings):
                return self._read(self._admin)
        except BaseException:
            # The next call begins with a new connection.
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def _read(self, admin: KafkaAdminClient) -> Standing:
        try:
            numbers = [
                entry["partition_index"] for topic in admin.describe_topics([self._topic]) for entry in topic["partitions"]
            ]
        except UnknownTopicOrPartitionError:
            numbers = []
        if not numbers:
            raise SettingsError(f"Kafka at {self._settings.kafka_address} has no topic {self._topic}: publish documents first")
        places = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        # The commits first: what is read later is further, so nobody seems to be where he is not yet.
        commits = admin.list_group_offsets({self._group: None}).get(self._group, {})
        begins = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
        stable = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST), IsolationLevel.READ_COMMITTED)
        ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST), IsolationLevel.READ_UNCOMMITTED)
        passed, made_again = {}, []
        for place in places:
            commit = commits[place].offset if place in commits and commits[place].offset >= 0 else None
            passed[place.partition] = passed_offset(commit, begins[place].offset, ends[place].offset)
            if commit is not None and commit > ends[place].offset:
                made_again.append(place.partition)
        behind = {place.partition: max(0, stable[place].offset - passed[place.partition]) for place in places}
        open_at = {place: stable[place].offset for place in places if stable[place].offset < ends[place].offset}
        return Standing(passed, behind, _held_up(admin, open_at, ends), tuple(made_again))


def _held_up(
    admin: KafkaAdminClient, open_at: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, Any]
) -> tuple[str, ...]:
    """Name the transactions that are open at the last stable offsets."""
    said = []
    for place, offset in open_at.items():
        producers = []
        # Not every broker knows these requests, and not every user may make them: then the offset alone is named.
        with suppress(KafkaError):
            producers = admin.describe_producers([place])[place].active_producers
        holder = next((each for each in producers if each.current_transaction_start_offset == offset), None)
        if holder is not None and time.time() - holder.last_timestamp / 1000 < _LONG_OPEN_SECONDS:
            continue
        name = f"an open transaction{f' of {_name(admin, holder.producer_id)}' if holder else ''}"
        waiting = ends[place].offset - offset
        said.append(
            f"{name} holds partition {place.partition} up at offset {offset}: {waiting} later offsets cannot be read until it is "
            "committed or aborted"
        )
    return tuple(said)


def _name(admin: KafkaAdminClient, producer_id: int) -> str:
    with suppress(KafkaError):
        for listed in admin.list_transactions(producer_id_filters=[producer_id]).values():
            for transaction in listed:
                return f"{transaction.transactional_id!r} (producer {producer_id})"
    return f"producer {producer_id}"
