"""Tables as programs write them: delimiters, headers, and the values of key, version, title, tenant and metadata."""

import csv
import datetime
import io
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.sources.csv_table import read_csv_rows
from etl.sources.items import Reject
from etl.sources.tables import TABLES
from tests.unit.etl.factories import documents, read, reject_reasons
from twinline.contract.documents.records import Document


def csv_rows(content: str | bytes, place: str = "rows.csv") -> list[tuple[int, dict[str, str]] | Reject]:
    data = content.encode() if isinstance(content, str) else content
    return list(read_csv_rows(io.BytesIO(data), place))


def from_table(folder: Path, name: str, content: bytes | pa.Table) -> list[Document | Reject]:
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        pq.write_table(content, folder / name)
    return [item for item in read(f"files:{folder / name}", folder) if isinstance(item, Document | Reject)]


@pytest.mark.parametrize(
    ("content", "row"),
    [
        ("id;title;text\n1;Tür;Die Tür ist zu\n", {"id": "1", "title": "Tür", "text": "Die Tür ist zu"}),
        ("sep=;\nid;title;text\n1;A;hello\n", {"id": "1", "title": "A", "text": "hello"}),
        ('id, title, text\n1, A, "hello, world"\n', {"id": "1", "title": "A", "text": "hello, world"}),
        ("id\ttext\n1\ta, b; c | d\n", {"id": "1", "text": "a, b; c | d"}),
        ("id|text\n1|a, b; c\n", {"id": "1", "text": "a, b; c"}),
        # commas in texts are no delimiter where the header has none
        ("id;text\n1;one, two, three\n", {"id": "1", "text": "one, two, three"}),
        ("id;text\n1;3,14\n", {"id": "1", "text": "3,14"}),
        # where the header has both, the rows decide
        ("id;name, first;text\n1;B, A;x\n2;D, C;y\n", {"id": "1", "name, first": "B, A", "text": "x"}),
        ('id,"a;b;c",text\n1,x,"y;z"\n', {"id": "1", "a;b;c": "x", "text": "y;z"}),
        # one column
        ("text\nno delimiter; none, at all | here\n", {}),
        ("text\nplain\n", {"text": "plain"}),
        # sep, as Excel and its friends write it
        ("sep=|\nid|text\n1|a;b;c\n", {"id": "1", "text": "a;b;c"}),
        ('"sep=;"\r\nid;text\r\n1;x\r\n', {"id": "1", "text": "x"}),
        ("SEP=\t\nid\ttext\n1\tx\n", {"id": "1", "text": "x"}),
        ("\ufeffsep=;\nid;text\n1;x\n", {"id": "1", "text": "x"}),
        ("sep=^\nid^text\n1^x\n", {"id": "1", "text": "x"}),
        # white space and byte order marks around names
        ("\ufeffid;text \n1;x\n", {"id": "1", "text": "x"}),
        ("\n\nid;text\n1;x\n", {"id": "1", "text": "x"}),
        # columns without a name: an index, and delimiters at the line's end
        (",id,text\n0,1,x\n", {"column 1": "0", "id": "1", "text": "x"}),
        ("id;text;;\n1;x;;\n", {"id": "1", "text": "x"}),
        ("id;text;;\n1;x;;kept\n", {"id": "1", "text": "x", "column 4": "kept"}),
        # quoted
        ('id;text\n1;"two\nlines; and ""quotes"""\n', {"id": "1", "text": 'two\nlines; and "quotes"'}),
    ],
)
def test_the_delimiter_is_found_or_said(content: str, row: dict[str, str]) -> None:
    rows = csv_rows(content)
    if row:
        assert isinstance(rows[0], tuple)
        assert rows[0][1] == row
    else:
        assert [item.reason for item in rows if isinstance(item, Reject)] == ["wrong_field_count"]


def test_lines_are_counted_as_an_editor_does_after_a_line_that_says_the_delimiter() -> None:
    rows = csv_rows("sep=;\nid;text\n1;x\n2;y;z\n")
    assert rows[0] == (3, {"id": "1", "text": "x"})
    assert isinstance(rows[1], Reject)
    assert (rows[1].line, rows[1].reason) == (4, "wrong_field_count")
    assert "';'" in rows[1].detail


def test_a_file_that_says_tsv_has_tabs_compressed_or_not() -> None:
    for place in ("rows.tsv", "rows.TSV", "rows.tsv.gz"):
        assert csv_rows("id\ttext, more\n1\tx\n", place) == [(2, {"id": "1", "text, more": "x"})]


_FIELD = st.text(alphabet=st.sampled_from('ab,;|\t"\n é'), max_size=12)


@settings(deadline=None)
@given(
    st.lists(st.lists(_FIELD, min_size=3, max_size=3), min_size=1, max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.booleans(),
)
def test_rows_written_with_any_delimiter_come_back(rows: Sequence[Sequence[str]], delimiter: str, is_quoted: bool) -> None:
    stream = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if is_quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)
    writer.writerow(["id", "title", "text"])
    writer.writerows(rows)

    found = csv_rows(stream.getvalue())

    # A space after a delimiter is no part of a value that is not quoted.
    wanted = [
        list(row) if is_quoted else [field if _is_quoted(field, delimiter) else field.lstrip(" ") for field in row]
        for row in rows
    ]
    assert [list(item[1].values()) for item in found if isinstance(item, tuple)] == wanted


def _is_quoted(field: str, delimiter: str) -> bool:
    return any(character in field for character in (delimiter, '"', "\n"))


@pytest.mark.parametrize(
    ("name", "content", "twice"),
    [
        ("headers.csv", b"id,title,text,text\n1,A,the first body,the second body\n", "'text'"),
        ("spaces.csv", b"id, text,text \n1,a,b\n", "'text'"),
        ("several.csv", b"a,b,a,b,text\n1,2,3,4,x\n", "'a', 'b'"),
        ("same.csv", b"id,text,text\n1,same,same\n", "'text'"),
        ("named.csv", b"id,text,,column 3\n1,x,y,z\n", "'column 3'"),
        ("tabs.tsv", b"id\ttext\ttext\n1\ta\tb\n", "'text'"),
        (
            "columns.parquet",
            pa.Table.from_arrays([pa.array(["1"]), pa.array(["a"]), pa.array(["b"])], ["id", "text", "text"]),
            "'text'",
        ),
        (
            "fields.parquet",
            pa.table(
                {"id": ["1"], "text": ["x"], "more": pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])}
            ),
            "'a'",
        ),
    ],
)
def test_a_table_with_two_columns_of_one_name_is_one_reject_that_names_them(
    tmp_path: Path, name: str, content: bytes | pa.Table, twice: str
) -> None:
    [reject] = from_table(tmp_path, name, content)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.line) == ("duplicate_column", 1)
    assert f"more than one column is named {twice}:" in reject.detail


@pytest.mark.parametrize(
    "line",
    [
        '{"id":"j1","text":"the first body","text":"the second body"}',
        '{"id":"j1","text":"x","metadata":{"a":1,"a":1}}',
        '{"id":"j1","text":"x","deep":[{"b":{"text":1,"text":2}}]}',
        '{"id":"j1","id":"j2","text":"x"}',
    ],
)
def test_a_name_that_stands_twice_in_an_object_is_refused_as_on_the_topic(tmp_path: Path, line: str) -> None:
    items = from_table(tmp_path, "rows.jsonl", f'{line}\n{{"id": "good", "text": "neighbour"}}\n'.encode())
    assert list(documents(items)) == ["good"]
    assert reject_reasons(items) == [("rows.jsonl", 1, "invalid_json")]
    whole = from_table(tmp_path, "rows.json", f"[{line}]".encode())
    assert reject_reasons(whole) == [("rows.json", None, "invalid_json")]
    assert all("stands twice in one object" in item.detail for item in (*items, *whole) if isinstance(item, Reject))


def test_a_column_and_a_name_in_metadata_with_two_values_are_refused_and_equal_ones_are_not(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "text": "x", "lang": "en", "metadata": {"lang": "de"}},
        {"id": "2", "text": "x", "lang": "en", "metadata": {"lang": "en", "page": 3}},
    ]
    items = from_table(tmp_path, "rows.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert reject_reasons(items) == [("rows.jsonl", 1, "duplicate_name")]
    assert documents(items)["2"].metadata == {"lang": "en", "page": 3}


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ({}, {}),
        (None, {}),
        ("", {}),
        ("plain words", {"metadata": "plain words"}),
        ([1, 2], {"metadata": [1, 2]}),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_a_column_metadata_that_is_no_object_is_kept_as_it_is(tmp_path: Path, metadata: object, kept: object) -> None:
    [document] = from_table(tmp_path, "rows.jsonl", json.dumps({"id": "1", "text": "x", "metadata": metadata}).encode())
    assert isinstance(document, Document)
    assert document.metadata == kept


def test_bytes_columns_are_text_as_keys_texts_titles_and_metadata(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([b"k1", "schlüssel".encode()], pa.binary()),
            "title": pa.array([b"One", "Tür".encode()], pa.large_binary()),
            "text": pa.array([b"hello", b"world"], pa.binary()),
            "tenant": pa.array([b"north", None], pa.binary()),
            "code": pa.array([b"abcd", b"efgh"], pa.binary(4)),
            "tags": pa.array([[b"a", b"b"], []], pa.list_(pa.binary())),
            "more": pa.array([{"inner": b"x"}, None], pa.struct([("inner", pa.binary())])),
        }
    )
    found = documents(from_table(tmp_path, "bytes.parquet", table))
    assert {key: (item.title, item.text, item.tenant) for key, item in found.items()} == {
        "k1": ("One", "hello", "north"),
        "schlüssel": ("Tür", "world", None),
    }
    assert found["k1"].metadata == {"code": "abcd", "tags": ["a", "b"], "more": {"inner": "x"}}
    assert found["schlüssel"].metadata == {"code": "efgh", "tags": []}


@pytest.mark.parametrize("column", ["id", "title", "text", "tenant", "picture"])
def test_bytes_that_are_no_text_cost_their_row_and_name_their_column(tmp_path: Path, column: str) -> None:
    columns = {name: pa.array([b"1", b"2"], pa.binary()) for name in ("id", "title", "text", "tenant", "picture")}
    columns[column] = pa.array([b"\x89PNG\xff", b"fine"], pa.binary())
    items = from_table(tmp_path, "bytes.parquet", pa.table(columns))
    assert reject_reasons(items) == [("bytes.parquet", 1, "invalid_utf8")]
    assert any(f"column '{column}' holds bytes that are not UTF-8" in item.detail for item in items if isinstance(item, Reject))
    assert len(documents(items)) == 1


def test_a_text_column_with_broken_text_costs_its_row(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a\xff", b"fine"], pa.binary()).buffers())
    items = from_table(tmp_path, "broken.parquet", pa.table({"id": ["1", "2"], "text": broken}))
    assert reject_reasons(items) == [("broken.parquet", 1, "invalid_utf8")]
    assert documents(items)["2"].text == "fine"


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (5, "5"),
        (5.0, "5"),
        (-3.0, "-3"),
        (1e15, "1000000000000000"),
        (2.5, "2.5"),
        (0, "0"),
        (0.0, "0"),
        (2**60, str(2**60)),
        ("5.0", "5.0"),  # text stays as it is written
        ("", "rows.jsonl#1"),
        (None, "rows.jsonl#1"),
        (float("nan"), "rows.jsonl#1"),
    ],
)
def test_keys_that_are_numbers_become_their_digits(tmp_path: Path, value: object, key: str) -> None:
    items = from_table(tmp_path, "rows.jsonl", json.dumps({"id": value, "text": "x"}).encode())
    assert list(documents(items)) == [key]


@pytest.mark.parametrize("value", [[1], {"$oid": "x"}, []])
def test_a_key_without_a_plain_text_is_refused(tmp_path: Path, value: object) -> None:
    items = from_table(tmp_path, "rows.jsonl", json.dumps({"id": value, "text": "x"}).encode())
    assert reject_reasons(items) == [("rows.jsonl", 1, "wrong_type")]


@pytest.mark.parametrize(
    ("value", "version"),
    [
        (3, 3),
        (3.0, 3),
        ("3", 3),
        ("3.0", 3),
        (" 3 ", 3),
        (0, 0),
        ("", None),
        (None, None),
        (float("nan"), None),
        (2.0**52, 2**52),
    ],
)
def test_versions_are_whole_numbers_however_they_are_written(tmp_path: Path, value: object, version: int | None) -> None:
    items = from_table(tmp_path, "rows.jsonl", json.dumps({"id": "1", "text": "x", "version": value}).encode())
    assert documents(items)["1"].version == version


@pytest.mark.parametrize(
    "value",
    ["9" * 5_000, "9" * 17, "-1", "3.5", "1e3", "٣", "³", "0x10", "1_000", "v3", 3.5, -1, 1e300, True, [3], "9" * 16],
)
def test_what_is_no_version_is_one_reject_and_no_error(tmp_path: Path, value: object) -> None:
    rows = [{"id": "1", "text": "x", "version": 3}, {"id": "2", "text": "x", "version": value}]
    items = from_table(tmp_path, "rows.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert reject_reasons(items) == [("rows.jsonl", 2, "bad_version")]
    if isinstance(value, str):
        content = f"id,text,version\n1,fine,3\n2,huge,{value}\n".encode()
        assert reject_reasons(from_table(tmp_path, "v.csv", content)) == [("v.csv", 3, "bad_version")]


@pytest.mark.parametrize(
    ("value", "text"), [(1984, "1984"), (1984.0, "1984"), (2.5, "2.5"), (0, "0"), (None, ""), (float("nan"), ""), (True, "True")]
)
def test_titles_that_are_numbers_become_text_as_keys_do(tmp_path: Path, value: object, text: str) -> None:
    items = from_table(tmp_path, "rows.jsonl", json.dumps({"id": "1", "title": value, "text": "x"}).encode())
    assert documents(items)["1"].title == text


@pytest.mark.parametrize(("value", "tenant"), [(5, "5"), (5.0, "5"), (0, "0"), (0.0, "0"), ("", None), (None, None)])
def test_tenants_that_are_numbers_become_text_and_zero_is_a_tenant(tmp_path: Path, value: object, tenant: str | None) -> None:
    items = from_table(tmp_path, "rows.jsonl", json.dumps({"id": "1", "text": "x", "tenant": value}).encode())
    assert documents(items)["1"].tenant == tenant


def test_whole_numbers_with_gaps_are_whole_in_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1.0, 2.0, None]),
            "text": ["a", "b", "c"],
            "version": pa.array([3.0, 4.0, None]),
            "tenant": pa.array([Decimal("7.00"), Decimal("8.00"), None], pa.decimal128(9, 2)),
        }
    )
    found = documents(from_table(tmp_path, "floats.parquet", table))
    assert [(key, item.version, item.tenant) for key, item in found.items()] == [
        ("1", 3, "7"),
        ("2", 4, "8"),
        ("floats.parquet#3", None, None),
    ]


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([0, 253402300800000000, None], pa.timestamp("us")), "10000-01-01 00:00:00.000000"),
        (pa.array([0, 253402300800000, None], pa.timestamp("ms")), "10000-01-01 00:00:00.000"),
        (pa.array([0, 253402300800, None], pa.timestamp("s")), "10000-01-01 00:00:00.000"),  # stored as milliseconds
        (pa.array([0, 253402300800000000, None], pa.timestamp("us", "UTC")), "10000-01-01 00:00:00.000000Z"),
        (pa.array([0, -(2**62), None], pa.timestamp("us")), None),
        (pa.array([0, 2**63 - 1, None], pa.timestamp("ms")), None),
        (pa.array([0, 2**31 - 1, None], pa.date32()), None),
        (pa.array([0, 2**62, None], pa.duration("s")), None),
        (pa.array([[0], [253402300800000000], None], pa.list_(pa.timestamp("us"))), ["10000-01-01 00:00:00.000000"]),
        (
            pa.array([{"a": 0}, {"a": 253402300800000000}, None], pa.struct([("a", pa.timestamp("us"))])),
            {"a": "10000-01-01 00:00:00.000000"},
        ),
        (pa.array([0, 253402300800000000, None], pa.timestamp("us")).dictionary_encode(), "10000-01-01 00:00:00.000000"),
    ],
)
def test_a_time_that_python_cannot_hold_is_text_and_its_rows_are_kept(tmp_path: Path, column: pa.Array, shown: object) -> None:
    table = pa.table({"id": ["1", "2", "3"], "text": ["first row", "second row", "third row"], "valid_until": column})
    items = from_table(tmp_path, "far.parquet", table)
    found = documents(items)
    assert not reject_reasons(items)
    assert {key: item.text for key, item in found.items()} == {"1": "first row", "2": "second row", "3": "third row"}
    assert "valid_until" not in found["3"].metadata
    if shown is None:
        assert str(found["2"].metadata["valid_until"])
    else:
        assert found["2"].metadata["valid_until"] == shown


def test_times_within_range_keep_their_form_beside_others(tmp_path: Path) -> None:
    times = pa.array([datetime.datetime(2024, 5, 1, 12), None], pa.timestamp("us"))
    alone = documents(from_table(tmp_path, "a.parquet", pa.table({"id": ["1", "2"], "text": ["x", "y"], "at": times})))
    far = pa.array([1714564800000000, 253402300800000000], pa.timestamp("us"))
    beside = documents(from_table(tmp_path, "b.parquet", pa.table({"id": ["1", "2"], "text": ["x", "y"], "at": far})))
    assert alone["1"].metadata == beside["1"].metadata == {"at": "2024-05-01 12:00:00"}


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        ("id;title;text\n1;Tür;zu\n2;ascii;auf\n".encode("cp1252"), [("w.csv", 2, "invalid_utf8")]),
        ("id;Überschrift;text\n1;a;b\n2;c;d\n".encode("cp1252"), [("w.csv", 1, "invalid_utf8")]),
        ("id;text\n1;a\n".encode("utf-16"), [("w.csv", 1, "invalid_utf8")]),
    ],
)
def test_csv_in_another_encoding_is_told_with_its_remedy(tmp_path: Path, content: bytes, reasons: list[object]) -> None:
    items = from_table(tmp_path, "w.csv", content)
    assert reject_reasons(items) == reasons
    assert all("CSV UTF-8" in item.detail for item in items if isinstance(item, Reject))


@pytest.mark.parametrize(
    ("content", "keys", "reasons"),
    [
        (b'[{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]', ["1", "2"], []),
        (b'\xef\xbb\xbf\n [\n{"id": "1", "text": "a"}\n]\n', ["1"], []),
        (
            b'[{"id": "1", "text": "a"}, 7, null, {"id": "2", "text": "b"}]',
            ["1", "2"],
            [(2, "not_an_object"), (3, "not_an_object")],
        ),
        (b'[{"id": "1", "text": "a"}, {"id": "2", "words": "b"}]', ["1"], [(2, "missing_column")]),
        (b'{\n  "id": "one", "text": "a document"\n}', ["one"], []),
        (b'{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n', ["1", "2"], []),
        (b'{"id": "1", "text": "a"}\n{"id": "2", "text": \n', ["1"], [(2, "invalid_json")]),
        (b'{"name": "package", "version": "1.0.0"}', [], [(None, "unsupported_format")]),
        (b"7", [], [(None, "unsupported_format")]),
        (b'[{"id": "1", "text": "a"}', [], [(None, "invalid_json")]),
        (b"", [], [(None, "invalid_json")]),
        (b'[{"id": "1", "text": "\xff"}]', [], [(1, "invalid_utf8")]),
        (b'[{"id": "1", "text": ' + b"[" * 100_000, [], [(None, "invalid_json")]),
        (b'[{"id": "1", "text": "x", "n": ' + b"[" * 500 + b"]" * 500 + b"}]", [], [(None, "invalid_json")]),
        (b'[{"id": "1", "text": "a", "score": NaN}]', ["1"], []),
        (b'[{"id": "1", "text": "a", "n": ' + b"9" * 5_000 + b"}]", [], [(None, "invalid_json")]),
    ],
)
def test_json_is_an_array_of_objects_one_document_or_lines(
    tmp_path: Path, content: bytes, keys: list[str], reasons: list[tuple[int | None, str]]
) -> None:
    items = from_table(tmp_path, "rows.json", content)
    assert list(documents(items)) == keys
    assert [(line, reason) for _, line, reason in reject_reasons(items)] == reasons


def test_a_line_that_is_nested_deeply_is_one_reject(tmp_path: Path) -> None:
    for depth in (100, 300, 500, 700, 900, 990):
        line = '{"id": "1", "text": "x", "n": ' + "[" * depth + "]" * depth + "}"
        items = from_table(tmp_path, "deep.jsonl", f'{line}\n{{"id": "2", "text": "y"}}\n'.encode())
        assert [reason for _, _, reason in reject_reasons(items)] in (["too_deep"], ["invalid_json"])
        assert list(documents(items)) == ["2"]


def test_every_table_reader_gives_rows_or_rejects_for_rubbish() -> None:
    for reader in TABLES.values():
        for data in (
            b"",
            b"\x00",
            bytes(range(256)) * 9,
            b"\xff\xfe\x00",
            b'"',
            b"PAR1",
            b"[[[[",
            b"{}\n{}",
            b"sep=",
            b"sep=;\n",
            b",,,\n,,,\n",
        ):
            for row in reader(io.BytesIO(data), "rubbish"):
                assert isinstance(row, Reject | tuple)
