"""Producers: plain Kafka clients that write without pause, and a durable ledger of the broker's acknowledgements."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from etl.sources.pydocs import PyDocs
from proofs.chaos.law import Name, Place
from proofs.chaos.messages import Outgoing, Writer
from twinline.contract.documents.records import Document

_PACKAGES = "asyncio,collections,concurrent,email,http,json,logging,pathlib,statistics,subprocess,unittest,urllib,zipfile"
_LONGEST_TEXT = 1_500
_CONFIRM_SECONDS = 180
# Several batches of the consumer, so that one is always in flight at a death.
_MOST_AHEAD = 200
# Kinds that do not change a document.
_WITHOUT_EFFECT = frozenset({"late_after_delete", "older_after_newer", "mixed_versions", "invisible"})


def real_texts() -> list[tuple[str, str]]:
    """Return (title, text) of the standard library's docstrings, cut so that two cores can embed them at this rate."""
    items = PyDocs("", _PACKAGES).items()
    return [(item.title, item.text[:_LONGEST_TEXT]) for item in items if isinstance(item, Document)]


class Ledger:
    """Sent and acknowledged messages; every acknowledgement is on disk before it counts.

    The searcher reads the gone documents from it: deleted, and without a later message.
    """

    def __init__(self, path: Path) -> None:
        self.acknowledged: list[Place] = []
        self.failed = 0
        self._lock = threading.Lock()
        self._file = path.open("a")
        self._turn: dict[Name, int] = {}
        self._gone: dict[Name, Place] = {}

    def sending(self, message: Outgoing) -> int:
        """Note that a message is being sent; return its turn among the messages about its document."""
        name = _name(message)
        with self._lock:
            turn = self._turn.get(name, 0)
            if message.kind not in _WITHOUT_EFFECT and not message.poison:
                turn = self._turn[name] = turn + 1
                self._gone.pop(name, None)
            return turn

    def confirm(self, message: Outgoing, turn: int, place: Place) -> None:
        """Note that the broker has a message."""
        with self._lock:
            self._file.write(json.dumps([*place, message.kind, *_name(message)]) + "\n")
            self._file.flush()
            self.acknowledged.append(place)
            if message.kind == "delete" and self._turn[_name(message)] == turn:
                self._gone[_name(message)] = place

    def gone(self, committed: dict[int, int]) -> set[Name]:
        """Return the documents with a deletion that the consumer has committed, and without a later message."""
        with self._lock:
            return {name for name, (partition, offset) in self._gone.items() if offset < committed.get(partition, 0)}

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Producer:
    """One thread that sends its writer's messages until it is stopped; then all of them are confirmed.

    It sends at a given rate, and only so far ahead of the consumer as the harness allows: a slow machine gets less load, not a
    backlog that outlasts the rest of the run.
    """

    def __init__(
        self, settings: Any, writer: Writer, ledger: Ledger, per_second: float, is_ahead: Callable[[], bool], idempotent: bool
    ) -> None:
        self.sent: dict[str, int] = {}
        self.fault: BaseException | None = None
        self._topic = settings.topic
        self._writer = writer
        self._ledger = ledger
        self._pause = 1 / per_second
        self._is_ahead = is_ahead
        self._in_flight: list[tuple[Outgoing, int, Any]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)
        self._client = KafkaProducer(
            bootstrap_servers=settings.kafka_address.split(","),
            acks="all",
            enable_idempotence=idempotent,
            # Without idempotence a second request in flight could overtake one that is sent again.
            max_in_flight_requests_per_connection=5 if idempotent else 1,
            linger_ms=5,
        )

    def write_first(self) -> None:
        """Send the first messages, and wait until they are confirmed."""
        for message in self._writer.first():
            self._send(message)
        self._confirm(everything=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sending; return once all messages are acknowledged. Raises the thread's unexpected error."""
        self._stop.set()
        self._thread.join(_CONFIRM_SECONDS * 2)
        self._client.close(timeout=10)
        if self.fault is not None:
            raise self.fault
        if self._thread.is_alive() or self._in_flight:
            raise RuntimeError(f"{len(self._in_flight)} messages are not acknowledged after the broker came back")

    def _run(self) -> None:
        try:
            due = time.monotonic()
            while not self._stop.is_set():
                if not self._is_ahead():
                    self._send(self._writer.next())
                self._confirm(everything=False)
                # Messages missed while the broker was away are not made up for: a burst would only be a backlog.
                due = max(due + self._pause, time.monotonic() - 1)
                self._stop.wait(max(0.0, due - time.monotonic()))
            self._confirm(everything=True)
        except Exception as exc:  # noqa: BLE001 (raised again where the thread is waited for)
            self.fault = exc

    def _send(self, message: Outgoing) -> None:
        turn = self._ledger.sending(message)
        headers = [*message.headers, message.label]
        while True:
            try:
                future = self._client.send(self._topic, key=message.key, value=message.value, headers=headers)
            except KafkaError:
                # No metadata while the broker is away.
                time.sleep(0.2)
                continue
            break
        self.sent[message.kind] = self.sent.get(message.kind, 0) + 1
        self._in_flight.append((message, turn, future))

    def _confirm(self, everything: bool) -> None:
        waiting, self._in_flight = self._in_flight, []
        for message, turn, future in waiting:
            if not everything and not future.is_done:
                self._in_flight.append((message, turn, future))
                continue
            try:
                stored = future.get(timeout=_CONFIRM_SECONDS)
            except KafkaError:
                # The message may still be in the log, and reading the log will show it. A later try is a new message.
                self._ledger.failed += 1
                continue
            self._ledger.confirm(message, turn, (stored.partition, stored.offset))


def _name(message: Outgoing) -> Name:
    try:
        source, key = json.loads(message.key or b"null")
    except (ValueError, TypeError):
        return ("", "")
    return (source, key)


def make_producers(
    settings: Any,
    seed: int,
    texts: Sequence[tuple[str, str]],
    ledger: Ledger,
    rate: float,
    committed: Callable[[], int],
) -> Iterator[Producer]:
    """Yield two producers over sources of their own: one idempotent, like the platform's, and one without idempotence."""

    def is_ahead() -> bool:
        return len(ledger.acknowledged) - committed() > _MOST_AHEAD

    shares = ((("log-a", "numbered-a"), True), (("log-b", "numbered-b"), False))
    for number, (sources, idempotent) in enumerate(shares):
        writer = Writer(seed * 2 + number, texts, sources, pins=idempotent)
        yield Producer(settings, writer, ledger, rate / len(shares), is_ahead, idempotent)
