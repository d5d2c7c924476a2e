"""The part of a document's metadata that lies on its chunks: declared fields, in one form a type."""

import json
from typing import Any

import pytest

from twinline.contract.documents.filterable import FieldType, filterable, is_plain_name, mistyped, moment, typed_value

VALUES: list[tuple[Any, FieldType, Any]] = [
    ("red", "keyword", "red"),
    ("", "keyword", ""),
    (7, "keyword", None),
    (True, "keyword", None),
    (2020, "integer", 2020),
    (2020.0, "integer", 2020),
    (2020.5, "integer", None),
    ("2020", "integer", None),
    (True, "integer", None),
    (2**53 - 1, "integer", 2**53 - 1),
    (2**53, "integer", None),
    (-(2**53), "integer", None),
    (1e300, "integer", None),
    (float("nan"), "integer", None),
    (float("inf"), "float", None),
    (1, "float", 1.0),
    (10**400, "float", None),
    (0.1, "float", 0.1),
    ("0.1", "float", None),
    (False, "float", None),
    ("2020-01-31", "datetime", "2020-01-31T00:00:00.000000Z"),
    ("2020-01-31T09:30:00Z", "datetime", "2020-01-31T09:30:00.000000Z"),
    ("2020-01-31 09:30:00", "datetime", "2020-01-31T09:30:00.000000Z"),
    ("2020-01-31t09:30:00.1234567+02:00", "datetime", "2020-01-31T07:30:00.123456Z"),
    ("0900-01-31", "datetime", "0900-01-31T00:00:00.000000Z"),
    ("9999-12-31T23:00:00-02:00", "datetime", None),
    ("2020-01-31T24:00:01Z", "datetime", None),
    ("2020-1-31", "datetime", None),
    ("2020-01-31T09:30Z", "datetime", None),
    ("20200131", "datetime", None),
    ("", "datetime", None),
    (20200131, "datetime", None),
    (True, "bool", "true"),
    (False, "bool", "false"),
    ("true", "bool", None),
    (1, "bool", None),
    (None, "keyword", None),
    ({"a": 1}, "keyword", None),
    ([["a"]], "keyword", None),
]


@pytest.mark.parametrize(("value", "type_", "stored"), VALUES)
def test_a_value_of_its_fields_type_has_one_form_and_any_other_is_left_out(value: Any, type_: FieldType, stored: Any) -> None:
    found = typed_value(value, type_)
    assert (found, type(found)) == (stored, type(stored))
    assert filterable({"x": value}, {"metadata.x": type_}) == ({} if stored is None else {"x": stored})
    # Of a list, the values of the type.
    assert filterable({"x": [value, None]}, {"metadata.x": type_}) == ({} if stored is None else {"x": [stored]})


@pytest.mark.parametrize(("value", "type_", "stored"), [row for row in VALUES if row[2] is not None])
def test_the_stored_form_is_json_and_stays(value: Any, type_: FieldType, stored: Any) -> None:
    assert json.loads(json.dumps(stored)) == stored
    if type_ != "bool":
        assert typed_value(stored, type_) == stored


DECLARED: dict[str, FieldType] = {"metadata.team": "keyword", "metadata.by.name": "keyword", "metadata.by.age": "integer"}


@pytest.mark.parametrize(
    ("metadata", "part"),
    [
        ({}, {}),
        ({"team": "x", "note": "long"}, {"team": "x"}),
        ({"by": {"name": "a", "age": 3, "mail": "m"}}, {"by": {"name": "a", "age": 3}}),
        ({"by": {"age": "3"}}, {}),
        ({"by": "a"}, {}),
        ({"by": [{"name": "a"}]}, {}),
        ({"by.name": "a"}, {}),
        ({"team": []}, {}),
        ({"team": ["a", 1, "b"]}, {"team": ["a", "b"]}),
        ({"Team": "x"}, {}),
    ],
)
def test_a_chunk_has_the_declared_fields_alone(metadata: Any, part: Any) -> None:
    assert filterable(metadata, DECLARED) == part
    assert filterable(metadata, {}) == {}


@pytest.mark.parametrize(
    ("metadata", "fields"),
    [
        ({}, []),
        ({"team": "x", "by": {"name": "a", "age": 3}}, []),
        ({"team": None, "by": {"age": None}}, []),
        ({"team": []}, []),
        ({"team": 7}, ["metadata.team"]),
        ({"team": ["a", 7]}, ["metadata.team"]),
        ({"team": ["a", None]}, ["metadata.team"]),
        ({"team": {"a": 1}, "by": {"age": "3"}}, ["metadata.team", "metadata.by.age"]),
        ({"by": "a"}, []),
        ({"other": 7}, []),
    ],
)
def test_fields_with_a_value_of_another_type_are_named(metadata: Any, fields: list[str]) -> None:
    assert mistyped(metadata, DECLARED) == fields
    assert mistyped(metadata, {"headers.run_id": "keyword"}) == []


def test_a_declared_path_of_the_engines_own_keeps_all_metadata_on_the_chunks() -> None:
    metadata = {"by": [{"name": "a"}], "n": 1}
    assert filterable(metadata, {"metadata.by[].name": "keyword"}) == metadata
    assert filterable(metadata, {"headers.run_id": "keyword"}) == {}


@pytest.mark.parametrize("name", ["metadata.a", "metadata.a.b", "metadata.a-b_1", "metadata.başlık", "metadata.題"])
def test_a_plain_name_is_one(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name", ["", "a", "metadata", "metadata.", "metadata.a b", 'metadata."a"', "metadata.a[]", "metadata.a\n"]
)
def test_any_other_name_is_none(name: str) -> None:
    assert not is_plain_name(name)


def test_moments_are_ordered_as_time_is() -> None:
    texts = [
        "0001-01-01",
        "2020-01-01T00:30:00+01:00",
        "2020-01-01",
        "2020-01-01T00:00:00.000001Z",
        "9999-12-31T23:59:59.999999Z",
    ]
    read = [moment(text) for text in texts]
    assert read == sorted(read)  # type: ignore[type-var]
    stored = [typed_value(text, "datetime") for text in texts]
    assert stored == sorted(stored)  # type: ignore[type-var]
