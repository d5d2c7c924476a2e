"""Take a document's text out of the dead letters.

Kafka deletes only the beginning of a topic. So the letters up to the document's last one are written again at the end, the
document's own without key, text and error. Then that beginning is deleted. A letter carries its message's place, which identifies
it, so a move changes nothing for readers. A crash between the two steps leaves letters twice; they count as one, and a repeat
finishes the work.
"""

from contextlib import closing
from dataclasses import replace
from typing import Final

from streaming.decode import Message
from streaming.erased import REASON
from twinline.clients.kafka.connect import MAX_DEAD_LETTER_BYTES, kafka_errors, make_producer
from twinline.clients.kafka.stretch import delete_before, headers_of
from twinline.clients.settings import Settings
from twinline.upkeep.dead_letters.acts import Act, ActLog
from twinline.upkeep.dead_letters.entries import document_of, message_id, read_letters

_CONFIRM_SECONDS: Final = 30.0


def purge(settings: Settings, source: str, key: str, token: str) -> list[str]:
    """Take a document out of the dead letters, and note them as discarded; return the places of their messages.

    Args:
        token: the hash that stands for the document from now on.

    Raises:
        TransientError: the broker went away; a repeat finishes.
    """
    ours = {
        record.offset: message_id(letter)
        for record, letter in read_letters(settings)
        if document_of(letter.message.key) == (source, key)
    }
    if not ours:
        return []
    last = max(ours)
    producer = make_producer(settings, max_request_size=MAX_DEAD_LETTER_BYTES)
    try:
        for record, letter in read_letters(settings, ends={0: last + 1}):
            sent = record.key, record.value, headers_of(record)
            if record.offset in ours:
                place = letter.message.partition, letter.message.offset, letter.message.timestamp_ms
                message = Message(*place, f"{REASON}:{token}".encode(), None)
                without = replace(letter, message=message, reason=REASON, error="the document was erased: nothing of it is kept")
                sent = message.key, None, without.headers()
            with kafka_errors(settings):
                key_bytes, value, headers = sent
                future = producer.send(settings.dead_letter_topic, key=key_bytes, value=value, headers=headers)
                future.get(timeout=_CONFIRM_SECONDS)
    finally:
        producer.close(timeout=_CONFIRM_SECONDS)
    messages = sorted(set(ours.values()))
    with closing(ActLog(settings)) as log:
        log.add([Act.of(message, "discarded", why=REASON) for message in messages])
    delete_before(settings, settings.dead_letter_topic, {0: last + 1})
    return messages
