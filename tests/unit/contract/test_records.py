import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import (
    MAX_TEXT_BYTES,
    Deletion,
    Document,
    Version,
    content_hash,
    decode_message,
    encode_key,
    encode_value,
    version_header,
    version_of,
)
from twinline.contract.errors import DocumentError

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
NAMES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)


@given(
    NAMES,
    NAMES,
    TEXTS.filter(str.strip),
    TEXTS,
    st.none() | st.integers(0, 2**53 - 1),
    st.dictionaries(TEXTS, TEXTS),
    st.none() | NAMES,
)
def test_a_document_survives_the_topic(
    source: str, key: str, text: str, title: str, version: int | None, metadata: dict[str, str], tenant: str | None
) -> None:
    document = Document(source, key, text, title, version, metadata, tenant)
    assert decode_message(encode_key(source, key), encode_value(document)) == document


def test_a_null_value_is_a_deletion_and_takes_its_version_from_the_header() -> None:
    deletion = Deletion("s", "k", 7)
    assert decode_message(encode_key("s", "k"), None, version_header(deletion)) == deletion
    assert decode_message(encode_key("s", "k"), None) == Deletion("s", "k")


def envelope(**changes: Any) -> bytes:
    return json.dumps({"schema": 1, "text": "words", **changes}).encode()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, envelope(), "no_key"),
        (b"plain", envelope(), "invalid_json"),
        (b'["one"]', envelope(), "bad_key"),
        (b'["a", 2]', envelope(), "bad_key"),
        (b'["", "k"]', envelope(), "wrong_type"),
        (b'["s", "%s"]' % (b"k" * 2000), envelope(), "name_too_long"),
        (b'["s","k"]', b"\xff\xfe", "invalid_utf8"),
        (b'["s","k"]', b"{", "invalid_json"),
        (b'["s","k"]', b"[" * 200_000, "invalid_json"),
        (b'["s","k"]', b"[]", "not_an_object"),
        (b'["s","k"]', envelope(schema=2), "unknown_schema"),
        (b'["s","k"]', envelope(schema=True), "unknown_schema"),
        (b'["s","k"]', b'{"schema": 1}', "missing_field"),
        (b'["s","k"]', envelope(text=3), "wrong_type"),
        (b'["s","k"]', envelope(text=None), "wrong_type"),
        (b'["s","k"]', envelope(text=" "), "no_text"),
        (b'["s","k"]', envelope(text="\ud800"), "lone_surrogate"),
        (b'["s","k"]', envelope(text="a" * (MAX_TEXT_BYTES + 1)), "too_large"),
        (b'["s","k"]', envelope(title="t" * 10_001), "title_too_long"),
        (b'["s","k"]', envelope(version="7"), "bad_version"),
        (b'["s","k"]', envelope(version=-1), "bad_version"),
        (b'["s","k"]', envelope(version=True), "bad_version"),
        (b'["s","k"]', envelope(metadata=[1]), "wrong_type"),
        (b'["s","k"]', envelope(metadata={"a": "x" * 70_000}), "too_large"),
        (b'["s","k"]', envelope(tenant=5), "wrong_type"),
    ],
)
def test_a_bad_message_is_refused_with_its_reason(key: bytes | None, value: bytes, reason: str) -> None:
    with pytest.raises(DocumentError) as caught:
        decode_message(key, value)
    assert caught.value.reason == reason


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_and_nothing_else_happens(value: bytes) -> None:
    with pytest.raises(DocumentError):
        decode_message(b'["s","k"]', value)


def test_deep_metadata_is_refused_without_recursion() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": deep}
    with pytest.raises(DocumentError) as caught:
        Document("s", "k", "text", metadata=deep).validate()
    assert caught.value.reason == "too_deep"


def test_log_versions_order_by_time_then_offset() -> None:
    document = Document("s", "k", "text")
    assert version_of(document, 5, 100) < version_of(document, 6, 1)
    assert version_of(document, 5, 1) < version_of(document, 5, 2)


def test_the_two_kinds_of_version_do_not_compare() -> None:
    with pytest.raises(DocumentError, match="explicit"):
        _ = Version("explicit", 1) < Version("log", 1, 1)


def test_the_content_hash_leaves_out_the_version_and_nothing_else() -> None:
    base = Document("s", "k", "text", "title", 1, {"a": 1}, "t")
    assert content_hash(base) == content_hash(Document("s", "k", "text", "title", 2, {"a": 1}, "t"))
    for other in (
        Document("x", "k", "text", "title", 1, {"a": 1}, "t"),
        Document("s", "x", "text", "title", 1, {"a": 1}, "t"),
        Document("s", "k", "x", "title", 1, {"a": 1}, "t"),
        Document("s", "k", "text", "x", 1, {"a": 1}, "t"),
        Document("s", "k", "text", "title", 1, {"a": 2}, "t"),
        Document("s", "k", "text", "title", 1, {"a": 1}, None),
    ):
        assert content_hash(base) != content_hash(other)


def test_ids_keep_names_apart_that_a_join_would_mix() -> None:
    assert point_id("a_b", "c", 0) != point_id("a", "b_c", 0)
    assert len({point_id("s", "k", 0), point_id("s", "k", 1), head_id("s", "k"), head_id("s", "k,0")}) == 4


def test_a_place_of_the_log_orders_by_offset_within_a_partition_and_by_time_between_two() -> None:
    document = Document("s", "k", "text")
    assert version_of(document, 5, 1, partition=0) < version_of(document, 4, 2, partition=0)
    assert version_of(document, 5, 1, partition=0) < version_of(document, 6, 0, partition=1)
    assert version_of(document, 5, 9, partition=0) < version_of(document, 5, 0, partition=1)
    # Unknown to one of them: by time, then by offset.
    assert version_of(document, 4, 2, partition=0) < version_of(document, 5, 1)
    assert version_of(document, 5, 1) < version_of(document, 5, 2, partition=0)
    assert version_of(document, 5, 1).is_same_state(version_of(document, 5, 1, partition=7))
    assert not Version("explicit", 5).is_same_state(Version("log", 5))


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (b"900/3/1", Version("log", 900, 3, 1)),
        (b"9999/3/1", Version("log", 9999, 3, 1)),  # the clock stepped back since: its offset is older
        (b"900/3", Version("log", 900, 3)),  # as an older release of Twinline wrote it
        (b"900/99/0", Version("log", 900, 99, 0)),  # of another partition: its time is older
        (b"1000/8/1", None),
        (b"900/8/1", None),
        (b"1001/3/0", None),
        (b"1000/3/2", None),
        (b"1001/3", None),
        (b"900/3/x", None),
        (b"900/3/1/1", None),
    ],
)
def test_a_message_that_is_sent_again_keeps_its_first_place(claim: bytes, expected: Version | None) -> None:
    headers = [("replay-version", claim)]
    if expected is not None:
        assert version_of(Document("s", "k", "text"), 1000, 7, headers, 1) == expected
        return
    with pytest.raises(DocumentError, match="replay-version"):
        version_of(Document("s", "k", "text"), 1000, 7, headers, 1)


def test_where_the_log_keeps_no_time_a_claim_has_none_either() -> None:
    assert version_of(Document("s", "k", "text"), 0, 7, [("replay-version", b"900/3/1")], 1) == Version("log", 0, 3, 1)
