import pytest

from streaming.decode import Message, decode
from streaming.limits import ConsumerLimits, load_limits
from twinline.contract.documents.records import Deletion, Document, Version, encode_key, encode_value, version_header
from twinline.contract.errors import DocumentError, SettingsError


def test_a_message_without_a_version_gets_the_logs() -> None:
    document = Document("s", "k", "text")
    event = decode(Message(3, 17, 1_763_800_000_000, encode_key("s", "k"), encode_value(document), [("git_revision", b"abc")]))
    assert event.item == document
    assert event.version == Version("log", 1_763_800_000_000, 17, 3)
    assert event.lineage == {
        "partition": 3,
        "offset": 17,
        "timestamp_ms": 1_763_800_000_000,
        "headers": {"git_revision": "abc"},
    }


def test_a_deletion_takes_its_version_from_a_header() -> None:
    deletion = Deletion("s", "k", version=5)
    event = decode(Message(0, 1, 2, encode_key("s", "k"), None, version_header(deletion)))
    assert (event.item, event.version) == (deletion, Version("explicit", 5))


@pytest.mark.parametrize(("key", "value"), [(None, b"{}"), (b"k", b"{}"), (encode_key("s", "k"), b"\xff")])
def test_what_breaks_the_envelope_is_the_messages_own_fault(key: bytes | None, value: bytes) -> None:
    with pytest.raises(DocumentError):
        decode(Message(0, 1, 2, key, value))


def test_a_limit_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_limits() == ConsumerLimits()
    monkeypatch.setenv("TWINLINE_CONSUMER_MAX_MESSAGES", "none")
    with pytest.raises(SettingsError, match="TWINLINE_CONSUMER_MAX_MESSAGES is 'none'"):
        load_limits()
