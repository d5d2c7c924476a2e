"""From an answer back to its bytes: point, message, document, source file, chunk, contract, release, training."""

from uuid import UUID

from twinline.clients.online import CollectionStatus
from twinline.clients.store.protocol import Head, Payload, document_metadata
from twinline.contract.documents.ids import head_id
from twinline.contract.errors import SettingsError, TransientError
from twinline.upkeep.trace.document import chunk_section, message_sections, point_section
from twinline.upkeep.trace.reach import Reach
from twinline.upkeep.trace.release import contract_section, release_section
from twinline.upkeep.trace.steps import Trace
from twinline.upkeep.trace.target import Target
from twinline.upkeep.trace.training import training_section


def trace_point(reach: Reach, target: Target) -> Trace:
    """Trace a point, or a hit of an answer, back through all its inputs.

    Raises:
        SettingsError: there is no such point in any collection.
        TransientError: the online process, the only reader of the store, is away.
    """
    id_, payload, collection, note = _find(reach, target)
    sections, document = message_sections(reach, payload)
    first = point_section(id_, payload, collection)
    if note:
        first.record("answer", target.said, note)
    release = payload["release"]
    rest = [
        chunk_section(reach, payload, document),
        contract_section(reach, release, payload["contract"]),
        release_section(reach, release, payload["space"]),
        training_section(reach, release),
    ]
    return Trace(target.said, [step for section in [first, *sections, *rest] for step in section.steps])


def _find(reach: Reach, target: Target) -> tuple[UUID, Payload, CollectionStatus | None, str]:
    """Return id, payload and collection of the target; the answer's own fields for a hit whose document has changed since."""
    try:
        collections = reach.online.status().collections
    except TransientError as exc:
        if not target.hit:
            raise
        return target.ids[0], target.hit, None, f"the stored point was not looked at: {exc}"
    # The active collection first; for a hit, the collection of its answer.
    wanted = target.hit.get("release")
    ranked = sorted(collections, key=lambda entry: (entry.release != wanted, not entry.active))
    for id_ in target.ids:
        for entry in ranked:
            if wanted and entry.release != wanted:
                continue
            point = reach.online.point(entry.name, id_)
            if point is None or point.payload["kind"] != "chunk":
                continue
            if target.hit and _place(point.payload) != _place(target.hit):
                return id_, target.hit, entry, "the document was indexed again since this answer: what the answer said is traced"
            return id_, _with_metadata(reach, entry.name, point.payload), entry, ""
    if target.hit:
        return target.ids[0], target.hit, None, "the point of this answer is not stored any more: what the answer said is traced"
    names = ", ".join(entry.name for entry in ranked) or "none is served"
    raise SettingsError(f"{target.said} is in no collection ({names}): was it deleted? `twinline trace --document KEY`")


def _with_metadata(reach: Reach, collection: str, chunk: Payload) -> Payload:
    """Return a chunk's payload with all metadata of its document, and its own part of them as `filterable`."""
    found = reach.online.point(collection, head_id(chunk["source"], chunk["key"]))
    head = Head.from_payload(found.payload) if found else None
    if head is None or head.metadata is None:
        return chunk
    return {**chunk, "metadata": document_metadata(chunk, head), "filterable": chunk["metadata"]}


def _place(payload: Payload) -> tuple[object, ...]:
    return tuple(payload[name] for name in ("partition", "offset", "content_hash"))
