"""A stretch of a topic, read once from end to end, outside any consumer group."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from kafka import TopicPartition

from twinline.clients.kafka.connect import beginning_offsets, end_offsets, kafka_errors, make_admin, make_consumer
from twinline.clients.settings import Settings
from twinline.contract.errors import TransientError

_POLL_MS: Final = 500
# A broker that is there but sends nothing.
_SILENCE_SECONDS: Final = 30.0
# In kafka-python's records: 1 where the log set the time.
LOG_APPEND_TIME: Final = 1


def read_topic(
    settings: Settings, topic: str, starts: Mapping[int, int] | None = None, ends: Mapping[int, int] | None = None
) -> Iterator[Any]:
    """Yield the records of a topic, each partition in its order, from `starts` up to `ends`.

    Args:
        starts: offsets by partition; where none is named, the first that is kept.
        ends: offsets by partition, not read themselves; by default where the topic ends now.

    Raises:
        SettingsError: there is no such topic.
        TransientError: no broker answers, or it stopped half-way.
    """
    begins = beginning_offsets(settings, topic)
    ends = end_offsets(settings, topic) if ends is None else ends
    first = {number: max(begin, (starts or {}).get(number, begin)) for number, begin in begins.items()}
    waiting = {TopicPartition(topic, number): ends[number] for number in begins if first[number] < ends.get(number, 0)}
    if not waiting:
        return
    consumer = make_consumer(settings)
    try:
        with kafka_errors(settings):
            consumer.assign(list(waiting))
            for place in waiting:
                consumer.seek(place, first[place.partition])
        heard = time.monotonic()
        while waiting:
            with kafka_errors(settings):
                polled: Mapping[Any, list[Any]] = consumer.poll(timeout_ms=_POLL_MS)
                reached = [place for place, end in waiting.items() if consumer.position(place) >= end]
            for place, records in polled.items():
                yield from (record for record in records if record.offset < ends[place.partition])
            for place in reached:
                del waiting[place]
                consumer.pause(place)
            if polled:
                heard = time.monotonic()
            elif waiting and time.monotonic() - heard > _SILENCE_SECONDS:
                raise TransientError(
                    f"topic {topic} at {settings.kafka_address} sent nothing for {_SILENCE_SECONDS:.0f} s: try again"
                )
    finally:
        consumer.close()


def headers_of(record: Any) -> list[tuple[str, bytes]]:
    """Return a record's headers; one without a value gets an empty one."""
    return [(name, value or b"") for name, value in record.headers]


def offsets_at(settings: Settings, topic: str, moment: datetime) -> dict[int, int]:
    """Return, for each partition, the offset of the first message that the log appended at `moment` or later."""
    ends = end_offsets(settings, topic)
    wanted = {TopicPartition(topic, number): int(moment.timestamp() * 1000) for number in ends}
    consumer = make_consumer(settings)
    try:
        with kafka_errors(settings):
            found: Mapping[Any, Any] = consumer.offsets_for_times(wanted)
    finally:
        consumer.close()
    offsets = {place.partition: entry.offset for place, entry in found.items() if entry is not None}
    return {number: int(offsets.get(number, end)) for number, end in ends.items()}


def delete_before(settings: Settings, topic: str, offsets: Mapping[int, int]) -> None:
    """Expire the messages of a topic below `offsets`, by partition, now."""
    admin = make_admin(settings)
    try:
        with kafka_errors(settings):
            admin.delete_records({TopicPartition(topic, number): offset for number, offset in offsets.items()})
    finally:
        admin.close()
