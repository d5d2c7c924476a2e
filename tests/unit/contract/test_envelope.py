"""The published schema and the reader agree: what one takes the other takes, and no more."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.checkout import CHECKOUT
from twinline.contract.documents.records import (
    FIELDS,
    MAX_JSON_DEPTH,
    MAX_METADATA_BYTES,
    MAX_NAME_CHARS,
    MAX_TEXT_BYTES,
    MAX_TITLE_CHARS,
    MAX_VERSION,
    UNKNOWN,
    Deletion,
    Document,
    decode_message,
    encode_key,
    encode_value,
)
from twinline.contract.errors import DocumentError

SCHEMA = json.loads((CHECKOUT / "twinline" / "contract" / "documents" / "schemas" / "document-v1.schema.json").read_text())
PAGE = (CHECKOUT / "docs" / "envelope.md").read_text()
KEY = b'["s","k"]'

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_SCALAR = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT
_VALUE = st.recursive(
    _SCALAR, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2), max_leaves=4
)
_RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "schema": st.just(1),
    "text": _TEXT,
    "title": st.none() | _TEXT,
    "version": st.none() | st.integers(0, MAX_VERSION),
    "metadata": st.none() | st.dictionaries(_TEXT, _VALUE, max_size=2),
    "tenant": st.none() | _TEXT.filter(bool),
}


@st.composite
def envelopes(draw: st.DrawFn) -> dict[str, Any]:
    """Return an envelope in which most fields are right, one or another is missing or anything at all, and some are unknown."""
    made = draw(st.dictionaries(_TEXT, _VALUE, max_size=1))
    for name, right in _RIGHT.items():
        kind = draw(st.sampled_from(["right"] * 8 + ["missing", "anything", "limit"]))
        if kind == "right":
            made[name] = draw(right)
        elif kind == "anything":
            made[name] = draw(_VALUE)
        elif kind == "limit":
            made[name] = draw(st.sampled_from([MAX_VERSION + 1, -1, 7.0, 2, "x" * MAX_NAME_CHARS, "x" * (MAX_TITLE_CHARS + 1)]))
    return made


def accepts(envelope: object) -> bool:
    try:
        decode_message(KEY, json.dumps(envelope).encode())
    except DocumentError:
        return False
    return True


@given(envelopes())
@example({"schema": 1, "text": "a", "version": 7.0})
@example({"schema": 1.0, "text": "a"})
@example({"schema": True, "text": "a"})
@example({"schema": 1, "text": " ", "title": "t"})
@example({"schema": 1, "text": "", "title": None})
@example({"schema": 1, "text": "a", "metadata": {UNKNOWN: {}}})
@example({"schema": 1, "text": "a", "tenant": ""})
def test_the_schema_takes_what_the_reader_takes(envelope: dict[str, Any]) -> None:
    assert Draft202012Validator(SCHEMA).is_valid(envelope) == accepts(envelope)


def test_the_schema_is_one_and_knows_the_readers_fields_and_limits() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    fields = SCHEMA["properties"]
    assert sorted(fields) == sorted(FIELDS)
    assert fields["text"]["maxLength"] == MAX_TEXT_BYTES
    assert fields["title"]["maxLength"] == MAX_TITLE_CHARS
    assert fields["version"]["maximum"] == MAX_VERSION
    assert fields["tenant"]["maxLength"] == MAX_NAME_CHARS
    assert f"{MAX_METADATA_BYTES // 1024} KiB" in fields["metadata"]["description"]
    assert f"nested at most {MAX_JSON_DEPTH} deep" in fields["metadata"]["description"]


def test_every_example_on_the_page_is_taken() -> None:
    values = PAGE.split("```json\n")[1:]
    assert values
    for block in values:
        envelope = json.loads(block.split("```")[0])
        assert accepts(envelope), envelope


@given(st.dictionaries(_TEXT.filter(lambda name: name not in FIELDS), _VALUE, min_size=1, max_size=3))
def test_unknown_fields_are_kept_and_find_their_way_back(unknown: dict[str, Any]) -> None:
    sent = {"schema": 1, "text": "words", "title": "", "version": None, "metadata": {"team": "x"}, "tenant": None, **unknown}
    document = decode_message(KEY, json.dumps(sent).encode())
    assert isinstance(document, Document)
    assert document.metadata == {"team": "x", UNKNOWN: unknown}
    again = encode_value(document)
    assert json.loads(again) == sent
    assert decode_message(encode_key("s", "k"), again) == document


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"schema": 1, "text": "a", "text": "b"}', "invalid_json"),
        (b'{"schema": 1, "text": "a", "metadata": {"x": 1, "x": 1}}', "invalid_json"),
        (b'{"schema": 1, "text": "a", "metadata": {"x": NaN}}', "invalid_json"),
        (b'{"schema": 1, "text": "a", "metadata": {"x": Infinity}}', "invalid_json"),
        (b'{"schema": 1, "text": "a", "metadata": {"x": 1e999}}', "wrong_type"),
        (b'{"schema": 1, "text": "a", "metadata": {"x": %s}}' % (b"9" * 5000), "invalid_json"),
        (b'{"schema": 1, "text": "a", "metadata": {"x": [{"y": 9007199254740992}]}}', "not_exact"),
        (b'{"schema": 1, "text": "a", "metadata": {"x": "\\ud800"}}', "lone_surrogate"),
        (b'{"schema": 1, "text": "a", "metadata": {"\\udc00": 1}}', "lone_surrogate"),
        (b'{"schema": 1, "text": "a", "metadata": {"_fields": {}}}', "reserved_name"),
        (b'{"schema": 1, "text": "a", "far_too_large": "%s"}' % (b"x" * MAX_METADATA_BYTES), "too_large"),
        (b'{"schema": %s1%s, "text": "a"}' % (b"[" * 900, b"]" * 900), "unknown_schema"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b"", "invalid_json"),
    ],
)
def test_what_readers_in_other_languages_would_take_differently_is_refused(value: bytes, reason: str) -> None:
    with pytest.raises(DocumentError) as caught:
        decode_message(KEY, value)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ([("version", b"7")], 7),
        ([("version", b"7"), ("version", b"7"), ("other", b"8")], 7),
        ([("version", b"7"), ("version", b"8")], None),
        ([("version", b" 7")], None),
        ([("version", b"1_0")], None),
        ([("version", b"-1")], None),
        ([("version", b"9" * 5000)], None),
        ([("version", b"9" * 16)], None),
        ([("version", b"\xff")], None),
    ],
)
def test_a_version_in_a_header_is_decimal_digits_once(headers: list[tuple[str, bytes]], version: int | None) -> None:
    for value in (None, b'{"schema": 1, "text": "a"}'):
        if version is None:
            with pytest.raises(DocumentError) as caught:
                decode_message(KEY, value, headers)
            assert caught.value.reason == "bad_version"
        else:
            item = decode_message(KEY, value, headers)
            assert isinstance(item, Deletion if value is None else Document)
            assert item.version == version


def test_a_version_that_header_and_value_disagree_on_is_refused() -> None:
    value = b'{"schema": 1, "text": "a", "version": 7}'
    assert decode_message(KEY, value, [("version", b"7")]).version == 7
    with pytest.raises(DocumentError, match="7 in the value and 8 in the header"):
        decode_message(KEY, value, [("version", b"8")])


def test_a_giant_key_is_refused_in_few_words() -> None:
    with pytest.raises(DocumentError) as caught:
        decode_message(encode_key("s" * 5_000_000, "k" * 5_000_000), b"{")
    assert len(str(caught.value)) < 1_000
