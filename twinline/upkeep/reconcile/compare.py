"""One document: its expected points, and the faults of the stored ones. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from streaming.decode import Event
from streaming.points import chunk_fields
from twinline.clients.store.audit import PointFacts, is_newer, said_hash, words_hash
from twinline.clients.store.protocol import CollectionInfo
from twinline.contract.canonical import JSON
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.encoder.chunking import Chunk
from twinline.contract.sparse.weights import Words

Kind = Literal["missing", "orphan", "stale", "ahead", "wrong_release", "wrong_text", "bad_vector", "wrong_words"]

KINDS: Final[dict[Kind, str]] = {
    "missing": "the log has it, the index does not",
    "orphan": "stored, but of no document, or beyond its document's chunks",
    "stale": "an older state than the log has",
    "ahead": "a state that the log never had",
    "wrong_release": "made in another space, or by another contract or release",
    "wrong_text": "not what the text in the log makes",
    "bad_vector": "the vector is absent, not finite, zero, or of another size",
    "wrong_words": "not the terms and weights that the text in the log makes",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. `remove`: the point must be removed before the document is applied again."""

    kind: Kind
    source: str
    key: str
    detail: str
    point: PointFacts | None = None
    remove: bool = False

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        point = str(self.point.id) if self.point else None
        return {"kind": self.kind, "source": self.source, "key": self.key, "point": point, "detail": self.detail}


def compare_document(
    event: Event, chunks: Sequence[Chunk], points: Sequence[PointFacts], info: CollectionInfo, words: Words | None = None
) -> list[Finding]:
    """Compare one document of the log with the points that name it.

    Args:
        chunks: the document's chunks by the release's contract; none for a deletion.
        words: the release's; None in a release without words.
    """
    return list(_Comparison(event, chunks, info, words).findings(points))


def stray(point: PointFacts) -> Finding:
    """Return the finding of a point whose document the log does not have."""
    what = f"a {point.kind} of a document that the log does not have" if point.source is not None else "it names no document"
    return Finding("orphan", point.source or "", point.key or "", what, point, remove=True)


class _Comparison:
    def __init__(self, event: Event, chunks: Sequence[Chunk], info: CollectionInfo, words: Words | None) -> None:
        self._event = event
        self._chunks = chunks
        self._info = info
        self._words = words
        self._source, self._key = event.item.source, event.item.key

    def findings(self, points: Sequence[PointFacts]) -> Iterator[Finding]:
        own_head = head_id(self._source, self._key)
        head = next((point for point in points if point.id == own_head and point.kind == "head"), None)
        yield from self._head(head)
        # An older release of Twinline left all metadata on the chunks.
        whole = head is not None and not head.said
        by_id = {point.id: point for point in points if point.id != own_head or point.kind != "head"}
        for chunk in self._chunks:
            yield from self._chunk(chunk, by_id.pop(point_id(self._source, self._key, chunk.index), None), whole)
        for point in by_id.values():
            what = "a deleted document" if isinstance(self._event.item, Deletion) else f"a document of {len(self._chunks)} chunks"
            yield self._finding("orphan", f"{point.kind} {point.chunk_index} of {what}", point, remove=True)

    def _head(self, head: PointFacts | None) -> Iterator[Finding]:
        deleted = isinstance(self._event.item, Deletion)
        if head is None:
            yield self._finding(
                "missing", "it has no head, which keeps late events of a deleted document out" if deleted else "no head"
            )
            return
        before = len(found := list(self._version(head, "the head")))
        yield from found
        if bool(head.deleted) != deleted:
            yield self._finding("stale", f"the head says it is {'' if head.deleted else 'not '}deleted", head)
        elif not deleted and head.chunk_count != len(self._chunks):
            yield self._finding(
                "wrong_text", f"the head says {head.chunk_count} chunks, the text makes {len(self._chunks)}", head
            )
        document = self._event.item
        if not before and isinstance(document, Document) and head.said not in ("", _metadata_hash(document)):
            yield self._finding("wrong_text", "the head has other metadata than the log", head)

    def _chunk(self, chunk: Chunk, point: PointFacts | None, whole: bool) -> Iterator[Finding]:
        name = f"chunk {chunk.index}"
        if point is None:
            yield self._finding("missing", f"{name} of {len(self._chunks)} is not stored")
            return
        before = len(found := list(self._version(point, name)))
        yield from found
        written_by = (point.space, point.contract, point.release)
        if written_by != (self._info.space, self._info.contract_fingerprint, self._info.release):
            # Removed first: its vector must not be reused.
            said = f"{name} is of release {point.release}, space {str(point.space)[:12]}, contract {str(point.contract)[:12]}"
            yield self._finding("wrong_release", said, point, remove=True)
        if point.vector_fault:
            yield self._finding("bad_vector", f"{name}: {point.vector_fault}", point, remove=True)
        if before:
            return
        if point.said != said_hash(self._payload(chunk, whole)):
            yield self._finding("wrong_text", f"{name} is not what the text in the log makes", point)
        # Made again from the text whenever the document is applied, so the point may stay.
        elif self._words and not point.vector_fault and point.words != words_hash(self._words.document(chunk.encoder_text)):
            yield self._finding("wrong_words", f"{name} is not stored under the terms and weights that its text makes", point)

    def _version(self, point: PointFacts, name: str) -> Iterator[Finding]:
        wanted, stored = self._event.version, point.stored_version
        if stored is None or stored.kind != wanted.kind:
            yield self._finding("ahead", f"{name} has no version that can be compared: {dict(point.version)}", point, remove=True)
        elif stored.is_same_state(wanted) and stored.number >= wanted.number:
            # Higher after a step back of the broker's clock: within a partition, time never goes back.
            return
        elif is_newer(stored, wanted):
            said = f"{name} has version {stored.number}, the log ends with {wanted.number}"
            yield self._finding("ahead", said, point, remove=True)
        else:
            yield self._finding("stale", f"{name} has version {stored.number}, the log {wanted.number}", point)

    def _payload(self, chunk: Chunk, whole: bool) -> dict[str, JSON]:
        document = self._event.item
        if not isinstance(document, Document):
            return {}
        fields = chunk_fields(document, chunk, self._info.index.declared)
        return {**fields, "metadata": dict(document.metadata)} if whole else fields

    def _finding(self, kind: Kind, detail: str, point: PointFacts | None = None, remove: bool = False) -> Finding:
        return Finding(kind, self._source, self._key, detail, point, remove)


def _metadata_hash(document: Document) -> str:
    return said_hash({"metadata": dict(document.metadata)})
