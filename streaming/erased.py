"""Messages of erased documents are not indexed, and their dead letters hold no text."""

from collections.abc import Sequence
from typing import Protocol

from streaming.decode import Message, named_document
from twinline.clients.erasure_list import Erasures
from twinline.contract.errors import DocumentError

REASON = "erased"


class KnowsErasures(Protocol):
    """The current list of erased documents."""

    def current(self) -> Erasures:
        """Return the list; raise TransientError when it cannot be read now."""


def keep_erased_out(
    batch: Sequence[Message], erasures: Erasures
) -> tuple[list[Message], int, list[tuple[Message, DocumentError]]]:
    """Separate the messages of erased documents from the others.

    Deletions are kept: they remove a document, and hold no text of it.

    Returns:
        The others in their order; the number of messages from before the erasure, dropped silently; the messages from after it.
        Those have no key, text or headers, and each has the error that refuses it.
    """
    if not erasures.entries:
        return list(batch), 0, []
    kept: list[Message] = []
    refused: list[tuple[Message, DocumentError]] = []
    before = 0
    for message in batch:
        name = named_document(message.key)
        verdict = erasures.verdict(*name, message.timestamp_ms) if name and message.value is not None else "free"
        if name is None or verdict == "free":
            kept.append(message)
        elif verdict == "before":
            before += 1
        else:
            token = f"{REASON}:{erasures.token(*name)}".encode()
            without = Message(message.partition, message.offset, message.timestamp_ms, token, None)
            refused.append((without, DocumentError(REASON, erasures.refusal(*name))))
    return kept, before, refused
