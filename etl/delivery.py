"""Delivery: items onto the topic, a bounded number of bytes in flight, every future checked in order."""

from collections import deque
from typing import Any

from etl.lineage import Lineage
from etl.published import History, State
from etl.rejects import RejectsFile, Where
from etl.sources.items import Reject
from twinline.clients.kafka.connect import kafka_errors
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Deletion, Document, encode_key, encode_value, version_header
from twinline.contract.errors import DocumentError

MAX_BYTES_IN_FLIGHT = 16 * 1024 * 1024
CONFIRM_TIMEOUT_SECONDS = 150  # the producer itself gives a message up after 120


class Sender:
    """Sends with a bounded number of bytes in flight, checks every future, and sets aside items that Kafka refuses for good."""

    def __init__(self, producer: Any, settings: Settings, history: History, rejects: RejectsFile) -> None:
        self.sent = 0
        self.deleted = 0
        self._producer = producer
        self._settings = settings
        self._history = history
        self._rejects = rejects
        self._in_flight: deque[tuple[Document | Deletion, State | None, int, Any]] = deque()
        self._bytes = 0

    def send(self, item: Document | Deletion, state: State | None, lineage: Lineage) -> None:
        """Hand an item to the producer; wait for older items when too many bytes are in flight."""
        key = encode_key(item.source, item.key)
        value = encode_value(item) if isinstance(item, Document) else None
        headers = lineage.headers(state.content_hash if state else None, item.origin if isinstance(item, Document) else None)
        if isinstance(item, Deletion):
            headers += version_header(item)
        try:
            with kafka_errors(self._settings):
                future = self._producer.send(self._settings.topic, key=key, value=value, headers=headers)
        except DocumentError as exc:
            self._set_aside(item, exc)
            return
        size = len(key) + len(value or b"")
        self._in_flight.append((item, state, size, future))
        self._bytes += size
        while self._bytes > MAX_BYTES_IN_FLIGHT or (self._in_flight and self._in_flight[0][3].is_done):
            self._confirm_one()

    def confirm_all(self) -> None:
        """Wait for all items in flight."""
        while self._in_flight:
            self._confirm_one()

    def _confirm_one(self) -> None:
        item, state, size, future = self._in_flight.popleft()
        self._bytes -= size
        try:
            with kafka_errors(self._settings):
                stored = future.get(timeout=CONFIRM_TIMEOUT_SECONDS)
        except DocumentError as exc:
            self._set_aside(item, exc)
            return
        self._history.confirm(item, state, stored.partition, stored.offset)
        if isinstance(item, Document):
            self.sent += 1
        else:
            self.deleted += 1

    def _set_aside(self, item: Document | Deletion, error: DocumentError) -> None:
        where = Where.of(item.origin if isinstance(item, Document) else None, item.source)
        self._rejects.add(Reject(where.place, error.reason, str(error), where.line, item.key))
