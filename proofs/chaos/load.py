"""Producers: plain Kafka clients that write without pause, and a durable ledger of what the broker acknowledged."""

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
# Several batches of the consumer, so that there is always one in flight when something dies.
_MOST_AHEAD = 200
# Kinds that leave a document as it was.
_WITHOUT_EFFECT = frozenset({"late_after_delete", "older_after_newer", "mixed_versions", "invisible"})


def real_texts() -> list[tuple[str, str]]:
    """Return (title, text) of the standard library's docstrings, cut so that two cores can embed them as fast as they come."""
    items = PyDocs("", _PACKAGES).items()
    return [(item.title, item.text[:_LONGEST_TEXT]) for item in items if isinstance(item, Document)]


class Ledger:
    """What was sent and what was acknowledged; every acknowledgement is on disk before it counts.

    It also knows which documents are gone, for whoever searches meanwhile: deleted, and not written about since.
    """

    def __init__(self, path: Path) -> None:
        self.acknowledged: list[Place] = []
        self.failed = 0
        self._lock = threading.Lock()
        self._file = path.open("a")
        self._turn: dict[Name, int] = {}
        self._gone: dict[Name, Place] = {}

    def sending(self, message: Outgoing) -> int:
        """Note that a message is on its way; return its turn among those about its document."""
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
        """Return the documents whose deletion the consumer has committed, and which nobody wrote about since."""
        with self._lock:
            return {name for name, (partition, offset) in self._gone.items() if offset < committed.get(partition, 0)}

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Producer:
    """One thread that sends what its writer says, until told to stop; then everything is confirmed.

    At a given rate, and no further ahead of the consumer than the harness allows: a slow machine gets less load, not a backlog
    that takes longer to work off than everything else took.
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
        self._under_way: list[tuple[Outgoing, int, Any]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)
        self._client = KafkaProducer(
            bootstrap_servers=settings.kafka_address.split(","),
            acks="all",
            enable_idempotence=idempotent,
            # Without idempotence a second request under way could overtake one that is sent again.
            max_in_flight_requests_per_connection=5 if idempotent else 1,
            linger_ms=5,
        )

    def write_first(self) -> None:
        """Send what is there before anything else happens, and wait for it."""
        for message in self._writer.first():
            self._send(message)
        self._confirm(everything=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sending; return when everything is acknowledged. Raises what the thread did not expect."""
        self._stop.set()
        self._thread.join(_CONFIRM_SECONDS * 2)
        self._client.close(timeout=10)
        if self.fault is not None:
            raise self.fault
        if self._thread.is_alive() or self._under_way:
            raise RuntimeError(f"{len(self._under_way)} messages are not acknowledged after the broker came back")

    def _run(self) -> None:
        try:
            due = time.monotonic()
            while not self._stop.is_set():
                if not self._is_ahead():
                    self._send(self._writer.next())
                self._confirm(everything=False)
                # What a broker that was away kept us from sending is not made up for: a burst would only be a backlog.
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
        self._under_way.append((message, turn, future))

    def _confirm(self, everything: bool) -> None:
        waiting, self._under_way = self._under_way, []
        for message, turn, future in waiting:
            if not everything and not future.is_done:
                self._under_way.append((message, turn, future))
                continue
            try:
                stored = future.get(timeout=_CONFIRM_SECONDS)
            except KafkaError:
                # It may be in the log all the same; the log says so when it is read. Again at another time: a new message.
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
    """Yield two producers over sources of their own: one idempotent, as the platform's is, and one that is not."""

    def is_ahead() -> bool:
        return len(ledger.acknowledged) - committed() > _MOST_AHEAD

    shares = ((("log-a", "numbered-a"), True), (("log-b", "numbered-b"), False))
    for number, (sources, idempotent) in enumerate(shares):
        writer = Writer(seed * 2 + number, texts, sources, pins=idempotent)
        yield Producer(settings, writer, ledger, rate / len(shares), is_ahead, idempotent)
