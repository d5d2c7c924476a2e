"""A topic of documents, from its beginning to the end offsets taken at the start; the offsets are the snapshot's provenance.

Every message is yielded with its position. The ingest sees all messages of a key together and chooses the newest.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from etl.sources.items import Item, Logged, Reject, excerpt
from twinline.clients.kafka.connect import beginning_offsets, end_offsets, kafka_errors, make_consumer
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import decode_message, version_of
from twinline.contract.errors import DocumentError, TransientError

POLL_MS = 1_000
# A broker may answer and send nothing: retention can remove offsets during the read.
SILENCE_SECONDS = 60


class KafkaTopic:
    """The source `kafka:` or `kafka:TOPIC`."""

    def __init__(self, name: str, topic: str, settings: Settings) -> None:
        self.name = name or topic
        self.uri = f"kafka:{topic}"
        self._topic = topic
        self._settings = settings
        self._begins: dict[int, int] = {}
        self._ends: dict[int, int] = {}

    def items(self) -> Iterator[Item]:
        """Yield every message by partition and offset; an unreadable message is a reject with its place."""
        self._begins = beginning_offsets(self._settings, self._topic)
        self._ends = end_offsets(self._settings, self._topic)
        for partition in sorted(self._ends):
            yield from self._partition(partition)

    def provenance(self) -> Mapping[str, JSON]:
        """Return topic and offsets: the snapshot holds the log up to `ends`."""
        begins: dict[str, JSON] = {str(partition): offset for partition, offset in sorted(self._begins.items())}
        ends: dict[str, JSON] = {str(partition): offset for partition, offset in sorted(self._ends.items())}
        return {"topic": self._topic, "begins": begins, "ends": ends}

    def _partition(self, number: int) -> Iterator[Item]:
        from kafka import TopicPartition

        partition, end = TopicPartition(self._topic, number), self._ends[number]
        consumer = make_consumer(self._settings)
        try:
            with kafka_errors(self._settings):
                consumer.assign([partition])
                consumer.seek(partition, self._begins[number])
            last_record_at = time.monotonic()
            while self._position(consumer, partition) < end:
                with kafka_errors(self._settings):
                    records = consumer.poll(timeout_ms=POLL_MS).get(partition, [])
                if records:
                    last_record_at = time.monotonic()
                elif time.monotonic() - last_record_at > SILENCE_SECONDS:
                    raise TransientError(
                        f"topic {self._topic}[{number}] sent nothing for {SILENCE_SECONDS} s before offset {end}: try again"
                    )
                yield from (self._item(record) for record in records if record.offset < end)
        finally:
            consumer.close()

    def _position(self, consumer: Any, partition: Any) -> int:
        with kafka_errors(self._settings):
            return int(consumer.position(partition))

    def _item(self, record: Any) -> Item:
        try:
            item = decode_message(record.key, record.value, record.headers)
            # A message that was sent again keeps its first version.
            version = version_of(item, record.timestamp, record.offset, record.headers)
        except DocumentError as exc:
            place = f"{self._topic}[{record.partition}]"
            return Reject(place, exc.reason, str(exc), record.offset, excerpt(record.key or b""), excerpt(record.value or b""))
        time, offset = version.rank if version.kind == "log" else (record.timestamp, record.offset)
        return Logged(item, record.topic, record.partition, offset, time)
