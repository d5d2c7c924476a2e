"""Messages of the topic, and what they say. Pure: nothing here knows Kafka."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Deletion, Document, Version, decode_message, version_of
from twinline.contract.errors import DocumentError, SettingsError

# What producers say of where a document came from; copied to its points.
LINEAGE_HEADERS = ("source_sha256", "source_uri", "source_line", "source_file_sha256", "run_id", "git_revision")
# An address may be long; what anyone may write into a header must not make a point large.
MAX_HEADER_CHARS = 2_048


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the log holds it. `appended_by_log` is false where the time is only what the producer's clock said."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    appended_by_log: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """A message understood: a document or its deletion, its version, and where it comes from."""

    item: Document | Deletion
    version: Version
    lineage: Mapping[str, JSON]
    message: Message


def decode(message: Message) -> Event:
    """Return what a message says.

    Raises:
        DocumentError: it breaks the envelope; it alone is set aside.
        SettingsError: it needs the log's clock for a version, and the topic does not keep it.
    """
    item = decode_message(message.key, message.value, message.headers)
    if item.version is None and not message.appended_by_log:
        raise SettingsError(
            f"message {message.partition}/{message.offset} has no version, and the topic takes the time from producers, whose "
            "clocks may disagree on what is newer: set message.timestamp.type=LogAppendTime, or publish with versions"
        )
    version = version_of(item, message.timestamp_ms, message.offset, message.headers)
    return Event(item, version, _lineage(message), message)


def named_document(key: bytes | None) -> tuple[str, str] | None:
    """Return source and key that a message's key names; None for one that names no document: such a message is refused."""
    try:
        item = decode_message(key, None)
    except DocumentError:
        return None
    return item.source, item.key


def _lineage(message: Message) -> dict[str, JSON]:
    return {
        "partition": message.partition,
        "offset": message.offset,
        "timestamp_ms": message.timestamp_ms,
        "headers": lineage_headers(message),
    }


def lineage_headers(message: Message) -> dict[str, str]:
    """Return what a message's producer said of where the document came from."""
    return {n: raw.decode(errors="replace")[:MAX_HEADER_CHARS] for n, raw in message.headers if n in LINEAGE_HEADERS}
