"""Documents and deletions, and their one form on the Kafka topic.

key    a JSON array `[source, key]`
value  a JSON object `{"schema": 1, "title", "text", "version", "metadata", "tenant"}`, or null, which deletes the key
header `version`: the explicit version of a deletion, whose null value has no room for it
header `replay-version`: on a message sent again, its first place on the log (`timestamp_ms/offset/partition`)

For authors of producers: docs/envelope.md and `schemas/document-v1.schema.json`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import total_ordering
from typing import Literal

from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.documents.strict_json import integers, load_json, nesting, short
from twinline.contract.errors import DocumentError

ENVELOPE_SCHEMA = 1
MAX_TEXT_BYTES = 16 * 1024 * 1024
MAX_TITLE_CHARS = 10_000
MAX_NAME_CHARS = 1_024
MAX_METADATA_BYTES = 64 * 1024
MAX_JSON_DEPTH = 32
# RFC 8785, and with it every JSON reader in any language, is exact only up to here.
MAX_VERSION = 2**53 - 1
# The fields of the envelope. A field of a later version, or of a producer's own, is kept in the metadata under `UNKNOWN`.
FIELDS = ("schema", "title", "text", "version", "metadata", "tenant")
UNKNOWN = "_fields"
# JSON may spell any letter as \uXXXX, which is six bytes.
_MAX_JSON_BYTES = 2 * MAX_TEXT_BYTES
_DIGITS = re.compile(r"[0-9]{1,16}")
REPLAY_VERSION_HEADER = "replay-version"


@dataclass(frozen=True, slots=True)
class Origin:
    """The place of a document's bytes.

    Args:
        place: the source's name of the file, independent of where the source lies.
        line: line or row in a file of many documents, counted from 1.
        uri: opens the file (fsspec); empty for an input that cannot be opened again, such as standard input.
        sha256: hash of the whole file as it was read.
    """

    place: str
    line: int | None = None
    uri: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """One document from its source: extracted, not cleaned. Character spans are code points into `text`.

    `origin` is no part of its content: the same document read elsewhere is equal, and its value on the log is the same.
    """

    source: str
    key: str
    text: str
    title: str = ""
    version: int | None = None
    metadata: Mapping[str, JSON] = field(default_factory=dict)
    tenant: str | None = None
    origin: Origin | None = field(default=None, compare=False)

    def validate(self) -> "Document":
        """Return the document itself, or raise DocumentError with the field that is out of bounds."""
        _check_names(self.source, self.key, self.tenant)
        _check_version(self.version)
        for name, value in (("text", self.text), ("title", self.title)):
            if not isinstance(value, str):
                raise DocumentError("wrong_type", f"{self.place}: {name} is {type(value).__name__}, must be a string")
        size = len(_utf8(self.text, self.place, "text"))
        if size > MAX_TEXT_BYTES:
            raise DocumentError(
                "too_large", f"{self.place}: text has {size} bytes, the limit is {MAX_TEXT_BYTES}: split the document"
            )
        _utf8(self.title, self.place, "title")
        if len(self.title) > MAX_TITLE_CHARS:
            raise DocumentError(
                "title_too_long",
                f"{self.place}: title has {len(self.title)} characters, the limit is {MAX_TITLE_CHARS}",
            )
        if not self.text.strip() and not self.title.strip():
            raise DocumentError("no_text", f"{self.place}: neither text nor title: nothing to index; publish a deletion?")
        _check_metadata(self.metadata, self.place)
        return self

    @property
    def place(self) -> str:
        """Return the document's name in error messages."""
        return f"document [{short(self.source)}, {short(self.key)}]"


@dataclass(frozen=True, slots=True)
class Deletion:
    """The order to remove a document; its head point keeps the version, so that a late update cannot revive it."""

    source: str
    key: str
    version: int | None = None

    def validate(self) -> "Deletion":
        """Return the deletion itself, or raise DocumentError."""
        _check_names(self.source, self.key, None)
        _check_version(self.version)
        return self


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """The order of a document's states: the sender's number, or the place in the log.

    Within a partition the offset alone decides. Between partitions the append time does, then the number of the partition.

    Args:
        number: the sender's number; in the log, the append time in ms, 0 where the log keeps no time of its own.
        offset: place in the partition; 0 for an explicit version.
        partition: None for an explicit version, and where an older release of Twinline stored the version without it.
    """

    kind: Literal["explicit", "log"]
    number: int
    offset: int = 0
    partition: int | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """Return number and offset: the sort key where no partition is known."""
        return (self.number, self.offset)

    def after(self, standing: "Version | None") -> "Version":
        """Return the version to store for a state that replaces the standing one: within a partition, time never goes back.

        Without that, a step back of the broker's clock would make the order of three states in two partitions a circle.
        """
        if standing is None or not self._shares_partition(standing):
            return self
        return replace(self, number=max(self.number, standing.number))

    def is_same_state(self, other: "Version") -> bool:
        """Say whether neither version is newer: they name one place of the log, or carry one number of the sender."""
        return self.kind == other.kind and not self < other and not other < self

    def check_comparable(self, other: "Version") -> None:
        """Raise DocumentError if one version is explicit and the other comes from the log."""
        if self.kind != other.kind:
            raise DocumentError(
                "mixed_versions",
                f"version {self.number} is {self.kind}, the stored one ({other.number}) is {other.kind}: "
                "a key keeps one kind for good; delete it under the stored kind, or publish it under another key",
            )

    def __lt__(self, other: "Version") -> bool:
        self.check_comparable(other)
        if self._shares_partition(other):
            return self.offset < other.offset
        if self.number == other.number and self.partition is not None and other.partition is not None:
            return self.partition < other.partition
        return self.rank < other.rank

    def _shares_partition(self, other: "Version") -> bool:
        return self.kind == other.kind == "log" and self.partition is not None and self.partition == other.partition


def encode_key(source: str, key: str) -> bytes:
    """Return the message key of a document: the JSON array `[source, key]`."""
    return json.dumps([source, key], ensure_ascii=False, separators=(",", ":")).encode()


def encode_value(document: Document) -> bytes:
    """Return the message value of a document."""
    metadata = dict(document.metadata)
    # Fields that a reader did not know go back to their own place.
    unknown = metadata.pop(UNKNOWN, None)
    envelope = {
        "schema": ENVELOPE_SCHEMA,
        "title": document.title,
        "text": document.text,
        "version": document.version,
        "metadata": metadata,
        "tenant": document.tenant,
        **(unknown if isinstance(unknown, Mapping) else {}),
    }
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()


def version_header(deletion: Deletion) -> list[tuple[str, bytes]]:
    """Return the headers that carry a deletion's explicit version."""
    return [] if deletion.version is None else [("version", str(deletion.version).encode())]


def decode_message(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> Document | Deletion:
    """Return the document or deletion of a message.

    Raises:
        DocumentError: the message breaks the envelope or a limit; retrying cannot help.
    """
    source, name = _decode_key(key)
    if value is None:
        return Deletion(source, name, _header_version(headers)).validate()
    place = f"message [{short(source)}, {short(name)}]"
    envelope = load_json(value, place, _MAX_JSON_BYTES)
    if not isinstance(envelope, dict):
        raise DocumentError("not_an_object", f"{place}: the value is {type(envelope).__name__}, must be a JSON object")
    schema = envelope.get("schema")
    if schema != ENVELOPE_SCHEMA or isinstance(schema, bool):
        raise DocumentError("unknown_schema", f"{place}: schema is {short(schema)}, this reader knows {ENVELOPE_SCHEMA}")
    if "text" not in envelope:
        raise DocumentError("missing_field", f"{place}: no field `text`; found {short(sorted(envelope)[:20])}")
    title = envelope.get("title")
    return Document(
        source=source,
        key=name,
        text=envelope["text"],
        title="" if title is None else title,
        version=_agreed_version(envelope.get("version"), _header_version(headers), place),
        metadata=_with_unknown(envelope, place),
        tenant=envelope.get("tenant"),
    ).validate()


def version_of(
    item: Document | Deletion,
    timestamp_ms: int,
    offset: int,
    headers: Sequence[tuple[str, bytes]] = (),
    partition: int | None = None,
) -> Version:
    """Return the version of a message: its explicit one, else its place on the log.

    A message that was sent again keeps its first place, or an old state would come back as the newest.

    Args:
        timestamp_ms: the append time; 0 where the log keeps no time of its own.

    Raises:
        DocumentError: the message claims a place that is not older than its own.
    """
    if item.version is not None:
        return Version("explicit", item.version)
    own = Version("log", timestamp_ms, offset, partition)
    claimed = next((raw for name, raw in headers if name == REPLAY_VERSION_HEADER), None)
    if claimed is None:
        return own
    first = re.fullmatch(rb"(\d{1,15})/(\d{1,15})(?:/(\d{1,9}))?", claimed)
    # A log that keeps no time of its own gives none to a claim either.
    number = int(first[1]) if first and timestamp_ms else 0
    version = Version("log", number, int(first[2]), int(first[3]) if first[3] else None) if first else None
    # Any producer can claim a time, and a time in the future would shut out every later state.
    if version is None or version > own:
        raise DocumentError(
            "bad_version",
            f"header {REPLAY_VERSION_HEADER} is {claimed[:40]!r}, must be timestamp_ms/offset/partition, not after {own.number}",
        )
    return version


def content_hash(document: Document) -> str:
    """Return the hash of a document's content, without its version."""
    try:
        return fingerprint(
            {
                "source": document.source,
                "key": document.key,
                "title": document.title,
                "text": document.text,
                "metadata": document.metadata,
                "tenant": document.tenant,
            }
        )
    except ValueError as exc:
        raise DocumentError("not_canonical", f"{document.place}: {exc}") from exc


def _decode_key(key: bytes | None) -> tuple[str, str]:
    if key is None:
        raise DocumentError("no_key", "message without a key: the key must be the JSON array [source, key]")
    parts = load_json(key, f"message key {key[:80]!r}", _MAX_JSON_BYTES)
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts)):
        raise DocumentError("bad_key", f"message key {key[:80]!r} is not a JSON array [source, key] of two strings")
    return parts[0], parts[1]


def _with_unknown(envelope: Mapping[str, JSON], place: str) -> Mapping[str, JSON]:
    """Return the metadata with the fields that this version does not know: a later version will need them."""
    metadata = envelope.get("metadata")
    unknown = {name: value for name, value in envelope.items() if name not in FIELDS}
    if not isinstance(metadata, Mapping):
        if metadata is not None:
            raise DocumentError("wrong_type", f"{place}: metadata is {type(metadata).__name__}, must be a JSON object")
        metadata = {}
    if UNKNOWN in metadata:
        raise DocumentError("reserved_name", f"{place}: metadata has `{UNKNOWN}`, which is kept for unknown fields: rename it")
    return {**metadata, UNKNOWN: unknown} if unknown else metadata


def _agreed_version(own: object, header: int | None, place: str) -> int | None:
    if isinstance(own, float) and own.is_integer():
        own = int(own)  # 7.0 is an integer to JSON Schema, and to languages with one kind of number
    _check_version(own)
    if header is not None and own is not None and own != header:
        raise DocumentError("bad_version", f"{place}: version is {own} in the value and {header} in the header: send one")
    return header if own is None else own  # type: ignore[return-value]  # it was checked


def _header_version(headers: Sequence[tuple[str, bytes]]) -> int | None:
    found = {raw for name, raw in headers if name == "version"}
    if not found:
        return None
    raw = next(iter(found))
    text = raw.decode("latin-1")
    if len(found) > 1 or not _DIGITS.fullmatch(text):
        raise DocumentError("bad_version", f"header version is {short(sorted(found))}, must be decimal digits, once")
    return int(text)


def _check_names(source: object, key: object, tenant: object) -> None:
    for name, value, optional in (("source", source, False), ("key", key, False), ("tenant", tenant, True)):
        if value is None and optional:
            continue
        if not isinstance(value, str) or not value:
            raise DocumentError("wrong_type", f"{name} is {short(value)}, must be a string that is not empty")
        if len(value) > MAX_NAME_CHARS:
            raise DocumentError(
                "name_too_long", f"{name} {value[:60]!r}... has {len(value)} characters, the limit is {MAX_NAME_CHARS}"
            )
        _utf8(value, name, name)


def _check_version(version: object) -> None:
    if version is None:
        return
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= MAX_VERSION:
        raise DocumentError("bad_version", f"version is {short(version)}, must be an integer from 0 to 2**53-1")


def _check_metadata(metadata: object, place: str) -> None:
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        raise DocumentError("wrong_type", f"{place}: metadata is {type(metadata).__name__}, must be a JSON object")
    if nesting(metadata, MAX_JSON_DEPTH) > MAX_JSON_DEPTH:
        raise DocumentError("too_deep", f"{place}: metadata is nested deeper than {MAX_JSON_DEPTH}")
    try:
        size = len(_utf8(json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False), place, "metadata"))
    except (TypeError, ValueError) as exc:
        raise DocumentError("wrong_type", f"{place}: metadata is not JSON: {exc}") from exc
    if size > MAX_METADATA_BYTES:
        raise DocumentError("too_large", f"{place}: metadata has {size} bytes, the limit is {MAX_METADATA_BYTES}")
    for number in integers(metadata):
        if abs(number) > MAX_VERSION:
            raise DocumentError(
                "not_exact",
                f"{place}: metadata has the integer {str(number)[:40]}, beyond 2**53-1, which not every reader gets right: "
                "send a string",
            )
    unknown = metadata.get(UNKNOWN, {})
    if not isinstance(unknown, Mapping) or set(unknown) & set(FIELDS):
        raise DocumentError("reserved_name", f"{place}: metadata has `{UNKNOWN}`, which is kept for unknown fields: rename it")


def _utf8(value: str, place: str, name: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as exc:
        raise DocumentError("lone_surrogate", f"{place}: {name} has half a surrogate pair at character {exc.start}") from exc
