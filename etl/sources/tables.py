"""Files of many documents, one per row: JSON Lines, CSV and Parquet. Columns are found by name, the rest is metadata."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from etl.fields import FieldNames
from etl.source_state import NO_MARK, SourceState, mark_of
from etl.sources.items import Item, Made, Reject, Same, checked, excerpt
from etl.sources.lines import ParseLine, parser_of, raw_lines, read_json_lines
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import MAX_TEXT_BYTES, MAX_VERSION, Document

_ROWS_AT_ONCE = 256
_BYTES_AT_ONCE = 8 << 20
_MAX_DIGITS = 1_000

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


def read_csv_rows(stream: BinaryIO, place: str) -> Rows:
    """Yield the rows of a CSV file with a header, or of a TSV file by its ending."""
    csv.field_size_limit(2 * MAX_TEXT_BYTES)
    delimiter = "\t" if place.removesuffix(".gz").endswith(".tsv") else ","
    # Undecodable bytes become half surrogates, so that they cost one row and not the file.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        yield from _csv_rows(text, delimiter, place)


def _csv_rows(text: Iterable[str], delimiter: str, place: str) -> Rows:
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1  # a quoted field may span lines: the row's first one
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            # An unclosed quote takes the rest of the file with it.
            yield Reject(place, "invalid_csv", f"{exc}; lines {line} to {reader.line_num} are lost", line)
            continue
        if not header:
            header = row
        elif not row:
            continue
        elif len(row) != len(header):
            detail = f"{len(row)} fields, the header has {len(header)}"
            yield Reject(place, "wrong_field_count", detail, line, raw=excerpt(delimiter.join(row)))
        elif any(not field.isascii() and _is_broken(field) for field in row):
            raw = excerpt(delimiter.join(row).encode(errors="surrogateescape"))
            yield Reject(place, "invalid_utf8", "the row is not UTF-8", line, raw=raw)
        else:
            yield line, dict(zip(header, row, strict=True))


def read_parquet_rows(stream: BinaryIO, place: str) -> Rows:
    """Yield the rows of a Parquet file, numbered from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(stream).iter_batches(batch_size=1_000):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        yield Reject(place, "corrupt_parquet", str(exc)[:500], number + 1)


TABLES: Mapping[str, Callable[[BinaryIO, str], Rows]] = {
    ".jsonl": read_json_rows,
    ".ndjson": read_json_rows,
    ".csv": read_csv_rows,
    ".tsv": read_csv_rows,
    ".parquet": read_parquet_rows,
}

# Their lines can be told apart without reading them.
LINES = frozenset(ending for ending, read in TABLES.items() if read is read_json_rows)


def table_items(
    stream: BinaryIO,
    source: str,
    place: str,
    ending: str,
    names: FieldNames,
    state: SourceState | None,
    read: Callable[[BinaryIO, str], Rows],
    parse_long: ParseLine,
) -> Iterator[Item]:
    """Yield the documents of a table, unchanged ones as `Same`; an unchanged line of JSON Lines is not even parsed.

    Args:
        read: reads the rows, of any table but JSON Lines.
        parse_long: parses a long line of JSON.
    """
    is_lines = ending in LINES
    rows: Iterator[tuple[int, Any] | Reject] = raw_lines(stream, place) if is_lines else read(stream, place)
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
                yield _new_item(source, place, row, mark or NO_MARK, parse_long if is_lines else None, names)


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
    except Exception:
        yield held
        raise
    yield held


def _new_item(
    source: str, place: str, row: tuple[int, Any], mark: bytes, parse_long: ParseLine | None, names: FieldNames
) -> Item:
    line, content = row
    parsed = row if parse_long is None else parser_of(content, parse_long)(content, place, line)
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
    """Return the document of a row; its remaining columns become metadata."""
    try:
        return _row_document(source, place, line, row, names)
    except Exception as exc:  # noqa: BLE001 (a row holds anything, and decides nothing but its own document)
        return Reject(place, "unreadable", f"{place}, row {line}: {type(exc).__name__}: {exc}", line, raw=excerpt(repr(row)))


def _row_document(source: str, place: str, line: int, row: Row, names: FieldNames) -> Document | Reject:
    columns = find_columns(list(row), names, place)
    if isinstance(columns, Reject):
        return Reject(place, columns.reason, columns.detail, line, raw=excerpt(str(row)))
    taken = {columns.key, columns.title, columns.text, "version", "tenant", "metadata"}
    nested = row.get("metadata")
    rest = {name: _json(value) for name, value in row.items() if name not in taken and value is not None}
    title = row.get(columns.title) if columns.title else None
    text = row.get(columns.text)
    return checked(
        Document(
            source,
            _key(row.get(columns.key) if columns.key else None, place, line),
            "" if text is None else text,  # type: ignore[arg-type]  # the check refuses any other type
            title="" if title is None else title,  # type: ignore[arg-type]
            version=_version(row.get("version")),  # type: ignore[arg-type]
            metadata={**rest, **nested} if isinstance(nested, Mapping) else rest,
            tenant=row.get("tenant") or None,  # type: ignore[arg-type]
        ),
        place,
        line,
    )


def _key(value: JSON, place: str, line: int) -> str:
    """Return the row's key; without a key column it is place and row, which is stable while rows are only appended."""
    return f"{place}#{line}" if value is None or value == "" else str(value)


def _version(value: JSON) -> JSON:
    if isinstance(value, str):  # CSV has no numbers; an empty field is no version
        # Python refuses to read very long numbers, and the contract numbers far below them.
        return int(value) if value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS else value or None
    return value


def _json(value: JSON) -> JSON:
    """Return a value in canonical JSON: no dates, decimals, bytes, NaN, nor integers beyond a double's."""
    if isinstance(value, Mapping):
        return {str(name): _json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) > MAX_VERSION:
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _is_broken(field: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in field)
