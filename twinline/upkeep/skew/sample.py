"""The live sample: the offline path makes documents again from their raw messages, to compare with the stored ones."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streaming.decode import Event, Message, decode
from twinline.clients.store.audit import said_hash
from twinline.clients.store.protocol import Head, StoredPoint, stored_version
from twinline.clients.store.vectors import WORDS
from twinline.contract.canonical import JSON
from twinline.contract.documents.filterable import filterable
from twinline.contract.documents.records import Deletion
from twinline.contract.encoder.chunking import Chunk
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.errors import DocumentError
from twinline.contract.release.manifest import Manifest
from twinline.upkeep.skew.pieces import Offline, Place, SamplePlan
from twinline.upkeep.skew.report import SampleReport

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """One document: its chunks, how many agree in each property, the distances of their vectors, and the first fault.

    `expired`: the log no longer has its message, and nothing was compared.
    """

    place: str
    chunks: int = 0
    spans: int = 0
    tokens: int = 0
    vectors: int = 0
    words: int = 0
    distances: tuple[float, ...] = ()
    fault: str = ""
    expired: bool = False


def measure_sample(plan: SamplePlan, offline: Offline, manifest: Manifest, limit: float) -> SampleReport:
    """Compare random stored documents with the offline path's results from their messages.

    Args:
        plan: the readers of documents and messages, and the size of the sample.
        offline: decodes nothing, but cuts, tokenises and embeds.
        manifest: the release's manifest, whose space every point must name.
        limit: the largest cosine distance that two vectors of the served format may have.

    Raises:
        TransientError: the store or the log is away.
    """
    heads = plan.stored.choose(plan.size, plan.seed)
    compared = _compare(heads, plan, offline, manifest, limit)
    suspects = [head for head in heads if compared[head].fault]
    moved: set[Head] = set()
    if suspects:
        # A document may be written between two reads: one look is not enough for a fault.
        time.sleep(plan.pause_seconds)
        now = {head: plan.stored.head(head.source, head.key) for head in suspects}
        moved = {head for head in suspects if now[head] != head}
        compared |= _compare([head for head in suspects if head not in moved], plan, offline, manifest, limit)
    has_words = offline.words is not None
    return _report([compared[head] for head in heads if head not in moved], len(heads), len(moved), limit, has_words)


def _compare(
    heads: Sequence[Head], plan: SamplePlan, offline: Offline, manifest: Manifest, limit: float
) -> dict[Head, Comparison]:
    stored = {head: plan.stored.chunks(head.source, head.key) for head in heads}
    places = {head: _place(points) for head, points in stored.items()}
    messages = plan.log.messages(sorted({place for place in places.values() if place is not None}))
    compared = {}
    for head, points in stored.items():
        place = places[head]
        if place is None:
            fault = f"none of its {head.chunk_count} chunks is stored"
            compared[head] = Comparison(_name(head), chunks=head.chunk_count, fault=fault)
        elif place not in messages:
            compared[head] = Comparison(_name(head), expired=True)
        else:
            compared[head] = _compare_document(head, points, messages[place], offline, manifest, limit)
    return compared


def _compare_document(
    head: Head, points: Sequence[StoredPoint], message: Message, offline: Offline, manifest: Manifest, limit: float
) -> Comparison:
    """Cut and embed one document here from its message, and compare it with its points."""
    where = f"the message {message.partition}/{message.offset}, named by its points,"
    count = max(len(points), head.chunk_count)
    try:
        event = decode(message)
        if isinstance(event.item, Deletion) or (event.item.source, event.item.key) != (head.source, head.key):
            return Comparison(_name(head), chunks=count, fault=f"{where} is of another document")
        if not event.version.is_same_state(head.version):
            return Comparison(_name(head), chunks=count, fault=f"{where} has another version than its head")
        chunks = offline.chunks(event.item)
    except DocumentError as exc:
        return Comparison(_name(head), chunks=count, fault=f"{where} cannot be indexed: {exc}")
    vectors = offline.vectors(offline.encode([chunk.encoder_text for chunk in chunks], "document").token_ids)
    copied = _copied(event)
    faults: list[str] = []
    metadata = event.item.metadata
    # An older release of Twinline left all metadata on the chunks.
    part = metadata if head.metadata is None else filterable(metadata, manifest.index.declared)
    if head.metadata is not None and not _same_metadata(head.metadata, metadata):
        faults.append(f"the head is stored with other metadata than {where} has")
    by_index = {int(point.payload["chunk_index"]): point for point in points}
    words = offline.words() if offline.words is not None else None
    spans, tokens, near, said = 0, 0, 0, 0
    distances = []
    for chunk, vector in zip(chunks, vectors, strict=True):
        point = by_index.get(chunk.index)
        if point is None or point.dense is None:
            faults.append(f"chunk {chunk.index} is not stored")
            continue
        other = [name for name, value in copied.items() if point.payload[name] != value]
        if not _same_metadata(point.payload["metadata"], part):
            other.append("metadata")
        if not stored_version(point.payload).is_same_state(event.version):
            other.append("version")
        if other:
            faults.append(f"chunk {chunk.index} is stored with another {', '.join(other)} than {where} has")
        distance = _distance(vector, point, manifest)
        distances.append(distance)
        agree = (
            _same_span(chunk, point.payload),
            _same_tokens(chunk, point.payload),
            distance <= limit,
            words is None or point.vectors.get(WORDS) == words.document(chunk.encoder_text),
        )
        spans, tokens, near, said = spans + agree[0], tokens + agree[1], near + agree[2], said + agree[3]
        faults += [
            f"chunk {chunk.index} {fault}"
            for good, fault in zip(agree, _faults(chunk, point, distance, limit), strict=True)
            if not good
        ]
    surplus = len(by_index.keys() - {chunk.index for chunk in chunks})
    if surplus:
        faults.append(f"{surplus} chunks are stored that the offline path does not make")
    return Comparison(
        _name(head),
        len(chunks) + surplus,
        spans,
        tokens,
        near,
        said,
        tuple(distances),
        faults[0] if faults else "",
    )


def _copied(event: Event) -> dict[str, JSON]:
    """Return the fields that each point copies from its message: place, tenant, title."""
    item, message = event.item, event.message
    said: dict[str, JSON] = {"partition": message.partition, "offset": message.offset}
    return said if isinstance(item, Deletion) else {**said, "title": item.title, "tenant": item.tenant}


def _same_metadata(stored: Mapping[str, object], said: Mapping[str, object]) -> bool:
    # As hashes: a store may give 1 back as 1.0.
    return said_hash({"metadata": dict(stored)}) == said_hash({"metadata": dict(said)})


def _same_span(chunk: Chunk, payload: Mapping[str, object]) -> bool:
    return (payload["start"], payload["end"], payload["text"]) == (chunk.start, chunk.end, chunk.text)


def _same_tokens(chunk: Chunk, payload: Mapping[str, object]) -> bool:
    found = (payload["token_count"], payload["truncated"], payload["content_hash"])
    return found == (chunk.token_count, chunk.truncated, chunk.content_hash)


def _distance(vector: np.ndarray[tuple[int], np.dtype[np.float32]], point: StoredPoint, manifest: Manifest) -> float:
    """Return the cosine distance; infinite for another shape, a NaN, or another release's vector."""
    written_by = tuple(point.payload[field] for field in ("space", "contract", "release"))
    if written_by != (manifest.space, manifest.fingerprints.contract, manifest.release):
        return float("inf")
    if point.dense is None or point.dense.shape != vector.shape:
        return float("inf")
    distance = float(cosine_distance(vector[None, :], point.dense[None, :])[0])
    return distance if np.isfinite(distance) else float("inf")


def _faults(chunk: Chunk, point: StoredPoint, distance: float, limit: float) -> tuple[str, str, str, str]:
    payload = point.payload
    return (
        f"is stored as {payload['start']}..{payload['end']}, offline it is {chunk.start}..{chunk.end}, or cleaned otherwise",
        f"is stored with {payload['token_count']} tokens, offline it has {chunk.token_count}, or the encoder read another text",
        f"is stored {distance:.2e} away from the offline vector, the limit is {limit:.0e} (written by release "
        f"{payload['release']}, space {payload['space'][:12]}, contract {payload['contract'][:12]})",
        "is stored under other terms or weights than the release's words make of its text",
    )


def _place(points: Sequence[StoredPoint]) -> Place | None:
    if not points:
        return None
    newest = max(points, key=lambda point: (point.payload["version"], point.payload["version_offset"]))
    return int(newest.payload["partition"]), int(newest.payload["offset"])


def _name(head: Head) -> str:
    return f"[{head.source}, {head.key}]"


def _report(comparisons: Sequence[Comparison], documents: int, moved: int, limit: float, has_words: bool) -> SampleReport:
    compared = [each for each in comparisons if not each.expired]
    measured = [(distance, each.place) for each in compared for distance in each.distances]
    worst, place = max(measured, default=(None, ""), key=lambda pair: pair[0] or 0.0)
    faults = [f"{each.place}: {each.fault}" for each in compared if each.fault]
    return SampleReport(
        documents=documents,
        compared=len(compared),
        expired=len(comparisons) - len(compared),
        moved=moved,
        chunks=sum(each.chunks for each in compared),
        spans=sum(each.spans for each in compared),
        tokens=sum(each.tokens for each in compared),
        vectors=sum(each.vectors for each in compared),
        worst=worst,
        median=float(np.median([distance for distance, _ in measured])) if measured else None,
        limit=limit,
        worst_document=place,
        faults=tuple(faults[:_NAMED]),
        words=sum(each.words for each in compared) if has_words else None,
    )
