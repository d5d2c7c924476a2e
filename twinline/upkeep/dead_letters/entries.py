"""The dead-letter view: one entry for each message of the log, with its state.

Every served release sets a message aside for itself, and a redelivery may do so again: those are one entry. Texts are not held,
but read at the entry's place on demand.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from streaming.dead_letters import DeadLetter
from twinline.clients.kafka.stretch import headers_of, read_topic
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import decode_message
from twinline.contract.errors import DocumentError
from twinline.upkeep.dead_letters.acts import Act, read_acts

State = Literal["open", "replayed", "discarded"]
# Headers of a message that was sent back to the log: the number of replays, and the place of the original message.
ATTEMPT_HEADER: Final = "replay-attempt"
REPLAY_OF_HEADER: Final = "replay-of"
_MOST_KEY_BYTES: Final = 1_024


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that was set aside, from its newest dead letter.

    Args:
        message: its place in the log, `partition/offset`, which acts name.
        place: the newest dead letter's offset in the topic of dead letters.
        stack: a digest of the place in the code that refused it; empty where the letter has none.
        releases: the releases whose consumers set it aside.
        attempt: the number of replays before it was set aside this time.
    """

    message: str
    partition: int
    offset: int
    timestamp_ms: int
    source: str
    key: str
    reason: str
    stage: str
    error: str
    stack: str
    time: str
    place: int
    size: int
    attempt: int
    releases: frozenset[str] = frozenset()
    letters: int = 1
    act: Act | None = field(default=None)

    @property
    def state(self) -> State:
        """Return its state: open, replayed or discarded."""
        return self.act.act if self.act else "open"

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        names = ("message", "source", "key", "reason", "stage", "error", "stack", "time", "size", "attempt", "letters", "state")
        said: dict[str, JSON] = {name: getattr(self, name) for name in names}
        act: JSON = None
        if self.act is not None:
            act = {"time": self.act.time, "by": self.act.by, "sent_to": self.act.sent_to, "why": self.act.why}
        return {**said, "partition": self.partition, "offset": self.offset, "releases": sorted(self.releases), "act": act}


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter of entries; None matches every value. `states` are the selected states."""

    reason: str | None = None
    stage: str | None = None
    stack: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    source: str | None = None
    key: str | None = None
    partition: int | None = None
    offset: int | None = None
    states: frozenset[State] = frozenset({"open"})

    def matches(self, entry: Entry) -> bool:
        """Say whether an entry is selected."""
        if entry.state not in self.states:
            return False
        if any(
            wanted is not None and wanted != getattr(entry, name)
            for name in ("reason", "stage", "source", "key", "partition", "offset")
            for wanted in [getattr(self, name)]
        ):
            return False
        if self.stack is not None and not entry.stack.startswith(self.stack):
            return False
        if self.since is None and self.until is None:
            return True
        when = _moment(entry.time)
        return when is not None and (self.since is None or when >= self.since) and (self.until is None or when < self.until)


@dataclass(frozen=True, slots=True)
class Group:
    """Entries with the same reason of refusal, at the same place in the code."""

    reason: str
    stage: str
    stack: str
    entries: Sequence[Entry]

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        states: dict[str, int] = defaultdict(int)
        for entry in self.entries:
            states[entry.state] += 1
        newest = max(self.entries, key=lambda entry: entry.time)
        said: dict[str, JSON] = {"reason": self.reason, "stage": self.stage, "stack": self.stack, "count": len(self.entries)}
        return {**said, "states": dict(states), "newest": newest.time, "example": newest.message, "error": newest.error}


def read_entries(settings: Settings) -> list[Entry]:
    """Return every message that was set aside, in the order of their newest dead letters.

    Raises:
        SettingsError: there is no topic of dead letters yet.
        TransientError: no broker answers.
    """
    acts = read_acts(settings)
    newest: dict[str, Entry] = {}
    for record, letter in read_letters(settings):
        entry = _entry(record, letter)
        known = newest.pop(entry.message, None)
        releases = entry.releases | known.releases if known else entry.releases
        letters = known.letters + 1 if known else 1
        newest[entry.message] = replace(entry, releases=releases, letters=letters, act=acts.get(entry.message))
    return list(newest.values())


def read_letters(
    settings: Settings, starts: Mapping[int, int] | None = None, ends: Mapping[int, int] | None = None
) -> Iterator[tuple[Any, DeadLetter]]:
    """Yield the records of the topic of dead letters, each with its letter."""
    for record in read_topic(settings, settings.dead_letter_topic, starts, ends):
        yield record, DeadLetter.read(record.key, record.value, headers_of(record))


def read_letter(settings: Settings, entry: Entry) -> DeadLetter:
    """Return the newest dead letter of an entry, whole."""
    return next(letter for _, letter in read_letters(settings, {0: entry.place}, {0: entry.place + 1}))


def group_entries(entries: Iterable[Entry]) -> list[Group]:
    """Return entries by reason, stage and stack, the largest group first."""
    grouped: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        grouped[entry.reason, entry.stage, entry.stack].append(entry)
    return sorted((Group(*name, entries) for name, entries in grouped.items()), key=lambda group: -len(group.entries))


def message_id(letter: DeadLetter) -> str:
    """Return the id of a letter's message: its place in the log, or its hash where a foreign program wrote the letter."""
    message = letter.message
    if message.offset >= 0:
        return f"{message.partition}/{message.offset}"
    digest = hashlib.sha256(json.dumps([(message.key or b"").hex(), (message.value or b"").hex()]).encode())
    return f"sha256:{digest.hexdigest()[:24]}"


def document_of(key: bytes | None) -> tuple[str, str]:
    """Return source and key in a message's key; an empty source and the raw key where it names no document."""
    try:
        item = decode_message(key, None)
    except DocumentError:
        # An invalid key may be as long as a message.
        return "", (key or b"")[:_MOST_KEY_BYTES].decode(errors="backslashreplace")
    return item.source, item.key


def _entry(record: Any, letter: DeadLetter) -> Entry:
    message = letter.message
    source, key = document_of(message.key)
    headers = dict(message.headers)
    return Entry(
        message_id(letter),
        message.partition,
        message.offset,
        message.timestamp_ms,
        source,
        key,
        letter.reason,
        letter.stage,
        letter.error,
        # From the headers, not the letter's fields: letters of earlier versions have none.
        dict(headers_of(record)).get("dead-letter-stack-digest", b"").decode(errors="replace"),
        letter.time,
        record.offset,
        len(message.value or b""),
        attempt_of(headers),
        frozenset({letter.release} - {""}),
    )


def attempt_of(headers: Mapping[str, bytes]) -> int:
    """Return the number of a message's replays; an unreadable count is 0."""
    raw = headers.get(ATTEMPT_HEADER, b"")
    return int(raw) if raw.isdigit() and len(raw) < 10 else 0


def _moment(time: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(time)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
