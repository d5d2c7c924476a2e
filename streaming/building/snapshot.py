"""A snapshot of the topic as messages, with the versions that the log gave them. A build reads it before the log itself."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streaming.decode import Message
from twinline.clients.log_record import LogRecord
from twinline.contract.documents.records import Deletion, Document, encode_key, encode_value, version_header
from twinline.contract.errors import ContractError, MismatchError, SettingsError

_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class TopicSnapshot:
    """A verified snapshot. `ends`: by partition, the first offset beyond it."""

    folder: Path
    ends: Mapping[int, int]
    rows: int

    def messages(self) -> Iterator[Message]:
        """Yield documents and deletions, each with its place in the log."""
        # Deletions too: without their heads, a late update would restore a deleted document.
        for path in [*sorted(self.folder.glob("documents-*.parquet")), self.folder / "deletions.parquet"]:
            yield from map(_message, _rows(path))


def open_snapshot(folder: Path, log: LogRecord) -> TopicSnapshot:
    """Return the snapshot in a folder, after comparing every file with its hash in `snapshot.json`.

    Args:
        log: the log that it must be of. An older snapshot says nothing of its cluster and the id of its topic.

    Raises:
        SettingsError: it is not there, or was not taken of this log.
        MismatchError: a file was changed.
    """
    try:
        record = json.loads((folder / "snapshot.json").read_text())
        provenance, files, counts = record["provenance"], record["files"], record["counts"]
    except FileNotFoundError as exc:
        raise SettingsError(f"there is no snapshot at {folder}: take one (python -m etl ingest --source kafka:)") from exc
    except (ValueError, KeyError) as exc:
        raise ContractError(f"{folder / 'snapshot.json'} is damaged ({exc}): take the snapshot again") from exc
    known = {name: provenance.get(name) or getattr(log, name) for name in ("cluster", "topic_id")}
    same = all(value == getattr(log, name) or not getattr(log, name) for name, value in known.items())
    if provenance.get("topic") != log.topic or "ends" not in provenance or not same:
        its = f"{record.get('uri')!r} (cluster {provenance.get('cluster')}, topic id {provenance.get('topic_id')})"
        raise SettingsError(
            f"snapshot {folder.name} was taken of {its}, not of topic {log.topic} (cluster {log.cluster}, topic id "
            f"{log.topic_id}): build without --snapshot, which reads the log from its start"
        )
    for name, expected in files.items():
        if _sha256(folder / name) != expected:
            raise MismatchError(f"snapshot {folder.name}: {name} was changed or lost: take the snapshot again")
    ends = {int(partition): int(offset) for partition, offset in provenance["ends"].items()}
    return TopicSnapshot(folder, ends, counts.get("documents", 0) + counts.get("deletions", 0))


def _message(row: Mapping[str, Any]) -> Message:
    place = (row["log_partition"], row["log_offset"], row["log_timestamp_ms"])
    key = encode_key(row["source"], row["key"])
    if "text" not in row:
        return Message(*place, key, None, version_header(Deletion(row["source"], row["key"], row["version"])))
    document = Document(
        row["source"], row["key"], row["text"], row["title"] or "", row["version"], json.loads(row["metadata"]), row["tenant"]
    )
    return Message(*place, key, encode_value(document), [("source_sha256", row["content_hash"].encode())])


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            yield from batch.to_pylist()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
