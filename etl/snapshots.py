"""Snapshots: immutable folders of Parquet files, named by their content, in a store of their own.

The id is the hash of the files' hashes. The same documents, queries and judgements, at the same places in their source, have
the same id, wherever that source lies.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from etl.storage import added_folder, file_hash, replaced_folder
from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.errors import ContractError, MismatchError, SettingsError

RECORD = "snapshot.json"
SNAPSHOT_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content of snapshot.json.

    Args:
        id: `s` and twelve hexadecimal digits.
        source: the documents' source name; `uri` is the address of the source.
        counts: rows per file, and rejects per reason.
        provenance: files, their hashes and addresses, package versions, or topic, partitions and offsets.
        files: SHA-256 by file name.
    """

    id: str
    source: str
    uri: str
    counts: Mapping[str, int]
    reject_reasons: Mapping[str, int]
    provenance: Mapping[str, JSON]
    files: Mapping[str, str]
    schema: int = field(default=SNAPSHOT_SCHEMA)


def seal(
    folder: Path,
    source: str,
    uri: str,
    counts: Mapping[str, int],
    reject_reasons: Mapping[str, int],
    provenance: Mapping[str, JSON],
) -> Snapshot:
    """Write snapshot.json over the Parquet files of a folder and return its content."""
    files = {path.name: file_hash(path) for path in sorted(folder.glob("*.parquet"))}
    snapshot = Snapshot(id_of_files(files), source, uri, counts, reject_reasons, provenance, files)
    record = json.dumps(asdict(snapshot), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / RECORD).write_text(record + "\n", encoding="utf-8")
    return snapshot


def read_snapshot(folder: Path) -> Snapshot:
    """Return the content of a folder's snapshot.json, without a look at the files.

    Raises:
        ContractError: the folder is no snapshot, or one of an unknown schema.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        schema = record["schema"]
        if schema != SNAPSHOT_SCHEMA:
            raise ContractError(f"{path}: schema is {schema!r}, this code reads {SNAPSHOT_SCHEMA}: ingest again")
        return Snapshot(**record)
    except FileNotFoundError as exc:
        raise ContractError(f"{folder} is no snapshot, it has no {RECORD}: run `python -m etl ingest`") from exc
    except (ValueError, TypeError, KeyError) as exc:
        raise ContractError(f"{path} is damaged ({exc}): ingest again, or take the snapshot from its store") from exc


def verify_snapshot(folder: Path) -> Snapshot:
    """Check every file against snapshot.json, and return its content.

    Raises:
        MismatchError: a file is missing, added or changed.
    """
    snapshot = read_snapshot(folder)
    found = {path.name: file_hash(path) for path in sorted(folder.glob("*.parquet"))}
    wrong = sorted(name for name in found.keys() | snapshot.files.keys() if found.get(name) != snapshot.files.get(name))
    if wrong or id_of_files(found) != snapshot.id:
        raise MismatchError(
            f"snapshot {snapshot.id} in {folder} differs from its {RECORD} ({', '.join(wrong) or 'the id'}): "
            "remove the folder and ingest again, or pull it from the DVC remote"
        )
    return snapshot


def store_snapshot(folder: Path, store: Path) -> Path:
    """Copy a sealed snapshot into the store under its id; a second call does nothing."""
    snapshot = read_snapshot(folder)
    stored = store / snapshot.id
    if not stored.exists():
        with added_folder(stored) as beside:
            _copy(folder, beside)
    return stored


def fetch_snapshot(store: Path, snapshot_id: str, out: Path) -> Snapshot:
    """Copy a snapshot out of the store and verify the copy.

    Raises:
        SettingsError: the store has no such snapshot.
        MismatchError: the stored files do not have this id.
    """
    stored = store / snapshot_id
    if not snapshot_id or not (stored / RECORD).is_file():
        known = sorted(path.name for path in store.glob("s*") if (path / RECORD).is_file())
        raise SettingsError(
            f"there is no snapshot {snapshot_id!r} in {store}; found {', '.join(known) or 'none'}: "
            "name one of them, or leave `snapshot` empty to read the source"
        )
    with replaced_folder(out) as beside:
        _copy(stored, beside)
        snapshot = verify_snapshot(beside)
        if snapshot.id != snapshot_id:
            raise MismatchError(f"{stored} holds snapshot {snapshot.id}, its name says {snapshot_id}: remove the folder")
    return snapshot


def document_files(folder: Path) -> list[Path]:
    """Return the document files of a snapshot, in order."""
    return sorted(folder.glob("documents-*.parquet"))


def id_of_files(files: Mapping[str, str]) -> str:
    """Return the id of a snapshot of these files: SHA-256 by file name."""
    return "s" + fingerprint(dict(files))[:12]


def _copy(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()):
        shutil.copy2(path, target / path.name)
