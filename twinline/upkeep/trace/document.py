"""The document's half of a trace: point, message, source file, chunk; each computed again from the one before it."""

import hashlib
from pathlib import Path
from typing import IO, Final
from uuid import UUID
from zipfile import BadZipFile, ZipFile

from streaming.decode import Event, Message, decode, lineage_headers
from twinline.clients.online import CollectionStatus
from twinline.clients.store.protocol import Payload, stored_version
from twinline.contract.canonical import sha256_hex
from twinline.contract.documents.filterable import filterable
from twinline.contract.documents.ids import point_id
from twinline.contract.documents.records import Document, content_hash, encode_key
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.release.manifest import MANIFEST_FILE
from twinline.registry.revisions import NotHereError
from twinline.upkeep.trace.git import commit_subject
from twinline.upkeep.trace.reach import Reach
from twinline.upkeep.trace.steps import Section
from twinline.upkeep.trace.training import read_json

_FILE: Final = "file://"


def point_section(id_: UUID, payload: Payload, collection: CollectionStatus | None) -> Section:
    """Compare a point with its document's name and with its collection."""
    section = Section("point")
    section.compare("id", str(id_), str(point_id(payload["source"], payload["key"], payload["chunk_index"])))
    if collection is None:
        section.absent("collection", payload["release"], "the collection of this release is not served: `twinline status`")
        return section
    section.record("collection", collection.name, "active" if collection.active else "")
    section.compare("release", payload["release"], collection.release)
    section.compare("space", payload["space"], collection.space)
    section.compare("contract", payload["contract"], collection.contract)
    return section


def message_sections(reach: Reach, payload: Payload) -> tuple[list[Section], Document | None]:
    """Compare a point with its message, and the message with its source file.

    Returns:
        The sections `message`, `document` and `source`, and the message's document, None where it is not here.
    """
    place = f"{reach.settings.topic}[{payload['partition']}] offset {payload['offset']}"
    log, said, source = Section("message"), Section("document"), Section("source")
    log.record("place", place)
    document: Document | None = None
    message: Message | None = None
    with log.looking("message", place):
        message = reach.read_message(payload["partition"], payload["offset"])
        log.compare("key", encode_key(payload["source"], payload["key"]).decode(), (message.key or b"").decode(errors="replace"))
        log.compare("timestamp_ms", payload["timestamp_ms"], message.timestamp_ms)
        log.record("value SHA-256", sha256_hex(message.value or b""), f"of its {len(message.value or b'')} bytes, read just now")
        event = decode(message)
        document = event.item if isinstance(event.item, Document) else None
        _compare_document(said, payload, event)
        if document is not None and "filterable" in payload:
            with said.looking("filterable metadata"):
                manifest = read_json(reach.release_folder(payload["release"]) / MANIFEST_FILE)
                declared = IndexSettings.from_json(manifest.get("index", {})).declared
                part = filterable(document.metadata, declared)
                said.compare("filterable metadata", dict(payload["filterable"]), part, "on the chunk")
    if not said.steps:
        for name in ("source", "key", "title", "tenant"):
            said.record(name, payload[name])
    headers = payload["headers"]
    if message is not None:
        headers = lineage_headers(message)
        for name, value in payload["headers"].items():
            # A build from a snapshot computes this header where the producer did not set it.
            if name in headers or name != "source_sha256":
                log.compare(f"header {name}", value, headers.get(name))
    _add_producer(log, reach.repository, headers, document)
    _add_source(source, headers)
    return [log, said, source], document


def chunk_section(reach: Reach, payload: Payload, document: Document | None) -> Section:
    """Cut the document again by the release's contract, and compare the chunk with the point."""
    section = Section("chunk")
    index = payload["chunk_index"]
    with section.looking("chunk", index):
        preprocessor = Preprocessor.load(reach.release_folder(payload["release"]))
        rules, chunker = preprocessor.contract.index.cleaning, preprocessor.contract.index.chunker
        section.record("cleaning", ", ".join(f"{name}@{version}" for name, version in rules))
        section.record("chunker", f"{chunker.name}@{chunker.version}, overlap {chunker.overlap_tokens}, title {chunker.title}")
        if document is None:
            raise NotHereError("the text that it was cut from is not here: see the message")
        chunks = preprocessor.chunks(document)
        if index >= len(chunks):
            section.differs("chunk", index, len(chunks), "the document has fewer chunks than that")
            return section
        chunk = chunks[index]
        section.record("chunk", index, f"of {len(chunks)}")
        section.compare("span", [payload["start"], payload["end"]], [chunk.start, chunk.end], "code points of the raw text")
        section.compare("clean text SHA-256", sha256_hex(payload["text"].encode()), sha256_hex(chunk.text.encode()))
        section.compare("content hash", payload["content_hash"], chunk.content_hash, "of what the encoder reads")
        if "token_count" in payload:
            section.compare("tokens", payload["token_count"], chunk.token_count)
            section.compare("truncated", payload["truncated"], chunk.truncated)
    return section


def _compare_document(section: Section, payload: Payload, event: Event) -> None:
    found = event.item
    section.compare("source", payload["source"], found.source)
    section.compare("key", payload["key"], found.key)
    version = stored_version(payload)
    if version.is_same_state(event.version) and version.number > event.version.number:
        # Stored with the time of an earlier state in its partition: the broker's clock stepped back between the two.
        version = event.version
    section.compare("version", [version.kind, *version.rank], [event.version.kind, *event.version.rank])
    if not isinstance(found, Document):
        section.differs("text", "a document", "a deletion")
        return
    section.compare("title", payload["title"], found.title)
    # An absent tenant is compared too.
    section.compare("tenant", payload["tenant"] or "", found.tenant or "")
    section.compare("metadata", dict(payload["metadata"]), dict(found.metadata))


def _add_producer(section: Section, repository: Path, headers: Payload, document: Document | None) -> None:
    if document is not None and "source_sha256" in headers:
        note = "of what the document says: source, key, title, text, metadata, tenant"
        section.compare("content SHA-256", headers["source_sha256"], content_hash(document), note)
    section.record("run", headers.get("run_id"), "the ingest run that published it")
    if revision := headers.get("git_revision"):
        with section.looking("producer's Git revision", revision):
            section.compare("producer's Git revision", revision, *commit_subject(repository, revision))


def _add_source(section: Section, headers: Payload) -> None:
    """Hash the document's source file again, where it is on this machine."""
    uri, line = headers.get("source_uri"), headers.get("source_line")
    if not uri:
        section.absent("file", None, "the producer did not say where it read the document")
        return
    section.record("file", uri)
    section.record("line", int(line) if line and str(line).isdecimal() and len(str(line)) < 20 else None)
    recorded = headers.get("source_file_sha256")
    with section.looking("file SHA-256", recorded):
        found = _hash_of(uri)
        if recorded and found != recorded:
            # Not a fault: people edit their files. The log has the published text.
            raise NotHereError(f"the file has changed since it was published, its SHA-256 is {found} now")
        section.compare("file SHA-256", recorded, found)


def _hash_of(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    inside, is_zipped, archive = rest.rpartition(f"::{_FILE}")
    try:
        if scheme == "zip" and is_zipped:
            with ZipFile(archive) as opened, opened.open(inside) as stream:
                return _digest(stream)
        if scheme == "file":
            with Path(rest).open("rb") as stream:
                return _digest(stream)
    except (OSError, KeyError, BadZipFile) as exc:
        raise NotHereError(f"{uri} cannot be read here ({exc}): look where it was published from") from exc
    # A header may hold any address: a trace does not fetch a stranger's address.
    raise NotHereError("the address is of another machine, and is not fetched by a trace: fetch it, and compare its SHA-256")


def _digest(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
