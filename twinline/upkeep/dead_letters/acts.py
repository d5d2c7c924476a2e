"""What people did with dead letters: replayed or discarded. A topic of its own, so that every machine sees the same.

A message is known by its place in the log, `partition/offset`, whichever releases set it aside and however often. The last act
on a place counts. The dead letters themselves are never touched by an act.
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
        message: the place of the message in the log, by which dead letters are known.
        sent_to: where a replayed message went, `partition/offset`; empty for one that was discarded.
        why: what the person said.
    """

    message: str
    act: ActName
    time: str
    by: str
    sent_to: str = ""
    why: str = ""

    @classmethod
    def of(cls, message: str, act: ActName, sent_to: str = "", why: str = "") -> Self:
        """Return an act of just now, by whoever runs this process."""
        return cls(message, act, datetime.now(UTC).isoformat(timespec="milliseconds"), who(), sent_to, why)


def who() -> str:
    """Return the user and machine of this process, as records name them."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def read_acts(settings: Settings) -> dict[str, Act]:
    """Return the last act on every message that there is one of.

    Raises:
        ContractError: something else was written to the topic.
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
        """Let go of the connection."""
        self._producer.close(timeout=_CONFIRM_SECONDS)
