"""Feeds to publish: the documents of a snapshot, of a source, of files, or of JSON Lines on standard input."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

import pyarrow.parquet as pq

from etl.absence import plain_address
from etl.fields import FieldNames
from etl.params import IngestParams
from etl.snapshots import Snapshot, document_files, verify_snapshot
from etl.sources import open_source
from etl.sources.items import Reject, Source
from etl.sources.lines import read_json_lines
from etl.sources.places import Origins, without_secrets
from etl.sources.pydocs import covered_places
from etl.sources.tables import find_columns, row_document
from etl.storage import read_rows
from twinline.clients.params import load_params, read_params
from twinline.clients.settings import Settings
from twinline.clients.source_spec import SOURCE_KINDS, SourceSpec, absolute_path, default_name, is_address, parse_source
from twinline.contract.artefacts import PARAMS
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Deletion, Document, Origin
from twinline.contract.errors import SettingsError

STANDARD_INPUT: Final = "standard input"
Entry = Document | Deletion | Reject


@dataclass(frozen=True, slots=True)
class Feed:
    """Documents and deletions for the log, and the rejects between them.

    Args:
        name: the source whose missing documents may be deleted; empty where the feed is not a whole source.
        snapshot: the id of the snapshot behind the feed, or empty.
        total: the number of entries, where it is known.
        uri: the feed's origin, as messages name it.
        roots: the addresses that the feed covers as a whole: every document there is met, or a reject says why not.
        claims: sources that were named after a place, each with the address of that place.
        kind: the kind of a source whose documents have no address of their own; `KIND:/PLACE` stands for it.
        notes: facts for the person who publishes.
        is_order: whether a person orders single deletions, each of which must delete.
    """

    name: str
    entries: Iterable[Entry]
    snapshot: str = ""
    total: int | None = None
    uri: str = ""
    roots: Sequence[str] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    notes: Sequence[str] = ()
    is_order: bool = False

    @property
    def is_stream(self) -> bool:
        """Return whether the entries are changes in their order, as on the log: a later state replaces an earlier one."""
        return not self.name and not self.roots


def snapshot_feed(folder: Path, topic: str) -> Feed:
    """Return the documents of a verified snapshot; an empty feed where the snapshot was taken from this topic."""
    snapshot = verify_snapshot(folder)
    if snapshot.provenance.get("topic") == topic:
        return Feed("", (), snapshot.id, 0)
    total = snapshot.counts["documents"] + snapshot.counts["rejects"]
    feed = Feed(snapshot.source, _snapshot_entries(folder, snapshot), snapshot.id, total, snapshot.uri)
    kind, _, location = snapshot.uri.partition(":")
    if kind not in SOURCE_KINDS or SOURCE_KINDS[kind].is_log:
        return feed
    if not SOURCE_KINDS[kind].is_path:
        return replace(feed, **_covered(SourceSpec(kind, location), snapshot.source))
    # The place that was read then: a relative location means another one here.
    root = _snapshot_root(snapshot, location)
    return replace(feed, roots=[root], claims={snapshot.source: root}) if root else feed


def source_feed(text: str, settings: Settings) -> Feed:
    """Return the documents of a source; it is read while they are sent."""
    spec = parse_source(text).absolute(Path.cwd())
    if SOURCE_KINDS[spec.kind].is_log:
        raise SettingsError(f"--source {text}: a topic is not published to itself, its documents are on the log already")
    source = open_source(spec, settings, _fields(settings))
    return Feed(source.name, _source_entries(source), uri=source.uri, **_covered(spec, source.name))


def files_feed(paths: Sequence[str | Path], name: str, settings: Settings) -> Feed:
    """Return the documents of single files and folders: parts of sources, so none counts as missing.

    Args:
        name: the documents' source; empty: each place has its own (`default_name`).

    Raises:
        SettingsError: two folders have one name.
    """
    places, notes = _distinct([str(path) for path in paths])
    specs = [SourceSpec("files", place, name or default_name(place)) for place in places]
    claims: dict[str, str] = {}
    for spec in () if name else specs:
        folder = _address(_folder(spec.location))
        if (other := claims.setdefault(spec.name, folder)) != folder:
            raise SettingsError(f"{other} and {folder} are both called {spec.name!r}: publish each with a --name of its own")
    sources = [open_source(spec, settings, _fields(settings)) for spec in specs]
    entries = (entry for source in sources for entry in _source_entries(source))
    roots = [_address(place) for place in places]
    return Feed("", entries, uri=f"files:{', '.join(places)}", roots=roots, claims=claims, notes=notes)


def lines_feed(stream: BinaryIO, name: str) -> Feed:
    """Return the documents of JSON Lines: `{"key", "title", "text", ...}`, or `{"key", "deleted": true}` for a deletion.

    A line may name its `source`; `name` is the source of the others.
    """
    return Feed("", _line_entries(stream, name), uri=STANDARD_INPUT)


def deletions_feed(keys: Sequence[str], name: str, version: int | None) -> Feed:
    """Return deletions of some documents of a source."""
    deletions = [Deletion(name, key, version).validate() for key in dict.fromkeys(keys)]
    return Feed("", deletions, total=len(deletions), uri=f"--delete of {name}", is_order=True)


def ingest_params(settings: Settings) -> IngestParams:
    """Return the section `ingest` of the project's params.yaml; the defaults where there is none.

    Publishing reads tables, and refuses a broken source, as ingest does.
    """
    path = settings.project / PARAMS
    return load_params("ingest", IngestParams, path) if path.is_file() and "ingest" in read_params(path) else IngestParams()


def open_snapshot(wanted: str, store: Path) -> Path:
    """Return the folder of a snapshot named by its id in the store, or by its path."""
    for folder in (store / wanted, Path(wanted)):
        if wanted and folder.is_dir():
            return folder
    raise SettingsError(f"there is no snapshot {wanted!r} in {store}, nor a folder of that name: run `python -m etl ingest`")


def _fields(settings: Settings) -> FieldNames:
    params = ingest_params(settings)
    return FieldNames(params.key_column, params.title_column, params.text_column)


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


def _covered(spec: SourceSpec, name: str) -> dict[str, Any]:
    """Return the fields of a feed that say what a source covers."""
    if SOURCE_KINDS[spec.kind].is_path:
        return {"roots": [_address(spec.location)], "claims": {name: _address(_folder(spec.location))}}
    # Installed packages lie elsewhere with every Python; the names of their modules stay.
    places = covered_places(spec.location) if spec.kind == "pydocs" else [""]
    roots = [f"{spec.kind}:/{place}".rstrip("/") for place in places]
    return {"roots": roots, "claims": {name: f"{spec.kind}:"}, "kind": spec.kind}


def _address(location: str) -> str:
    """Return the address of a location, in the form of its documents' addresses."""
    import fsspec

    try:
        filesystem, root = fsspec.core.url_to_fs(location)
    except (ImportError, ValueError) as exc:
        raise SettingsError(f"cannot read {location}: {exc}") from exc
    return plain_address(without_secrets(str(filesystem.unstrip_protocol(root))))


def _folder(location: str) -> str:
    """Return the place that a source is named after: for a file of this machine its folder."""
    is_file = not is_address(location) and os.path.isfile(location) and not location.lower().endswith(".zip")  # noqa: PTH113
    return os.path.dirname(location) if is_file else location  # noqa: PTH120 (as isfile, it takes any text)


def _snapshot_root(snapshot: Snapshot, location: str) -> str:
    """Return the address that a snapshot's files lie in, or of its only file; empty where an older snapshot does not know it."""
    addresses = snapshot.provenance.get("uris")
    for place, address in addresses.items() if isinstance(addresses, Mapping) else ():
        plain = plain_address(str(address))
        is_the_file = len(addresses) == 1 and PurePosixPath(location).name == place  # type: ignore[arg-type]
        return plain if is_the_file else plain.removesuffix(place).rstrip("/")
    return ""


def _distinct(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the places to read, each once, and a note on every other one."""
    notes: list[str] = []
    wanted = [path if is_address(path) else absolute_path(path, Path.cwd()) for path in paths]
    folders = [place for place in dict.fromkeys(wanted) if os.path.isdir(place)]  # noqa: PTH112 (it takes any text)
    places: dict[str, None] = {}
    for path, place in zip(paths, wanted, strict=True):
        if place in places:
            notes.append(f"{path} was named twice, and is read once")
        elif others := [folder for folder in folders if _is_read_with(place, folder)]:
            notes.append(f"{path} lies in {min(others)}, and is read with it")
        else:
            places[place] = None
    return list(places), notes


def _is_read_with(place: str, folder: str) -> bool:
    inside = place.removeprefix(f"{folder.rstrip('/')}/")
    # A hidden file, and one behind a link, is read only where it is named.
    if inside == place or any(part.startswith(".") for part in inside.split("/")):
        return False
    return os.path.realpath(place) == os.path.join(os.path.realpath(folder), inside)  # noqa: PTH118


def _line_entries(stream: BinaryIO, name: str) -> Iterator[Entry]:
    for line in read_json_lines(stream, STANDARD_INPUT):
        yield line if isinstance(line, Reject) else _line_entry(*line, name)


def _line_entry(number: int, record: Mapping[str, JSON], name: str) -> Entry:
    source, deleted = record.get("source"), record.get("deleted")
    row = {field: value for field, value in record.items() if field not in ("source", "deleted")}
    if not (deleted is None or isinstance(deleted, bool)):
        return Reject(STANDARD_INPUT, "wrong_type", f"deleted is {deleted!r:.80}, must be true or false", number)
    columns = find_columns([*row, "text"] if deleted else list(row), FieldNames(), STANDARD_INPUT)
    # A line number is no stable key: a single document on the log must name the one that it replaces.
    if not isinstance(columns, Reject) and (columns.key is None or row[columns.key] in (None, "")):
        return Reject(STANDARD_INPUT, "missing_field", f"no key among {sorted(row)[:20]}: name it `key`", number)
    if deleted and not isinstance(columns, Reject):
        # One reader for both: whatever names a document deletes it. The text only stands in.
        row = {columns.key or "": row[columns.key or ""], "version": row.get("version"), "text": "deleted"}
    named: JSON = name if source in (None, "") else source
    entry = row_document(named, STANDARD_INPUT, number, row, FieldNames())  # type: ignore[arg-type]  # checked in there
    if not deleted or isinstance(entry, Reject):
        return entry
    return Deletion(entry.source, entry.key, entry.version)
