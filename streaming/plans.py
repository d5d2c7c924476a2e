"""The effect of each message of a batch on its document. Pure: decisions over plain data.

The law: an older version never overwrites a newer one, nor brings a deleted document back. An equal one is applied again, which
finishes an interrupted write. `Version` says which of two is older. A message that cannot be used is refused and its neighbours
go on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from streaming.decode import Event
from twinline.clients.store.protocol import Head
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.encoder.chunking import Chunk
from twinline.contract.errors import DocumentError


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written for one document: its head, and its chunks, none for a deletion.

    `previous` is the head that was stored before this batch, None for a document never seen.
    """

    event: Event
    head: Head
    chunks: Sequence[Chunk]
    previous: Head | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that cannot be used, and at which stage that was found."""

    event: Event
    stage: str
    error: DocumentError


@dataclass(slots=True)
class Decision:
    """One plan a document, by head id; messages that newer ones overtook; and messages to set aside."""

    plans: dict[UUID, Plan] = field(default_factory=dict)
    stale: list[Event] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


def document_ids(events: Iterable[Event]) -> list[UUID]:
    """Return the head ids of the documents that events are about, each once, in the order they come."""
    return list(dict.fromkeys(head_id(event.item.source, event.item.key) for event in events))


def decide(events: Sequence[Event], heads: Mapping[UUID, Head], chunk: Callable[[Document], list[Chunk]]) -> Decision:
    """Return what to do with a batch, its messages taken in the order of the log.

    Args:
        heads: what is stored now, by head id.
        chunk: cuts a document; raises DocumentError.
    """
    decision = Decision()
    for event in events:
        id_ = head_id(event.item.source, event.item.key)
        planned = decision.plans.get(id_)
        current = planned.head if planned else heads.get(id_)
        stage = "version"
        try:
            if current is not None and event.version < current.version:
                decision.stale.append(event)
                continue
            stage = "chunk"
            chunks = [] if isinstance(event.item, Deletion) else chunk(event.item)
        except DocumentError as exc:
            # An earlier message of the same document stays planned: this one is as if it had not been sent.
            decision.refused.append(Refusal(event, stage, exc))
            continue
        if planned:
            decision.stale.append(planned.event)
        version = event.version.after(current.version if current else None)
        metadata = None if isinstance(event.item, Deletion) else event.item.metadata
        head = Head(event.item.source, event.item.key, version, isinstance(event.item, Deletion), len(chunks), metadata)
        decision.plans[id_] = Plan(event, head, chunks, heads.get(id_))
    return decision
