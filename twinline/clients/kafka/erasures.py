"""The topic of erasures: every path that takes documents in follows it, and `twinline erase` writes it."""

import json
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from twinline.clients.erasure_list import SCHEMA, Erased, Erasures, read_list, read_secret, require_known_settings, save_list
from twinline.clients.kafka.connect import kafka_errors, make_consumer, make_producer
from twinline.clients.kafka.stretch import read_on, read_topic
from twinline.clients.settings import Settings
from twinline.contract.errors import ContractError

_CONFIRM_SECONDS: Final = 30.0


class ErasureTopic:
    """Follows the list of erased documents. One thread at a time.

    `current()` includes every record that the topic held at the call. It therefore judges every message polled before the call
    and appended after a document's erasure.
    """

    def __init__(self, settings: Settings) -> None:
        """Open nothing yet."""
        self._settings = settings
        self._consumer: KafkaConsumer | None = None
        self._place = TopicPartition(settings.erasure_topic, 0)
        self._list = Erasures()

    def current(self) -> Erasures:
        """Return the current list, and update its file where it has changed.

        Raises:
            MismatchError: it was made under a secret that this process does not have.
            TransientError: the broker is away, or falls silent.
        """
        try:
            self._follow()
        except BaseException:
            # The position has passed records that were not taken in: the next call reads all of them again.
            self.close()
            raise
        return self._list

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _follow(self) -> None:
        if self._consumer is None:
            # The file too: the loss of the topic must not restore a document.
            self._list = read_list(self._settings)
            self._consumer = make_consumer(self._settings)
            with kafka_errors(self._settings):
                self._consumer.assign([self._place])
                self._consumer.seek_to_beginning(self._place)
        records = self._new_records(self._consumer)
        if records:
            known = self._list.merged(Erasures({}, read_secret(self._settings)))
            for record in records:
                known = known.with_event(_event(record), record.timestamp)
            changed, self._list = known.entries != self._list.entries, known
            if changed:
                save_list(self._settings, known)

    def _new_records(self, consumer: KafkaConsumer) -> list[Any]:
        with kafka_errors(self._settings):
            end = consumer.end_offsets([self._place])[self._place]
        return list(read_on(self._settings, consumer, {self._place: end}))


def current_erasures(settings: Settings) -> Erasures:
    """Return the current list."""
    require_known_settings(settings)
    topic = ErasureTopic(settings)
    try:
        return topic.current()
    finally:
        topic.close()


def write_event(settings: Settings, erasures: Erasures, act: str, token: str, **fields: str | int) -> int:
    """Append one record; return the broker's time of it, in ms. Durable when it returns."""
    event = {"schema": SCHEMA, "act": act, "token": token, "check": erasures.check(), **fields}
    producer = make_producer(settings)
    try:
        with kafka_errors(settings):
            future = producer.send(settings.erasure_topic, key=token.encode(), value=json.dumps(event).encode())
            return int(future.get(timeout=_CONFIRM_SECONDS).timestamp)
    finally:
        producer.close(timeout=_CONFIRM_SECONDS)


def write_again(settings: Settings, erasures: Erasures) -> int:
    """Append the entries that the topic has lost; return the number of documents."""
    on_topic = _read_topic_alone(settings, erasures)
    lost = [entry for token, entry in sorted(erasures.entries.items()) if on_topic.entries.get(token) != entry]
    for entry in lost:
        _write_entry(settings, erasures, entry)
    return len(lost)


def _read_topic_alone(settings: Settings, erasures: Erasures) -> Erasures:
    found = Erasures({}, erasures.secret)
    for record in read_topic(settings, settings.erasure_topic):
        found = found.with_event(_event(record), record.timestamp)
    return found


def _write_entry(settings: Settings, erasures: Erasures, entry: Erased) -> None:
    said: dict[str, str | int] = {"time": entry.time, "by": entry.by, "reason": entry.reason, "at_ms": entry.at_ms}
    write_event(settings, erasures, "erase", entry.token, **said)
    if entry.lifted_ms is not None:
        lifted: dict[str, str | int] = {
            "time": entry.time,
            "by": entry.lifted_by,
            "reason": entry.lifted_reason,
            "at_ms": entry.lifted_ms,
        }
        write_event(settings, erasures, "lift", entry.token, **lifted)


def _event(record: Any) -> dict[str, Any]:
    try:
        event = json.loads(record.value)
    except (TypeError, ValueError) as exc:
        raise ContractError(
            f"{record.topic} offset {record.offset} is no record of an erasure ({exc}): only `twinline erase` writes there"
        ) from exc
    return dict(event) if isinstance(event, dict) else {}
