"""Messages in flight: polled, not handled yet. Small messages pass large ones, which hold the encoder for long.

Messages of one document keep the order of the log. Nothing is committed past a message in flight: after a crash the passed
messages come again, and so do those that passed them, which are applied again.
"""

from collections.abc import Mapping, Sequence

from streaming.decode import Message, named_document
from streaming.portions import message_bytes


class InFlight:
    """The messages in flight of one assignment, in two lanes, and the offset at which each of its partitions continues."""

    def __init__(self, small_bytes: int) -> None:
        """Hold nothing.

        Args:
            small_bytes: the largest size of a small message.
        """
        self._small_bytes = small_bytes
        self._small: list[Message] = []
        self._large: list[Message] = []
        self._read_from: dict[int, int] = {}
        self._read_to: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._small) + len(self._large)

    @property
    def bytes(self) -> int:
        """Return the total size of the messages in flight."""
        return sum(message_bytes(message) for message in (*self._small, *self._large))

    def begin(self, offsets: Mapping[int, int]) -> None:
        """Note where partitions stood before their first poll; a partition that is not noted begins at its first message."""
        for partition, offset in offsets.items():
            self._read_from.setdefault(partition, offset)

    def add(self, messages: Sequence[Message], next_offsets: Mapping[int, int]) -> None:
        """Take in polled messages, in the order of the log.

        Args:
            next_offsets: where each partition continues. It may have moved over markers and gaps, without a message.
        """
        documents = {_document(message) for message in self._large}
        for message in messages:
            if message_bytes(message) <= self._small_bytes and _document(message) not in documents:
                self._small.append(message)
            else:
                self._large.append(message)
                documents.add(_document(message))
            self._read_from.setdefault(message.partition, message.offset)
        self.begin(next_offsets)
        self._read_to.update(next_offsets)

    def small(self) -> list[Message]:
        """Return the small messages, in order; they stay in flight until they are `done`."""
        return list(self._small)

    def large(self) -> list[Message]:
        """Return the large messages and those that must stay behind them; they stay in flight until they are `done`."""
        return list(self._large)

    def done(self, messages: Sequence[Message]) -> None:
        """Drop messages that were handled."""
        places = {(message.partition, message.offset) for message in messages}
        self._small = [message for message in self._small if (message.partition, message.offset) not in places]
        self._large = [message for message in self._large if (message.partition, message.offset) not in places]

    def next_offsets(self) -> dict[int, int]:
        """Return where each partition continues: at its first message in flight, or behind all that was polled."""
        offsets = dict(self._read_to)
        for message in (*self._small, *self._large):
            offsets[message.partition] = min(offsets[message.partition], message.offset)
        return offsets

    def to_commit(self) -> dict[int, int]:
        """Return the next offsets of the partitions that got on."""
        return {partition: offset for partition, offset in self.next_offsets().items() if offset > self._read_from[partition]}

    def counts(self) -> dict[int, int]:
        """Return how many messages of each partition are in flight."""
        counts: dict[int, int] = {}
        for message in (*self._small, *self._large):
            counts[message.partition] = counts.get(message.partition, 0) + 1
        return counts

    def give_up(self) -> dict[int, int]:
        """Drop the messages in flight; return the offsets from which they are to be read again."""
        self._read_to = self.next_offsets()
        self._small, self._large = [], []
        return dict(self._read_to)

    def forget(self) -> None:
        """Drop the messages and the partitions: the assignment has ended."""
        self._small, self._large = [], []
        self._read_from, self._read_to = {}, {}


def _document(message: Message) -> tuple[str, str] | bytes | None:
    # Not by the key's bytes: one document's key can be written in more than one way.
    return named_document(message.key) or message.key
