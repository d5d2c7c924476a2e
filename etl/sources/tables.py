"""Files of many documents, one per row: JSON, CSV and Parquet. Columns are found by name, the rest is metadata."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from etl.fields import FieldNames
from etl.source_state import NO_MARK, SourceState, mark_of
from etl.sources.cells import metadata_of, name_of, text_or_nothing, version_of
from etl.sources.csv_table import read_csv_rows
from etl.sources.items import Item, Made, Reject, Same, checked, excerpt
from etl.sources.lines import load_json, object_row, parse_line, raw_lines, read_json_lines
from etl.sources.parquet_table import read_parquet_rows
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import MAX_TEXT_BYTES, Document
from twinline.contract.documents.strict_json import nesting
from twinline.contract.errors import DocumentError

_ROWS_AT_ONCE = 256
_BYTES_AT_ONCE = 8 << 20
# A JSON value is read as a whole.
_MAX_JSON_BYTES = 4 * MAX_TEXT_BYTES
_MAX_DEPTH = 200

Row = Mapping[str, JSON]
Rows = Iterator[tuple[int, Row] | Reject]

USUAL_NAMES: Mapping[str, Sequence[str]] = {
    "key": ("key", "id", "_id", "doc_id", "document_id", "uid", "url", "path"),
    "title": ("title", "name", "heading", "headline", "subject"),
    "text": ("text", "body", "content", "contents", "passage", "abstract", "document", "page_content"),
}


def read_json_rows(stream: BinaryIO, place: str) -> Rows:
    """Yield the objects of a JSON Lines file."""
    return read_json_lines(stream, place)


def read_json_table(stream: BinaryIO, place: str) -> Rows:
    """Yield the objects of a JSON file: an array of them, one document, or one object a line under the wrong ending."""
    data = stream.read(_MAX_JSON_BYTES + 1)
    if len(data) > _MAX_JSON_BYTES:
        yield Reject(place, "too_large", f"more than {_MAX_JSON_BYTES} bytes of JSON: write one object a line, as .jsonl")
        return
    try:
        text = data.decode("utf-8-sig")
        value = load_json(text)
        if nesting(value, _MAX_DEPTH) > _MAX_DEPTH:
            raise ValueError(f"nested deeper than {_MAX_DEPTH}")
    except UnicodeDecodeError as exc:
        yield Reject(place, "invalid_utf8", f"not UTF-8 at byte {exc.start}", data.count(b"\n", 0, exc.start) + 1)
    except (ValueError, RecursionError) as exc:
        first, _, rest = text.strip().partition("\n")
        if rest and isinstance(parse_line(first.encode(), place, 1), tuple):
            yield from read_json_lines(io.BytesIO(data), place)
        else:
            yield Reject(place, "invalid_json", str(exc)[:200], raw=excerpt(text))
    else:
        if isinstance(value, list):
            for number, item in enumerate(value, 1):
                yield object_row(item, place, number)
        elif isinstance(value, dict) and any(name.lower() in USUAL_NAMES["text"] for name in value):
            yield 1, value
        else:
            detail = "neither an array of objects nor a document with a text: settings of some program are not read"
            yield Reject(place, "unsupported_format", detail)


TABLES: Mapping[str, Callable[[BinaryIO, str], Rows]] = {
    ".jsonl": read_json_rows,
    ".ndjson": read_json_rows,
    ".json": read_json_table,
    ".csv": read_csv_rows,
    ".tsv": read_csv_rows,
    ".parquet": read_parquet_rows,
}


def table_items(
    stream: BinaryIO, source: str, place: str, ending: str, names: FieldNames, state: SourceState | None
) -> Iterator[Item]:
    """Yield the documents of a table, unchanged ones as `Same`; an unchanged line of JSON Lines is not even parsed."""
    is_lines = TABLES[ending] is read_json_rows
    rows: Iterator[tuple[int, Any] | Reject] = raw_lines(stream, place) if is_lines else TABLES[ending](stream, place)
    for held in _pieces(rows):
        marks = [None if isinstance(row, Reject) else _mark(place, *row) for row in held]
        asked = [mark for mark in marks if mark is not None]
        known = iter(state.rows(asked) if state else [-1] * len(asked))
        for row, mark in zip(held, marks, strict=True):
            if isinstance(row, Reject):
                yield row
            elif (same := next(known)) >= 0:
                yield Same(same, row[0])
            else:
                yield _new_item(source, place, row, mark or NO_MARK, is_lines, names)


def _pieces(rows: Iterator[tuple[int, Any] | Reject]) -> Iterator[list[tuple[int, Any] | Reject]]:
    """Yield rows a few at a time; rows before the place where a file breaks off count."""
    held: list[tuple[int, Any] | Reject] = []
    size = 0
    try:
        for row in rows:
            held.append(row)
            size += len(row[1]) if isinstance(row, tuple) and isinstance(row[1], bytes) else 0
            if len(held) == _ROWS_AT_ONCE or size > _BYTES_AT_ONCE:
                yield held
                held, size = [], 0
    except (DocumentError, OSError):
        yield held
        raise
    yield held


def _new_item(source: str, place: str, row: tuple[int, Any], mark: bytes, is_line: bool, names: FieldNames) -> Item:
    line, content = row
    parsed = parse_line(content, place, line) if is_line else row
    item = parsed if isinstance(parsed, Reject) else row_document(source, place, line, parsed[1], names)
    # A document keyed by its line becomes another document on another line.
    return item if isinstance(item, Reject) or item.key == _key(None, place, line) else Made(item, mark)


def _mark(place: str, line: int, content: Any) -> bytes:
    """Return the mark of a row: a line's bytes, or all names and values. The first line may begin with a byte-order mark."""
    raw = content if isinstance(content, bytes) else repr(content).encode(errors="surrogateescape")
    return mark_of(place.encode(errors="surrogateescape"), b"first" if line == 1 else b"", raw)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of key, title and text; `key` and `title` may be missing."""

    key: str | None
    title: str | None
    text: str


def find_columns(found: Sequence[str], names: FieldNames, place: str) -> Columns | Reject:
    """Return the columns of a table, or the reject of a table without a text column or a configured one."""
    chosen: dict[str, str | None] = {}
    by_lower = {name.lower(): name for name in reversed(found)}
    for field, wanted in (("key", names.key), ("title", names.title), ("text", names.text)):
        candidates = (wanted,) if wanted else USUAL_NAMES[field]
        match = next((by_lower[name.lower()] for name in candidates if name.lower() in by_lower), None)
        if match is None and (wanted or field == "text"):
            detail = f"{place} has no column for {field} (looked for {', '.join(candidates)}); found {sorted(found)[:30]}"
            return Reject(place, "missing_column", f"{detail}: rename it, or set ingest.{field}_column in params.yaml")
        chosen[field] = match
    return Columns(chosen["key"], chosen["title"], chosen["text"] or "")


def row_document(source: str, place: str, line: int, row: Row, names: FieldNames) -> Document | Reject:
    """Return the document of a row; its remaining columns become metadata, and so does an object `metadata`."""
    columns = find_columns(list(row), names, place)
    if isinstance(columns, Reject):
        return Reject(place, columns.reason, columns.detail, line, raw=excerpt(str(row)))
    try:
        nested = row.get("metadata")
        inner = {name: metadata_of(value) for name, value in nested.items()} if isinstance(nested, Mapping) else {}
        taken = {
            columns.key,
            columns.title,
            columns.text,
            "version",
            "tenant",
            "metadata" if inner or nested in ({}, "") else None,
        }
        rest = {name: metadata_of(value) for name, value in row.items() if name not in taken and value is not None}
    except RecursionError:
        return Reject(place, "too_deep", "the row is nested too deeply to be read", line)
    if twice := [name for name in inner if name in rest and rest[name] != inner[name]]:
        detail = f"{twice[:10]} are columns and names in `metadata`, with other values: rename or remove one of them"
        return Reject(place, "duplicate_name", detail, line, raw=excerpt(str(row)))
    return checked(
        Document(
            source,
            _key(row.get(columns.key) if columns.key else None, place, line),  # type: ignore[arg-type]  # it is checked
            text_or_nothing(row.get(columns.text)),  # type: ignore[arg-type]
            title=name_of(row.get(columns.title) if columns.title else None) or "",  # type: ignore[arg-type]
            version=version_of(row.get("version")),  # type: ignore[arg-type]
            metadata={**rest, **inner},
            tenant=name_of(row.get("tenant")) or None,  # type: ignore[arg-type]
        ),
        place,
        line,
    )


def _key(value: object, place: str, line: int) -> object:
    """Return the row's key; without a key column it is place and row, which is stable while rows are only appended."""
    name = name_of(value)
    return f"{place}#{line}" if name is None or name == "" else name
