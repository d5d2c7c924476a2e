"""A topic in memory, for tests of what is published."""

import json
from dataclasses import dataclass

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from etl import publish
from twinline.clients.erasure_list import Erasures
from twinline.contract.documents.records import Deletion, Document, decode_message


class Log:
    """A topic in memory. A key in `refused` is too large for it; after `dies_after` messages nobody answers."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes | None, dict[str, bytes]]] = []
        self.refused: set[str] = set()
        self.dies_after: int | None = None

    def send(self, topic: str, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]) -> "Delivery":
        if json.loads(key)[1] in self.refused:
            return Delivery(error=MessageSizeTooLargeError())
        if self.dies_after is not None and len(self.messages) >= self.dies_after:
            return Delivery(error=KafkaTimeoutError())
        self.messages.append((key, value, dict(headers)))
        return Delivery(offset=len(self.messages) - 1)

    def close(self, timeout: float) -> None:
        pass

    def items(self) -> list[Document | Deletion]:
        return [decode_message(key, value, list(headers.items())) for key, value, headers in self.messages]


@dataclass
class Delivery:
    offset: int = 0
    error: Exception | None = None
    partition: int = 0
    is_done: bool = False

    def get(self, timeout: float) -> "Delivery":
        if self.error is not None:
            raise self.error
        return self


def published_in_memory(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Let everything that is published go to a log in memory, and return it."""
    made = Log()
    monkeypatch.setattr(publish, "ensure_topics", lambda settings: None)
    monkeypatch.setattr(publish, "end_offsets", lambda settings, topic: {0: len(made.messages)})
    monkeypatch.setattr(publish, "current_erasures", lambda settings: Erasures())
    monkeypatch.setattr(publish, "make_producer", lambda settings: made)
    return made
