"""The identity of the log, and the one rule on it: a collection belongs to one log.

Versions are places in a log. In another log, or in a topic made again, the same places are other messages: an index that took
both would lose and keep documents by chance.
"""

import logging
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID, uuid4

from kafka.errors import UnknownTopicOrPartitionError, for_code

from twinline.clients.kafka.connect import beginning_offsets, end_offsets, kafka_errors, make_admin
from twinline.clients.kafka.stretch import read_topic
from twinline.clients.kafka.topic_order import losses, read_configs
from twinline.clients.log_record import LogRecord
from twinline.clients.settings import Settings
from twinline.contract.errors import MismatchError, SettingsError

if TYPE_CHECKING:
    # The offline line reads the identity of a log too, and needs no store.
    from twinline.clients.store.protocol import Store

_log = logging.getLogger(__name__)
# In the embedded broker's data folder, so that the two go together: its own cluster id is the same everywhere.
_ID_FILE: Final = "log-id"
_LOOPBACK: Final = ("127.0.0.1", "localhost")
# Of a topic from before its cluster gave ids.
_NO_ID: Final = str(UUID(int=0))


class HasLog(Protocol):
    """The part of a collection that says to which log it belongs."""

    @property
    def name(self) -> str:
        """Return the collection's name."""

    def read_log(self) -> LogRecord | None:
        """Return the record; None where there is none."""

    def put_log(self, log: LogRecord) -> None:
        """Write the record."""


def claim(settings: Settings, collection: HasLog) -> None:
    """Record that a collection belongs to this log, or refuse it: to be called before anything is written.

    A collection that an older release of Twinline made has no record. It is taken for this log's, once.

    Raises:
        MismatchError: it belongs to another log, or was built in another order; names both and the remedy.
        TransientError: the broker or the store is away.
    """
    now, before = read_identity(settings), collection.read_log()
    if before is not None:
        check_same(before, now, collection.name, _mark_in(settings, before))
    if before is None:
        _log.warning("collection_takes_log", extra={"collection": collection.name, "log": describe(now)})
    renewed = _renewed(settings, before, now)
    if renewed != before:
        collection.put_log(renewed)
        # Another installation may have written at the same moment: one of the two is refused.
        check_same(collection.read_log() or renewed, now, collection.name, None)


def check(settings: Settings, store: "Store", name: str) -> None:
    """Refuse a visible collection of another log, without opening it.

    Raises:
        MismatchError: see `claim`.
    """
    before = store.log(name)
    if before is not None:
        check_same(before, read_identity(settings), name, _mark_in(settings, before))


def check_same(before: LogRecord, now: LogRecord, name: str, mark: tuple[int, int, int] | None) -> None:
    """Compare a collection's log with the one that is read now.

    Args:
        mark: the message at the place of the record's mark, as it is now; None where that cannot be looked at.

    Raises:
        MismatchError: they differ.
    """
    elsewhere = (
        "name that log (KAFKA_BOOTSTRAP, TWINLINE_TOPIC), or keep this one's collections apart: another server, or another "
        "TWINLINE_QDRANT_PREFIX"
    )
    if (before.cluster, before.topic) != (now.cluster, now.topic):
        raise MismatchError(
            f"collection {name} belongs to {describe(before)}, this process reads {describe(now)}: their messages must not be "
            f"mixed: {elsewhere}; where this log took the place of that one, retire the release and build it again"
        )
    was_made_again = before.topic_id and now.topic_id and before.topic_id != now.topic_id
    if was_made_again or (mark is not None and mark != before.mark):
        raise MismatchError(
            f"collection {name} belongs to {describe(before)}, and topic {now.topic} was made again since ({describe(now)}): "
            "retire its release and build it from the new topic (twinline release retire, twinline release build), "
            f"or {elsewhere}"
        )
    if before.order != now.order:
        raise MismatchError(
            f"collection {name} was built in the order {before.order}, TWINLINE_TOPIC_ORDER is {now.order}: set it back, "
            "or retire its release and build it again (twinline release retire, twinline release build)"
        )


def describe(log: LogRecord) -> str:
    """Return a log in words."""
    made = f", id {log.topic_id}" if log.topic_id else ""
    return f"topic {log.topic}{made} of Kafka cluster {log.cluster}"


def read_identity(settings: Settings) -> LogRecord:
    """Return the identity of the log that the settings name, without a mark.

    Raises:
        SettingsError: there is no such topic.
        TransientError: no broker answers.
    """
    with closing(make_admin(settings)) as admin, kafka_errors(settings):
        # As `describe_topics()` asks, which gives no cluster back; `describe_cluster()` fails on the embedded broker.
        metadata: Mapping[str, Any] = admin._manager.run(admin._get_cluster_metadata, [settings.topic])
        topic = next(iter(metadata["topics"]), {"error_code": UnknownTopicOrPartitionError.errno})
        if topic["error_code"] == UnknownTopicOrPartitionError.errno:
            raise SettingsError(f"Kafka at {settings.kafka_address} has no topic {settings.topic}: publish documents first")
        if topic["error_code"]:
            raise for_code(topic["error_code"])(settings.topic)
    topic_id = str(topic["topic_id"] or "")
    return LogRecord(
        _embedded_id(settings) or str(metadata["cluster_id"] or ""),
        settings.topic,
        "" if topic_id == _NO_ID else topic_id,
        settings.topic_order,
        len(topic["partitions"]),
    )


def read_losses(settings: Settings) -> list[str]:
    """Return what the topic's configuration will lose, in words; nothing where there is no topic yet.

    Raises:
        TransientError: no broker answers.
    """
    with closing(make_admin(settings)) as admin, kafka_errors(settings):
        is_there = settings.topic in admin.list_topics()
        return losses(settings.topic, read_configs(admin, settings.topic)) if is_there else []


def read_alarms(settings: Settings, collection: HasLog) -> list[str]:
    """Return what a person should know of the log behind a collection: what its topic will lose, and a change of partitions."""
    found = read_losses(settings)
    now, before = read_identity(settings), collection.read_log()
    if before is not None and before.order == "offsets" and before.partitions != now.partitions:
        found.append(
            f"topic {settings.topic} had {before.partitions} partitions when collection {collection.name} was built, and has "
            f"{now.partitions}: keys may have moved, and offsets of two partitions say nothing about what is newer: publish with "
            "versions, or publish everything to a new topic"
        )
    return found


def _renewed(settings: Settings, before: LogRecord | None, now: LogRecord) -> LogRecord:
    """Return the record to keep: the first one, with what could not be known then."""
    kept = before or now
    if now.topic_id:
        return replace(kept, topic_id=now.topic_id, mark=None)
    begins = beginning_offsets(settings, settings.topic)
    is_kept = kept.mark is not None and begins.get(kept.mark[0], 0) <= kept.mark[1]
    return kept if is_kept else replace(kept, mark=_first_message(settings, begins) or kept.mark)


def _mark_in(settings: Settings, log: LogRecord) -> tuple[int, int, int] | None:
    """Return the message at a record's mark as it is now: offset -1 where the log ends before it; None where it has expired."""
    if log.mark is None or log.topic != settings.topic:
        return None
    partition, offset, _ = log.mark
    if end_offsets(settings, settings.topic).get(partition, 0) <= offset:
        return (partition, -1, 0)
    places = {partition: offset}, {partition: offset + 1}
    record = next(iter(read_topic(settings, settings.topic, *places)), None)
    return None if record is None else (partition, int(record.offset), int(record.timestamp))


def _first_message(settings: Settings, begins: Mapping[int, int]) -> tuple[int, int, int] | None:
    ends = end_offsets(settings, settings.topic)
    for partition, begin in sorted(begins.items()):
        # Not beyond a few: the first places may hold marks of transactions.
        until = {partition: min(begin + 10, ends.get(partition, 0))}
        record: Any = next(iter(read_topic(settings, settings.topic, {partition: begin}, until)), None)
        if record is not None:
            return partition, int(record.offset), int(record.timestamp)
    return None


def _embedded_id(settings: Settings) -> str:
    """Return the id of the embedded broker's data folder, made at its first need; empty for any other broker."""
    host, _, port = settings.kafka_address.rpartition(":")
    folder = settings.home / "kafka"
    if host not in (*_LOOPBACK, settings.host) or port != str(settings.kafka_port) or not folder.is_dir():
        return ""
    place = folder / _ID_FILE
    # Two processes may come at once: the first one's id stays.
    with suppress(FileExistsError), place.open("x") as file:
        file.write(f"embedded-{uuid4().hex[:16]}")
    return place.read_text().strip()
