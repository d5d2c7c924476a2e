"""Messages of erased documents are not indexed, and what is set aside of them is not their text."""

from collections.abc import Sequence
from typing import Protocol

from streaming.decode import Message, named_document
from twinline.clients.erasure_list import Erasures
from twinline.contract.errors import DocumentError

REASON = "erased"


class KnowsErasures(Protocol):
    """The list of erased documents, as it is whenever it is asked."""

    def current(self) -> Erasures:
        """Return the list; TransientError when it cannot be had now."""


def keep_erased_out(
    batch: Sequence[Message], erasures: Erasures
) -> tuple[list[Message], int, list[tuple[Message, DocumentError]]]:
    """Part the messages of erased documents from the others.

    Deletions stay: they are what removes a document, and hold no text of it.

    Returns:
        The others in their order; how many the log had before the erasure, which are left out without a word; and those that
        came after it, without key, text and headers, each with why it is refused.
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
