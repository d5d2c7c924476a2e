"""The acts on dead letters: replayed or discarded. They are a topic of their own, so that every machine sees the same.

An act names a message by its place in the log, `partition/offset`, for all releases that set it aside. The last act on a place
counts. No act changes the dead letters themselves.
"""

import getpass
import json
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Self

from kafka import KafkaProducer

from twinline.clients.kafka.connect import kafka_errors, make_producer
from twinline.clients.kafka.stretch import read_topic
from twinline.clients.settings import Settings
from twinline.contract.errors import ContractError

ActName = Literal["replayed", "discarded"]
_CONFIRM_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Act:
    """One act on one message that was set aside.

    Args:
        message: the place of the message in the log, which identifies it.
        sent_to: the place of a replayed message, `partition/offset`; empty for a discarded one.
        why: the person's reason.
    """

    message: str
    act: ActName
    time: str
    by: str
    sent_to: str = ""
    why: str = ""

    @classmethod
    def of(cls, message: str, act: ActName, sent_to: str = "", why: str = "") -> Self:
        """Return an act with the current time and the user of this process."""
        return cls(message, act, datetime.now(UTC).isoformat(timespec="milliseconds"), who(), sent_to, why)


def who() -> str:
    """Return the user and machine of this process, for records."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def read_acts(settings: Settings) -> dict[str, Act]:
    """Return the last act on every message with an act.

    Raises:
        ContractError: the topic holds a foreign record.
    """
    acts: dict[str, Act] = {}
    for record in read_topic(settings, settings.dead_letter_acts_topic):
        try:
            act = Act(**json.loads(record.value))
        except (TypeError, ValueError) as exc:
            place = f"{settings.dead_letter_acts_topic} offset {record.offset}"
            raise ContractError(f"{place} is no act on a dead letter ({exc}): only `twinline dead-letters` writes there") from exc
        acts[act.message] = act
    return acts


class ActLog:
    """Writes acts; each is durable when `add` returns."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: KafkaProducer = make_producer(settings)

    def add(self, acts: Iterable[Act]) -> None:
        """Write acts and wait until the broker has them."""
        with kafka_errors(self._settings):
            sent = [
                self._producer.send(
                    self._settings.dead_letter_acts_topic, key=act.message.encode(), value=json.dumps(asdict(act)).encode()
                )
                for act in acts
            ]
            for future in sent:
                future.get(timeout=_CONFIRM_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        self._producer.close(timeout=_CONFIRM_SECONDS)
