"""Decode messages of the topic into documents and deletions. Pure: nothing here knows Kafka."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Deletion, Document, Version, decode_message, version_of
from twinline.contract.errors import DocumentError

# What tells which of two states without a version is newer, a choice of TWINLINE_TOPIC_ORDER.
Order = Literal["log-time", "versions", "offsets"]
# A producer's headers about a document's origin; copied to its points.
LINEAGE_HEADERS = ("source_sha256", "source_uri", "source_line", "source_file_sha256", "run_id", "git_revision")
# Enough for a long address; a producer's header must not make a point large.
MAX_HEADER_CHARS = 2_048
# The reason of a dead letter without payload.
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why bytes of the log are no message, and the last offset that they take up."""

    last: int
    error: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the log.

    Args:
        appended_by_log: false where the time is the producer's, and not the log's.
        unreadable: set where this stands for bytes that cannot be read: it then has no key, value and headers.
    """

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    appended_by_log: bool = True
    unreadable: Unreadable | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded message: a document or its deletion, its version, and its lineage."""

    item: Document | Deletion
    version: Version
    lineage: Mapping[str, JSON]
    message: Message


def decode(message: Message, order: Order = "log-time") -> Event:
    """Return the event of a message.

    Raises:
        DocumentError: it violates the envelope, or has no version where the topic's order is by versions; it alone is set aside.
    """
    if message.unreadable is not None:
        raise DocumentError(UNREADABLE, _unreadable_text(message.partition, message.offset, message.unreadable))
    item = decode_message(message.key, message.value, message.headers)
    if item.version is None and order == "versions":
        raise DocumentError(
            "no_version",
            f"message {message.partition}/{message.offset} has no version, and the order of its topic is by versions: publish it "
            "with one, or set TWINLINE_TOPIC_ORDER=offsets",
        )
    # A producer's clock decides nothing. In a topic that takes its time from the log, such a message is from before the topic was
    # configured so, hence older than any message of another partition that has an append time.
    append_ms = message.timestamp_ms if order == "log-time" and message.appended_by_log else 0
    version = version_of(item, append_ms, message.offset, message.headers, message.partition)
    return Event(item, version, _lineage(message), message)


def _unreadable_text(partition: int, first: int, what: Unreadable) -> str:
    offsets = f"offset {first}" if first == what.last else f"offsets {first} to {what.last}"
    return (
        f"partition {partition}, {offsets}: {what.error}. Publish what its producer sent there again; where a newer version "
        f"reads it, `twinline replay --from-offset {partition}:{first} --until-offset {partition}:{what.last + 1}` applies them"
    )


def named_document(key: bytes | None) -> tuple[str, str] | None:
    """Return the source and key in a message's key; None where it names no document, and the message is refused."""
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
    """Return the producer's headers about the document's origin."""
    return {n: raw.decode(errors="replace")[:MAX_HEADER_CHARS] for n, raw in message.headers if n in LINEAGE_HEADERS}
