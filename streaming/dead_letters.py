"""Dead letters: a message that cannot be indexed goes whole to a topic of its own, with the reason and its place in the log.

Key, value and headers of the message are unchanged. Headers with the prefix `dead-letter-` are added, so that a replay is a copy
without them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, Self

from kafka import KafkaProducer
from kafka.serializer import Serializer

from streaming.decode import Message, Unreadable
from streaming.stack_digest import stack_digest
from twinline.clients.kafka.connect import MAX_DEAD_LETTER_BYTES, kafka_errors, make_producer
from twinline.clients.settings import Settings
from twinline.contract.errors import ContractError, DocumentError, TransientError

_PREFIX = "dead-letter-"
_FLUSH_SECONDS = 30.0
_CLOSE_SECONDS = 5.0
_MAX_ERROR_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was set aside.

    Args:
        reason: the error's slug, by which dead letters are counted.
        stage: the step of `handle()` that refused it: erasure, decode, version, chunk or index.
        error: the error's text.
        release: the release whose consumer set it aside.
        time: when, ISO 8601.
        error_type: the error's class.
        digest: of the stack; the same failure in the same code has the same digest.
        omitted: `value` when the topic could not take the value, which is still in the log at the message's place.
    """

    message: Message
    reason: str
    stage: str
    error: str
    release: str
    time: str
    error_type: str = ""
    digest: str = ""
    omitted: str = ""

    @classmethod
    def of(cls, message: Message, stage: str, error: Exception, release: str) -> Self:
        """Return the dead letter of a message that `error` was raised for, with the current time."""
        reason = "refused" if isinstance(error, ContractError) else "unexpected"
        if isinstance(error, DocumentError):
            reason = error.reason
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        text = str(error)[:_MAX_ERROR_CHARS].encode(errors="replace").decode()
        return cls(message, reason, stage, text, release, time, type(error).__name__, stack_digest(error))

    def without_value(self) -> Self:
        """Return the letter for a topic that cannot take the value."""
        return replace(self, message=replace(self.message, value=None), omitted="value")

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers of the dead letter: the message's own, and ours."""
        said = {
            "reason": self.reason,
            "stage": self.stage,
            "error": self.error,
            "error-type": self.error_type,
            "stack-digest": self.digest,
            "omitted": self.omitted,
            "release": self.release,
            "time": self.time,
            "partition": str(self.message.partition),
            "offset": str(self.message.offset),
            "timestamp-ms": str(self.message.timestamp_ms),
            **({"last-offset": str(self.message.unreadable.last)} if self.message.unreadable else {}),
        }
        return [*self.message.headers, *((_PREFIX + name, value.encode()) for name, value in said.items())]

    @classmethod
    def read(cls, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> Self:
        """Read a message of the topic of dead letters."""
        said = {name.removeprefix(_PREFIX): raw.decode(errors="replace") for name, raw in headers if name.startswith(_PREFIX)}
        own = [(name, raw) for name, raw in headers if not name.startswith(_PREFIX)]
        partition, offset, timestamp_ms = (_number(said.get(name, "")) for name in ("partition", "offset", "timestamp-ms"))
        # Bytes that could not be read have no payload, but a last offset.
        unreadable = Unreadable(_number(said["last-offset"]), said.get("error", "")) if "last-offset" in said else None
        message = Message(partition, offset, timestamp_ms, key, value, own, unreadable=unreadable)
        return cls(
            message,
            said.get("reason", "unknown"),
            said.get("stage", "unknown"),
            said.get("error", ""),
            said.get("release", ""),
            said.get("time", ""),
            said.get("error-type", ""),
            said.get("stack-digest", ""),
            said.get("omitted", ""),
        )


class DeadLetterSink(Protocol):
    """Takes dead letters."""

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Make letters durable; raise TransientError when that is not possible now."""


class KafkaDeadLetters:
    """Writes to the topic of dead letters."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: KafkaProducer | None = None

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Send letters and wait until the broker has them all."""
        if not letters:
            return
        try:
            # All are sent before the first is waited for.
            sent = [(letter, self._send(letter)) for letter in letters]
            for letter, future in sent:
                self._wait(letter, future)
        except TransientError:
            # A producer that lost its broker may have lost its sequence number too: the next attempt makes a new one.
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next letter opens a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=_CLOSE_SECONDS)

    def _send(self, letter: DeadLetter) -> Any:
        # Made for the first letter: most consumers never need a producer.
        if self._producer is None:
            self._producer = make_producer(self._settings, max_request_size=MAX_DEAD_LETTER_BYTES, key_serializer=_KeyOfMessage())
        try:
            with kafka_errors(self._settings):
                # kafka-python refuses a message whose key and value are both null, Kafka does not.
                return self._producer.send(
                    self._settings.dead_letter_topic, key=letter.message, value=letter.message.value, headers=letter.headers()
                )
        except DocumentError:
            if letter.omitted:
                raise
            return self._send(letter.without_value())

    def _wait(self, letter: DeadLetter, future: Any) -> None:
        # The topic may have a smaller limit than ours. The letter is then sent without its value, and keeps the message's place.
        # Before that it is sent whole and alone, since letters behind a refused one are refused with it. Each attempt needs a new
        # producer: the old one has given the refused letter a sequence number.
        for again in (None, letter, letter.without_value()):
            try:
                with kafka_errors(self._settings):
                    (self._send(again) if again else future).get(timeout=_FLUSH_SECONDS)
            except DocumentError as exc:
                refused = exc
                self.close()
            else:
                return
        raise refused


class _KeyOfMessage(Serializer):  # type: ignore[misc]
    """Serializes a message as its key, so that a message without key and value can be sent."""

    def serialize(self, topic: str, headers: Sequence[tuple[str, bytes]], data: Message) -> bytes | None:
        """Return the key."""
        return data.key


def _number(said: str) -> int:
    """Return a place's number; -1 where another producer wrote something else, so that one letter hides no other."""
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else -1
