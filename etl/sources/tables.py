"""Files of many documents, one per row: JSON Lines, CSV and Parquet. Columns are found by name, the rest is metadata."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from contract.canonical import JSON
from contract.records import MAX_TEXT_BYTES, MAX_VERSION, Document
from etl.sources import FieldNames
from etl.sources.items import Reject, checked, excerpt
from etl.sources.lines import read_json_lines

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
    # Undecodable bytes travel as half surrogates, so that they cost the row they are in and not the file.
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
            # A quote that is never closed takes all that follows with it.
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


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what; `key` and `title` may be missing."""

    key: str | None
    title: str | None
    text: str


def find_columns(found: Sequence[str], names: FieldNames, place: str) -> Columns | Reject:
    """Return the columns of a table, or the reject of a table that has no text or lacks a column asked for by name."""
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
            "" if text is None else text,  # type: ignore[arg-type]  # what is no string is refused by the check
            title="" if title is None else title,  # type: ignore[arg-type]
            version=_version(row.get("version")),  # type: ignore[arg-type]
            metadata={**rest, **nested} if isinstance(nested, Mapping) else rest,
            tenant=row.get("tenant") or None,  # type: ignore[arg-type]
        ),
        place,
        line,
    )


def _key(value: JSON, place: str, line: int) -> str:
    """Return the row's key; a table without keys is keyed by place and row, which holds while rows are only appended."""
    return f"{place}#{line}" if value is None or value == "" else str(value)


def _version(value: JSON) -> JSON:
    if isinstance(value, str):  # CSV has no numbers; an empty field is no version
        return int(value) if value.isascii() and value.isdecimal() else value or None
    return value


def _json(value: JSON) -> JSON:
    """Return a value as canonical JSON can say it: no dates, decimals, bytes, NaN, nor integers beyond a double's."""
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
