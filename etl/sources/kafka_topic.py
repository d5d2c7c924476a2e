"""A topic of documents, from its beginning to the end offsets taken at the start; the offsets are the snapshot's provenance.

Every message is yielded with its position. The ingest sees all messages of a key together and chooses the newest.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from etl.sources.items import Item, Logged, Reject, excerpt
from twinline.clients.kafka.connect import beginning_offsets, end_offsets
from twinline.clients.kafka.fetched import Unreadable
from twinline.clients.kafka.stretch import read_topic
from twinline.clients.kafka.topic_order import append_ms
from twinline.clients.log_identity import read_identity
from twinline.clients.log_record import LogRecord
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import decode_message, version_of
from twinline.contract.errors import DocumentError


class KafkaTopic:
    """The source `kafka:` or `kafka:TOPIC`."""

    def __init__(self, name: str, topic: str, settings: Settings) -> None:
        self.name = name or topic
        self.uri = f"kafka:{topic}"
        self._topic = topic
        self._settings = settings
        self._begins: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._log: LogRecord | None = None

    def items(self) -> Iterator[Item]:
        """Yield every message by partition and offset; an unreadable message is a reject with its place."""
        self._log = read_identity(self._settings.model_copy(update={"topic": self._topic}))
        self._begins = beginning_offsets(self._settings, self._topic)
        self._ends = end_offsets(self._settings, self._topic)
        for number in sorted(self._ends):
            stretch = {number: self._begins[number]}, {number: self._ends[number]}
            yield from map(self._item, read_topic(self._settings, self._topic, *stretch))

    def provenance(self) -> Mapping[str, JSON]:
        """Return the log's identity and offsets: the snapshot holds the log up to `ends`."""
        begins: dict[str, JSON] = {str(partition): offset for partition, offset in sorted(self._begins.items())}
        ends: dict[str, JSON] = {str(partition): offset for partition, offset in sorted(self._ends.items())}
        # Of which log, too: in a topic that was made again, the same offsets are other messages.
        identity: dict[str, JSON] = {"cluster": self._log.cluster, "topic_id": self._log.topic_id} if self._log else {}
        return {"topic": self._topic, **identity, "begins": begins, "ends": ends}

    def _item(self, record: Any) -> Item:
        if isinstance(record, Unreadable):
            return Reject(f"{self._topic}[{record.partition}]", "unreadable", record.error, record.offset, "", "")
        try:
            item = decode_message(record.key, record.value, record.headers)
            # A message that was sent again keeps its first version.
            version = version_of(item, append_ms(self._settings, record), record.offset, record.headers, record.partition)
        except DocumentError as exc:
            place = f"{self._topic}[{record.partition}]"
            return Reject(place, exc.reason, str(exc), record.offset, excerpt(record.key or b""), excerpt(record.value or b""))
        if version.kind == "explicit":
            return Logged(item, record.topic, record.partition, record.offset, record.timestamp)
        partition = record.partition if version.partition is None else version.partition
        return Logged(item, record.topic, partition, version.offset, version.number)
