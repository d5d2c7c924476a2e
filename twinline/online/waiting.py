"""What the log holds beyond an index: the messages that a release's consumer has not committed, and those of one document."""

import json
from typing import Final

from twinline.clients.kafka.connect import beginning_offsets, committed_offsets, end_offsets
from twinline.clients.kafka.stretch import read_topic
from twinline.clients.settings import Settings
from twinline.contract.release.manifest import consumer_group
from twinline.search.explanation import Waiting

# The log has no index by key, so they are read one by one; more are only counted.
MOST_READ: Final = 20_000


def waiting_in_log(settings: Settings, release: str, source: str | None, key: str) -> Waiting:
    """Return what of the log a release's index does not have yet.

    Args:
        source: of the document; None: a document of any source with this key.

    Raises:
        SettingsError: there is no topic, or the broker refuses the credentials.
        TransientError: no broker answers.
    """
    ends, begins = end_offsets(settings, settings.topic), beginning_offsets(settings, settings.topic)
    committed = committed_offsets(settings, consumer_group(release), settings.topic)
    starts = {number: committed.get(number, begin) for number, begin in begins.items()}
    messages = sum(max(0, end - starts[number]) for number, end in ends.items())
    if messages > MOST_READ:
        return Waiting(messages, complete=False)
    own = [
        (record.timestamp, record.partition, record.offset)
        for record in read_topic(settings, settings.topic, starts, ends)
        if is_key_of(record.key, source, key)
    ]
    return Waiting(messages, max(own)[1:] if own else None)


def is_key_of(message_key: bytes | None, source: str | None, key: str) -> bool:
    """Return whether a message's key names a document; a key that is no array of two names none."""
    try:
        parts = json.loads(message_key or b"null")
    except (ValueError, RecursionError):
        return False
    return isinstance(parts, list) and len(parts) == 2 and parts[1] == key and source in (None, parts[0])
