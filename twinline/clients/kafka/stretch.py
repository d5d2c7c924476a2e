"""The one reader of the log outside a consumer group: from offsets to offsets, or at single offsets, once.

Every caller has the same patience: a broker that gives nothing for `SILENCE_SECONDS` is a TransientError. A member of a group
reads by `streaming.log_reader`.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from twinline.clients.kafka.connect import beginning_offsets, end_offsets, kafka_errors, make_admin, make_consumer
from twinline.clients.settings import Settings
from twinline.contract.errors import TransientError

SILENCE_SECONDS: Final = 30.0
_POLL_MS: Final = 500
# Up to this distance the reader reads on to a wanted offset; beyond it, it seeks.
_NEAR: Final = 2_000


def read_topic(
    settings: Settings, topic: str, starts: Mapping[int, int] | None = None, ends: Mapping[int, int] | None = None
) -> Iterator[Any]:
    """Yield the records of a topic, each partition in its order, from `starts` up to `ends`.

    Args:
        starts: offsets by partition; the default is the first offset that is kept.
        ends: offsets by partition, exclusive; the default is the topic's end now.

    Raises:
        SettingsError: there is no such topic.
        TransientError: no broker answers, or it gives nothing for `SILENCE_SECONDS`.
    """
    begins = beginning_offsets(settings, topic)
    ends = end_offsets(settings, topic) if ends is None else ends
    first = {number: max(begin, (starts or {}).get(number, begin)) for number, begin in begins.items()}
    unread = {TopicPartition(topic, number): ends[number] for number in begins if first[number] < ends.get(number, 0)}
    if not unread:
        return
    consumer = make_consumer(settings)
    try:
        with kafka_errors(settings):
            consumer.assign(list(unread))
            for place in unread:
                consumer.seek(place, first[place.partition])
        for record in read_on(settings, consumer, unread):
            if record.offset < ends[record.partition]:
                yield record
    finally:
        consumer.close()


def read_places(settings: Settings, topic: str, places: Iterable[tuple[int, int]]) -> Iterator[Any]:
    """Yield the records at places `(partition, offset)`, sorted; expired places and marks of transactions have none.

    Raises:
        SettingsError: there is no such topic.
        TransientError: no broker answers, or it gives nothing for `SILENCE_SECONDS`.
    """
    first, end = beginning_offsets(settings, topic), end_offsets(settings, topic)
    kept = sorted(place for place in set(places) if first.get(place[0], 0) <= place[1] < end.get(place[0], 0))
    if not kept:
        return
    consumer = make_consumer(settings)
    try:
        for run in _runs(kept):
            (number, start), (_, last) = run[0], run[-1]
            place, wanted = TopicPartition(topic, number), set(run)
            with kafka_errors(settings):
                consumer.assign([place])
                consumer.seek(place, start)
            for record in read_on(settings, consumer, {place: last + 1}):
                if (record.partition, record.offset) in wanted:
                    yield record
    finally:
        consumer.close()


def read_on(settings: Settings, consumer: KafkaConsumer, ends: Mapping[TopicPartition, int]) -> Iterator[Any]:
    """Yield the records of assigned partitions, from the consumer's positions until each position is at its end.

    Records beyond an end are yielded too: the position has passed them, so a later call would not bring them.

    Raises:
        TransientError: no broker answers, or it gives nothing for `SILENCE_SECONDS`.
    """
    waiting = dict(ends)
    before: dict[TopicPartition, int | None] = {}
    moved_at = time.monotonic()
    while True:
        with kafka_errors(settings):
            # Bounded: finding a position may ask the broker.
            positions = {place: consumer.position(place, timeout_ms=_POLL_MS) for place in waiting}
            reached = [place for place, position in positions.items() if position is not None and position >= waiting[place]]
            for place in reached:
                del waiting[place]
            if not waiting:
                return
            if reached:
                # Later records of these partitions are not asked for.
                consumer.pause(*reached)
        # A position moves past marks of transactions too, which bring no record.
        if positions != before:
            moved_at = time.monotonic()
        elif time.monotonic() - moved_at > SILENCE_SECONDS:
            raise TransientError(_silence(settings, {place: positions[place] for place in waiting}))
        before = {place: positions[place] for place in waiting}
        with kafka_errors(settings):
            polled: Mapping[Any, list[Any]] = consumer.poll(timeout_ms=_POLL_MS)
        for records in polled.values():
            yield from records


def _runs(places: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield sorted places in runs of one partition without a wide gap."""
    run: list[tuple[int, int]] = []
    for place in places:
        if run and (place[0] != run[-1][0] or place[1] - run[-1][1] > _NEAR):
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def _silence(settings: Settings, positions: Mapping[TopicPartition, int | None]) -> str:
    topic = next(iter(positions)).topic
    places = ", ".join(f"{place.partition}/{'?' if offset is None else offset}" for place, offset in sorted(positions.items()))
    return (
        f"topic {topic} at {settings.kafka_address} gives nothing at {places} for {SILENCE_SECONDS:.0f} s, though it has more: "
        "see `twinline status`, then try again"
    )


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
    """Expire the messages of a topic below `offsets`, by partition, at once."""
    admin = make_admin(settings)
    try:
        with kafka_errors(settings):
            admin.delete_records({TopicPartition(topic, number): offset for number, offset in offsets.items()})
    finally:
        admin.close()
