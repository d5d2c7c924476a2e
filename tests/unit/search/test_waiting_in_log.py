"""What the log holds beyond an index: counted by offsets, and looked through where it is short."""

import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from twinline.clients.settings import Settings
from twinline.online import waiting
from twinline.search.explanation import Waiting


@pytest.mark.parametrize(
    ("message_key", "source", "key", "named"),
    [
        (b'["s","k"]', "s", "k", True),
        (b'["s","k"]', None, "k", True),
        (b'[ "s", "k" ]', "s", "k", True),  # other producers write spaces
        (b'["s","\\u00e9"]', "s", "é", True),
        (b'["t","k"]', "s", "k", False),
        (b'["s","l"]', "s", "k", False),
        (b'["s","k","more"]', "s", "k", False),
        (b'["s"]', "s", "k", False),
        (b'{"s":"k"}', "s", "k", False),
        (b'"k"', None, "k", False),
        (b"k", None, "k", False),
        (b"\xff\xfe", None, "k", False),
        (b"[" * 100_000, None, "k", False),
        (b"", None, "k", False),
        (None, None, "k", False),
    ],
)
def test_a_message_is_of_a_document_by_its_key_alone(
    message_key: bytes | None, source: str | None, key: str, named: bool
) -> None:
    assert waiting.is_key_of(message_key, source, key) is named


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Mapping[int, int], Mapping[int, int]]]:
    """Return the stretches that were read of a log of two partitions: ten messages, of which five are committed."""
    read: list[tuple[Mapping[int, int], Mapping[int, int]]] = []

    def read_topic(_: Settings, __: str, starts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[Any]:
        read.append((starts, ends))
        for number, end in ends.items():
            for offset in range(starts[number], end):
                key = json.dumps(["s", f"k{offset}"]).encode()
                yield SimpleNamespace(key=key, partition=number, offset=offset, timestamp=1_000 * number + offset)

    monkeypatch.setattr(waiting, "end_offsets", lambda *_: {0: 6, 1: 4})
    monkeypatch.setattr(waiting, "beginning_offsets", lambda *_: {0: 0, 1: 2})
    monkeypatch.setattr(waiting, "committed_offsets", lambda *_: {0: 3})
    monkeypatch.setattr(waiting, "read_topic", read_topic)
    return read


def test_only_what_is_not_committed_is_read_and_the_newest_is_named(log: list[Any]) -> None:
    settings = Settings()
    assert waiting.waiting_in_log(settings, "r1", "s", "k5") == Waiting(5, (0, 5))
    assert waiting.waiting_in_log(settings, "r1", "s", "k3") == Waiting(5, (1, 3))  # in both partitions, the later one
    assert waiting.waiting_in_log(settings, "r1", None, "k4") == Waiting(5, (0, 4))
    assert waiting.waiting_in_log(settings, "r1", "s", "k1") == Waiting(5)  # committed
    assert waiting.waiting_in_log(settings, "r1", "t", "k5") == Waiting(5)
    assert set(map(str, log)) == {str(({0: 3, 1: 2}, {0: 6, 1: 4}))}


def test_a_long_backlog_is_counted_and_not_read(log: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_READ", 4)
    assert waiting.waiting_in_log(Settings(), "r1", "s", "k5") == Waiting(5, None, complete=False)
    assert log == []
