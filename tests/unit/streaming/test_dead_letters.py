from dataclasses import replace
from typing import Any, ClassVar

import pytest
from kafka.errors import MessageSizeTooLargeError, OutOfOrderSequenceNumberError

from streaming import dead_letters
from streaming.dead_letters import DeadLetter, KafkaDeadLetters
from streaming.decode import Message
from twinline.clients.settings import Settings
from twinline.contract.errors import ContractError, DocumentError, TransientError

MESSAGE = Message(1, 42, 1_763_800_000_000, b"\x00key", b"\xff\xfevalue", [("run_id", b"run-7")])


def test_a_dead_letter_survives_its_topic_whole() -> None:
    letter = DeadLetter.of(MESSAGE, "decode", DocumentError("invalid_json", "not JSON: ü"), "r1")
    assert DeadLetter.read(MESSAGE.key, MESSAGE.value, letter.headers()) == letter
    assert letter.reason == "invalid_json"


def test_a_dead_letter_without_its_headers_is_the_message_itself() -> None:
    letter = DeadLetter.of(MESSAGE, "index", ContractError("refused"), "r1")
    assert [header for header in letter.headers() if not header[0].startswith("dead-letter-")] == MESSAGE.headers


def test_a_very_long_error_is_cut() -> None:
    letter = DeadLetter.of(MESSAGE, "index", ContractError("x" * 100_000), "r1")
    assert len(letter.error) == 2_000
    assert letter.reason == "refused"


def test_a_foreign_message_on_the_topic_is_shown_as_unknown() -> None:
    letter = DeadLetter.read(b"k", None, [])
    assert (letter.reason, letter.stage, letter.message.offset) == ("unknown", "unknown", -1)


@pytest.mark.parametrize("offset", [b"", b"ten", b"-3", b"1.5", "\u0663".encode(), b"9" * 5_000, b"\xff"])
def test_a_foreign_place_is_no_place_and_hides_no_letter(offset: bytes) -> None:
    letter = DeadLetter.read(b"k", b"v", [("dead-letter-offset", offset), ("dead-letter-partition", b"2")])
    assert (letter.message.partition, letter.message.offset) == (2, -1)


class FakeFuture:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def get(self, timeout: float) -> None:
        if self.error:
            raise self.error


class FakeProducer:
    """Takes values up to a size; `refuse` is raised first."""

    made: ClassVar[list["FakeProducer"]] = []

    def __init__(self, limit: int = 10**9, refuse: Exception | None = None, at_once: bool = True) -> None:
        self.sent: list[dict[str, Any]] = []
        self.limit, self.refuse, self.at_once, self.closed = limit, refuse, at_once, False
        FakeProducer.made.append(self)

    def send(self, topic: str, **message: Any) -> FakeFuture:
        if self.refuse:
            return FakeFuture(self.refuse)
        if message["value"] is not None and len(message["value"]) > self.limit:
            error = MessageSizeTooLargeError()
            if self.at_once:
                raise error
            return FakeFuture(error)
        self.sent.append(message)
        return FakeFuture()

    def close(self, timeout: float) -> None:
        self.closed = True


@pytest.mark.parametrize("at_once", [True, False], ids=["by the client", "by the broker"])
def test_a_value_that_the_topic_refuses_is_left_out_and_said_to_be(at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    producer = FakeProducer(limit=100, at_once=at_once)
    monkeypatch.setattr(dead_letters, "make_producer", lambda settings, **options: producer)
    large = replace(MESSAGE, value=b"x" * 1_000)
    letters = [DeadLetter.of(each, "decode", DocumentError("invalid_json", "no"), "r1") for each in (large, MESSAGE)]
    KafkaDeadLetters(Settings()).put(letters)
    assert sorted((sent["value"] or b"", dict(sent["headers"])["dead-letter-omitted"]) for sent in producer.sent) == [
        (b"", b"value"),
        (b"\xff\xfevalue", b""),
    ]
    assert {sent["key"].key for sent in producer.sent} == {MESSAGE.key}


def test_a_producer_that_lost_its_broker_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeProducer.made.clear()
    errors = [OutOfOrderSequenceNumberError(), None]
    monkeypatch.setattr(dead_letters, "make_producer", lambda settings, **options: FakeProducer(refuse=errors.pop(0)))
    sink, letter = KafkaDeadLetters(Settings()), DeadLetter.of(MESSAGE, "index", ContractError("refused"), "r1")
    with pytest.raises(TransientError):
        sink.put([letter])
    sink.put([letter])
    assert [(producer.closed, len(producer.sent)) for producer in FakeProducer.made] == [(True, 0), (False, 1)]
    sink.close()
    assert FakeProducer.made[1].closed


def test_an_error_of_no_kind_that_we_know_is_named_with_its_type() -> None:
    letter = DeadLetter.of(MESSAGE, "index", OverflowError("half \ud800"), "r1")
    assert (letter.reason, letter.error_type, letter.error) == ("unexpected", "OverflowError", "half ?")
    assert DeadLetter.read(MESSAGE.key, MESSAGE.value, letter.headers()) == letter
