"""Dead letters back onto the log, each as its original message, and never in a circle.

A replayed message keeps its key, value, headers and partition. Its headers name the original message and the number of replays.
It keeps the version that the log had given it, so newer states of its document stay the newest. A message that fails again
becomes a new dead letter with that number; at the limit it stays until a person insists.

Each message is noted as replayed once the log has it. A crash between the two causes a second replay, which the version makes
harmless. A noted message is not sent again.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from streaming.dead_letters import DeadLetter
from streaming.decode import UNREADABLE
from streaming.erased import REASON as ERASED
from twinline.clients.kafka.connect import MAX_DEAD_LETTER_BYTES, end_offsets, kafka_errors, make_producer
from twinline.clients.settings import Settings
from twinline.contract.documents.records import REPLAY_VERSION_HEADER
from twinline.upkeep.dead_letters.acts import Act, ActLog
from twinline.upkeep.dead_letters.entries import ATTEMPT_HEADER, REPLAY_OF_HEADER, Entry, read_letters

MAX_ATTEMPTS: Final = 3
_CONFIRM_SECONDS: Final = 30.0
_OWN_HEADERS: Final = frozenset({ATTEMPT_HEADER, REPLAY_OF_HEADER})


@dataclass(frozen=True, slots=True)
class Choice:
    """The entries to replay, and the others with the reason, by their message."""

    chosen: Sequence[Entry] = ()
    left: dict[str, str] = field(default_factory=dict)


def choose(entries: Sequence[Entry], again: bool, max_attempts: int = MAX_ATTEMPTS) -> Choice:
    """Leave out entries that must not be replayed.

    Args:
        again: include replayed and discarded entries, and those that came back `max_attempts` times.
    """
    chosen, left = [], {}
    for entry in entries:
        if entry.reason == ERASED:
            left[entry.message] = "its document was erased, and its text was not kept"
        elif entry.reason == UNREADABLE:
            # Its letter has no payload, and would go out as a message without key and value.
            left[entry.message] = "its bytes could not be read, nothing can be sent; `twinline replay` reads the log again"
        elif again:
            chosen.append(entry)
        elif entry.state != "open":
            left[entry.message] = f"it was {entry.state} already; --again insists"
        elif entry.attempt >= max_attempts:
            left[entry.message] = f"it was replayed {entry.attempt} times and failed again; --again insists"
        else:
            chosen.append(entry)
    return Choice(chosen, left)


def replay(
    settings: Settings, entries: Sequence[Entry], why: str = "", progress: Callable[[Act], object] = lambda act: None
) -> list[Act]:
    """Send the messages of entries back to the log, and note each.

    Raises:
        TransientError: the broker went away; all messages sent until then are noted.
    """
    if not entries:
        return []
    partitions = set(end_offsets(settings, settings.topic))
    by_place = {entry.place: entry for entry in entries}
    acts: list[Act] = []
    producer = make_producer(settings, max_request_size=MAX_DEAD_LETTER_BYTES)
    with closing(ActLog(settings)) as log:
        try:
            for record, letter in read_letters(settings, {0: min(by_place)}, {0: max(by_place) + 1}):
                entry = by_place.get(record.offset)
                if entry is None:
                    continue
                with kafka_errors(settings):
                    future = producer.send(
                        settings.topic,
                        key=letter.message.key,
                        value=letter.message.value,
                        headers=replay_headers(letter, entry),
                        # Its own partition: a producer in another language may spread keys differently.
                        partition=entry.partition if entry.partition in partitions else None,
                    )
                    stored = future.get(timeout=_CONFIRM_SECONDS)
                act = Act.of(entry.message, "replayed", f"{stored.partition}/{stored.offset}", why)
                log.add([act])
                acts.append(act)
                progress(act)
        finally:
            producer.close(timeout=_CONFIRM_SECONDS)
    return acts


def replay_headers(letter: DeadLetter, entry: Entry) -> list[tuple[str, bytes]]:
    """Return the headers of a replayed message."""
    own = [(name, raw) for name, raw in letter.message.headers if name not in _OWN_HEADERS]
    if not any(name == REPLAY_VERSION_HEADER for name, _ in own) and entry.offset >= 0:
        own.append((REPLAY_VERSION_HEADER, f"{entry.timestamp_ms}/{entry.offset}/{entry.partition}".encode()))
    return [*own, (ATTEMPT_HEADER, str(entry.attempt + 1).encode()), (REPLAY_OF_HEADER, entry.message.encode())]


def discard(settings: Settings, entries: Sequence[Entry], why: str = "") -> list[Act]:
    """Mark messages as discarded, where they are not yet."""
    acts = [Act.of(entry.message, "discarded", why=why) for entry in entries if entry.state != "discarded"]
    if acts:
        with closing(ActLog(settings)) as log:
            log.add(acts)
    return acts
