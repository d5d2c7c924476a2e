"""Feeds to publish: the documents of a snapshot, of a source, of files, or of JSON Lines on standard input."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from etl.fields import FieldNames
from etl.snapshots import Snapshot, document_files, verify_snapshot
from etl.sources import open_source
from etl.sources.items import Logged, Reject, Source
from etl.sources.lines import read_json_lines
from etl.sources.places import Origins
from etl.sources.tables import find_columns, row_document
from etl.storage import read_rows
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Deletion, Document, Origin
from twinline.contract.errors import DocumentError, SettingsError

Entry = Document | Deletion | Reject


@dataclass(frozen=True, slots=True)
class Feed:
    """Documents and deletions for the log, and the rejects between them.

    Args:
        name: the source whose missing documents may be deleted; empty where the feed is not a whole source.
        snapshot: the id of the snapshot behind the feed, or empty.
        total: the number of entries, where it is known.
    """

    name: str
    entries: Iterable[Entry]
    snapshot: str = ""
    total: int | None = None


def snapshot_feed(folder: Path, topic: str) -> Feed:
    """Return the documents of a verified snapshot; an empty feed where the snapshot was taken from this topic."""
    snapshot = verify_snapshot(folder)
    if snapshot.provenance.get("topic") == topic:
        return Feed("", (), snapshot.id, 0)
    total = snapshot.counts["documents"] + snapshot.counts["rejects"]
    return Feed(snapshot.source, _snapshot_entries(folder, snapshot), snapshot.id, total)


def source_feed(spec: str, settings: Settings) -> Feed:
    """Return the documents of a source; it is read while they are sent."""
    source = open_source(spec, settings)
    return Feed(source.name, _source_entries(source))


def files_feed(paths: Sequence[Path], name: str, settings: Settings) -> Feed:
    """Return the documents of single files and folders: a part of a source, so none counts as missing."""
    sources = [open_source(f"{name}=files:{path}", settings) for path in paths]
    return Feed("", (entry for source in sources for entry in _source_entries(source)))


def lines_feed(stream: BinaryIO, name: str) -> Feed:
    """Return the documents of JSON Lines: `{"key", "title", "text", ...}`, or `{"key", "deleted": true}` for a deletion.

    A line may name its `source`; `name` is the source of the others.
    """
    return Feed("", _line_entries(stream, name))


def deletions_feed(keys: Sequence[str], name: str, version: int | None) -> Feed:
    """Return deletions of some documents of a source."""
    return Feed("", [Deletion(name, key, version).validate() for key in keys], total=len(keys))


def open_snapshot(wanted: str, store: Path) -> Path:
    """Return the folder of a snapshot named by its id in the store, or by its path."""
    for folder in (store / wanted, Path(wanted)):
        if wanted and folder.is_dir():
            return folder
    raise SettingsError(f"there is no snapshot {wanted!r} in {store}, nor a folder of that name: run `python -m etl ingest`")


def _snapshot_entries(folder: Path, snapshot: Snapshot) -> Iterator[Entry]:
    origins = _origins(snapshot)
    for path in document_files(folder):
        for row in read_rows(path):
            yield origins.complete(_row_document(row))
    for row in pq.read_table(folder / "rejects.parquet").to_pylist():
        yield Reject(**row)


def _origins(snapshot: Snapshot) -> Origins:
    known = [snapshot.provenance.get(name) for name in ("uris", "files")]
    return Origins(*(dict(files) if isinstance(files, Mapping) else {} for files in known))


def _row_document(row: Mapping[str, Any]) -> Document:
    metadata: Mapping[str, JSON] = json.loads(row["metadata"])
    document = Document(
        row["source"], row["key"], row["text"], row["title"], version=row["version"], metadata=metadata, tenant=row["tenant"]
    )
    # Older snapshots have no columns for places.
    return replace(document, origin=Origin(row["place"], row["line"])) if row.get("place") else document


def _source_entries(source: Source) -> Iterator[Entry]:
    for item in source.items():
        if isinstance(item, Document | Reject):
            yield item
        elif isinstance(item, Logged):
            raise SettingsError("a topic is not published to itself: its documents are on the log already")


def _line_entries(stream: BinaryIO, name: str) -> Iterator[Entry]:
    for line in read_json_lines(stream, "standard input"):
        if isinstance(line, Reject):
            yield line
            continue
        number, record = line
        source = record.get("source") or name
        row = {field: value for field, value in record.items() if field not in ("source", "deleted")}
        if record.get("deleted") is True:
            yield _deletion(source, row, number)
        else:
            yield _line_document(source, row, number)


def _line_document(source: JSON, row: Mapping[str, JSON], number: int) -> Entry:
    columns = find_columns(list(row), FieldNames(), "standard input")
    # A line number is no stable key: a single document on the log must name the one that it replaces.
    if not isinstance(columns, Reject) and (columns.key is None or row[columns.key] in (None, "")):
        return Reject("standard input", "missing_field", f"no key among {sorted(row)[:20]}: name it `key`", number)
    return row_document(source, "standard input", number, row, FieldNames())  # type: ignore[arg-type]  # checked in there


def _deletion(source: JSON, row: Mapping[str, JSON], number: int) -> Entry:
    try:
        return Deletion(source, row.get("key"), row.get("version")).validate()  # type: ignore[arg-type]  # that checks them
    except DocumentError as exc:
        return Reject("standard input", exc.reason, str(exc), number)
