"""Repair: remove stray points, and apply the log's own messages of the other documents by `handle()` again.

Nothing new is published, and only the consumer's law writes. Repaired documents are compared again afterwards.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from streaming.decode import Message
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import MAX_TEXT_BYTES
from twinline.upkeep.reconcile.compare import Finding
from twinline.upkeep.reconcile.ledger import Ledger
from twinline.upkeep.reconcile.target import Index

_MESSAGES_AT_ONCE: Final = 16
_BYTES_AT_ONCE: Final = MAX_TEXT_BYTES // 4
_POINTS_AT_ONCE: Final = 200


def repair(findings: Iterable[Finding], ledger: Ledger, index: Index) -> dict[str, int]:
    """Repair the findings; return the numbers of removed points and of documents applied again.

    Raises:
        TransientError: a dependency is away; a repeat resumes.
    """
    documents: dict[str, None] = {}
    removed = 0
    unwanted = []
    for finding in findings:
        doc = str(head_id(finding.source, finding.key))
        if ledger.message_of(doc) is not None:
            documents[doc] = None
        if finding.remove and finding.point is not None:
            unwanted.append(finding.point)
        if len(unwanted) >= _POINTS_AT_ONCE:
            index.remove(unwanted)
            removed, unwanted = removed + len(unwanted), []
    index.remove(unwanted)
    applied = 0
    for batch in batches(message for doc in documents if (message := ledger.message_of(doc)) is not None):
        index.apply(batch)
        applied += len(batch)
    return {"removed": removed + len(unwanted), "applied": applied}


def batches(
    messages: Iterable[Message], most: int = _MESSAGES_AT_ONCE, most_bytes: int = _BYTES_AT_ONCE
) -> Iterator[list[Message]]:
    """Yield messages in batches of few messages and bytes; a large message is a batch of its own."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        own = len(message.value or b"")
        if batch and (len(batch) >= most or size + own > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += own
    if batch:
        yield batch
