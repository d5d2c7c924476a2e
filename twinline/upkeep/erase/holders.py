"""The places that still hold a document after its erasure, and the way to remove it from each."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow.compute as pc
import pyarrow.parquet as pq

from twinline.clients.kafka.connect import kafka_errors, make_admin
from twinline.clients.kafka.stretch import headers_of, read_topic
from twinline.clients.kafka.topic_order import append_ms, read_configs
from twinline.clients.settings import Settings
from twinline.contract.artefacts import PAIRS, PREPARED, SNAPSHOT
from twinline.contract.canonical import JSON
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Version, decode_message, encode_key, version_of
from twinline.contract.errors import DocumentError
from twinline.contract.monitor.drift_reference import PROFILE_FILE
from twinline.upkeep.dead_letters.entries import document_of
from twinline.upkeep.trace.forward import training_uses_section
from twinline.upkeep.trace.reach import Reach

_WORKSPACE: Final = (SNAPSHOT, PREPARED, PAIRS)
_KEYED: Final = {"source", "key"}


@dataclass(frozen=True, slots=True)
class Logged:
    """One message of the document in the log. `version` is None where the message cannot be read."""

    partition: int
    offset: int
    timestamp_ms: int
    size: int
    has_text: bool
    version: Version | None

    @property
    def place(self) -> str:
        """Return its place in the log."""
        return f"{self.partition}/{self.offset}"


def messages_of(settings: Settings, source: str, key: str) -> list[Logged]:
    """Return every message of the log that names a document, in the order of each partition. Reads all of the log."""
    found = []
    # Most producers write the key in our form; in another language its spaces or escapes may differ.
    plain = encode_key(source, key)
    for record in read_topic(settings, settings.topic):
        if record.key != plain and document_of(record.key) != (source, key):
            continue
        try:
            item = decode_message(record.key, record.value, headers_of(record))
            version = version_of(item, append_ms(settings, record), record.offset, headers_of(record), record.partition)
        except DocumentError:
            version = None
        size, has_text = len(record.value or b""), record.value is not None
        found.append(Logged(record.partition, record.offset, record.timestamp, size, has_text, version))
    return found


def log_holding(settings: Settings, messages: Sequence[Logged]) -> dict[str, JSON]:
    """Return the document's texts that the log still holds, and the time of their expiry."""
    texts = [message for message in messages if message.has_text]
    places: list[JSON] = [message.place for message in texts]
    if not texts:
        return {"what": f"topic {settings.topic}", "messages": places, "bytes": 0, "gone": "holds no text of it"}
    until = {message.partition: message.offset + 1 for message in texts}
    ends: JSON = {str(partition): offset for partition, offset in sorted(until.items())}
    return {
        "what": f"topic {settings.topic}",
        "messages": places,
        "bytes": sum(message.size for message in texts),
        "gone_when_the_log_begins_at": ends,
        "gone": _gone(settings, max(message.timestamp_ms for message in texts)),
        "remedy": "python -m etl ingest --source kafka: --store, then twinline erase --expire-log SNAPSHOT",
    }


def snapshots_holding(settings: Settings, source: str, key: str) -> list[JSON]:
    """Return the snapshots of the store that hold a document."""
    folders = sorted(path.parent for path in settings.snapshots.glob("s*/snapshot.json"))
    # The last snapshot stays there with its rejects until the next one.
    return [
        {
            "what": f"snapshot {folder.name}",
            "files": {**files},
            "remedy": f"when no training needs it: remove {folder}, take a new one, and `dvc gc --workspace --all-tags --cloud`",
        }
        for folder in [*folders, settings.snapshots / "last"]
        if (files := _files_holding(folder, source, key))
    ]


def workspace_holding(checkout: Path, source: str, key: str) -> list[JSON]:
    """Return the offline stages' folders in the checkout that hold a document."""
    return [
        {"what": name, "files": {**files}, "remedy": "dvc repro -f ingest"}
        for name in _WORKSPACE
        if (files := _files_holding(checkout / name, source, key))
    ]


def releases_holding(reach: Reach, source: str, key: str) -> list[JSON]:
    """Return each release's training use of a document, and the releases with vectors of it in their drift sample."""
    remedy = "an encoder does not give a text back, but has learned from it: train another without it and retire this one"
    found: list[JSON] = [
        {"what": f"release {step.what}", "status": step.status, "use": step.value, "note": step.note, "remedy": remedy}
        for step in training_uses_section(reach, source, key).steps
        if step.status != "RECORDED" or _is_use(str(step.value))
    ]
    return found + [
        {
            "what": f"release {folder.name}",
            "use": f"{count} vectors in its drift sample",
            "remedy": "retire it; remove its folder",
        }
        for folder, count in _samples(reach.settings.releases, str(head_id(source, key)))
    ]


def _is_use(summary: str) -> bool:
    return not summary.startswith(("not trained here", "not in its data"))


def _samples(releases: Path, document: str) -> Iterator[tuple[Path, int]]:
    for path in sorted(releases.glob(f"*/{PROFILE_FILE}")):
        count = json.loads(path.read_bytes()).get("documents", []).count(document)
        if count:
            yield path.parent, count


def _files_holding(folder: Path, source: str, key: str) -> dict[str, int]:
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        if set(pq.read_schema(path).names) >= _KEYED and path.name != "deletions.parquet":
            wanted = (pc.field("key") == key) & (pc.field("source") == source)
            if count := pq.read_table(path, columns=["key"], filters=wanted).num_rows:
                found[path.name] = count
    return found


def _gone(settings: Settings, newest_ms: int) -> str:
    configs = _configs(settings)
    milliseconds, size = int(configs.get("retention.ms", "-1")), int(configs.get("retention.bytes", "-1"))
    parts = []
    if milliseconds >= 0:
        when = datetime.fromtimestamp(newest_ms / 1000, UTC) + timedelta(milliseconds=milliseconds)
        parts.append(f"when the segment that holds it is past {when.isoformat(timespec='minutes')} (retention.ms {milliseconds})")
    if size >= 0:
        parts.append(f"when {size} bytes have followed it in its partition (retention.bytes)")
    return " or ".join(parts) or "never by itself: the topic keeps everything (retention.ms and retention.bytes are -1)"


def _configs(settings: Settings) -> Mapping[str, str]:
    admin = make_admin(settings)
    try:
        with kafka_errors(settings):
            return read_configs(admin, settings.topic)
    finally:
        admin.close()
