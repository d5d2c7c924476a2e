"""Documents written to the log at a steady rate during another measurement, and the highest rate of indexing."""

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final, Self

from bench.stream import publish_all
from bench.system import Served
from twinline.clients.kafka.connect import kafka_errors, make_producer
from twinline.clients.online import CollectionStatus
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Document, encode_key, encode_value
from twinline.contract.errors import TransientError

_PATIENCE_SECONDS: Final = 600.0
# Counting the indexed documents blocks the store, and takes longer the more there are.
_POLL_SECONDS: Final = 0.5


def sustained_rate(system: Served, documents: Sequence[Document], name: str) -> float:
    """Return the documents a second that the running consumer indexes under a constant backlog."""
    # Under new keys and with new texts: a known text would keep its vector.
    fresh = [_variant(document, name, number) for number, document in enumerate(documents)]
    with closing(system.admin) as admin:
        before = _documents(system, admin.status().collection(system.collection))
        started = time.perf_counter()
        publish_all(system.settings, fresh)
        while _documents(system, admin.status().collection(system.collection)) - before < len(fresh):
            if time.perf_counter() - started > _PATIENCE_SECONDS:
                raise TransientError(
                    f"{len(fresh)} documents were not indexed within {_PATIENCE_SECONDS} s: see the stack's logs"
                )
            time.sleep(_POLL_SECONDS)
    return len(fresh) / (time.perf_counter() - started)


class Feed:
    """Writes documents at a rate, in a loop, from its own thread, while a `with` block runs."""

    def __init__(self, system: Served, documents: Sequence[Document], per_second: float) -> None:
        """Write nothing yet."""
        self._system = system
        self._documents = documents
        self._per_second = per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed")
        self._failed: Exception | None = None
        self.sent = 0
        self.seconds = 0.0

    @property
    def sent_per_second(self) -> float:
        """Return the achieved rate."""
        return self.sent / self.seconds if self.seconds else 0.0

    def report(self) -> dict[str, JSON]:
        """Return the counts of written documents."""
        return {
            "wanted_per_second": round(self._per_second, 2),
            "sent_per_second": round(self.sent_per_second, 2),
            "sent": self.sent,
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        settings, started = self._system.settings, time.perf_counter()
        try:
            with kafka_errors(settings), closing(make_producer(settings)) as producer:
                while not self._stop.wait(max(0.0, started + self.sent / self._per_second - time.perf_counter())):
                    document = _variant(self._documents[self.sent % len(self._documents)], "feed", self.sent)
                    producer.send(settings.topic, key=encode_key(document.source, document.key), value=encode_value(document))
                    self.sent += 1
                producer.flush()
        except Exception as exc:  # noqa: BLE001  (raised again in the thread that waits)
            self._failed = exc
        self.seconds = time.perf_counter() - started


def _variant(document: Document, name: str, number: int) -> Document:
    """Return a document under another key with new chunks only: its title is part of each."""
    return replace(document, source=name, key=f"{number}", title=f"{document.title} {name} {number}", version=None)


def _documents(system: Served, status: CollectionStatus | None) -> int:
    count = None if status is None else status.documents
    if count is None:
        raise TransientError(f"the online process does not report how many documents {system.collection} has: see its log")
    return count
