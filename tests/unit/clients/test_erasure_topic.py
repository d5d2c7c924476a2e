"""The topic of erased documents, followed through failures: no record is passed over."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import NodeNotReadyError
from pydantic import SecretStr

from twinline.clients.erasure_list import Erasures
from twinline.clients.kafka import erasures as erasure_topic
from twinline.clients.kafka.erasures import ErasureTopic
from twinline.clients.settings import Settings
from twinline.contract.errors import TransientError

SECRET = b"s" * 32


@dataclass
class Topic:
    """Gives out one record a poll; `fails_at` is a poll, of all, at which no broker answers."""

    records: list[Any]
    fails_at: int = 0
    polls: int = 0
    opened: list["FakeConsumer"] = field(default_factory=list)

    def open(self, _: Settings) -> "FakeConsumer":
        self.opened.append(FakeConsumer(self))
        return self.opened[-1]


@dataclass
class FakeConsumer:
    topic: Topic
    at: int = 0

    def assign(self, places: list[TopicPartition]) -> None: ...

    def seek_to_beginning(self, place: TopicPartition) -> None:
        self.at = 0

    def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, len(self.topic.records))

    def position(self, place: TopicPartition, timeout_ms: int) -> int:
        return self.at

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self.topic.polls += 1
        if self.topic.polls == self.topic.fails_at:
            raise NodeNotReadyError("away")
        self.at += 1
        return {TopicPartition("documents.erasures", 0): [self.topic.records[self.at - 1]]}

    def close(self) -> None: ...


def test_what_was_read_before_a_failure_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Erasures({}, SECRET)
    keys = ["ann", "bob", "cleo"]
    records = [
        SimpleNamespace(
            topic="documents.erasures",
            offset=number,
            timestamp=100 + number,
            value=json.dumps(
                {
                    "schema": 1,
                    "act": "erase",
                    "token": known.token("s", key),
                    "check": known.check(),
                    "time": "2026-01-31T08:00:00+00:00",
                    "by": "me",
                    "reason": "asked to",
                }
            ).encode(),
        )
        for number, key in enumerate(keys)
    ]
    topic = Topic(records, fails_at=3)
    monkeypatch.setattr(erasure_topic, "make_consumer", topic.open)
    followed = ErasureTopic(Settings(home=tmp_path, topic="documents", erasure_secret=SecretStr(SECRET.decode())))
    with pytest.raises(TransientError):
        followed.current()
    assert set(followed.current().entries) == {known.token("s", key) for key in keys}
    assert len(topic.opened) == 2
    # And once more, with nothing new, by the same connection.
    assert len(followed.current().entries) == 3
    assert len(topic.opened) == 2
