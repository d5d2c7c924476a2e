"""What was polled and is not handled yet, in two lanes: small messages go past the large ones that hold the encoder for long.

Only messages of other documents: those of one document stay in the order of the log. And nothing is committed past what is in
hand, so a crash brings back whatever was overtaken; what had overtaken it comes again too, and is applied again.
"""

from collections.abc import Mapping, Sequence

from streaming.decode import Message, named_document
from streaming.portions import message_bytes


class InHand:
    """The messages in hand of one assignment, and where each of its partitions goes on."""

    def __init__(self, small_bytes: int) -> None:
        """Hold nothing.

        Args:
            small_bytes: a message of at most so many is a small one.
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
        """Return how large the messages in hand are together."""
        return sum(message_bytes(message) for message in (*self._small, *self._large))

    def add(self, messages: Sequence[Message], next_offsets: Mapping[int, int]) -> None:
        """Take in what was polled, in the order of the log.

        Args:
            next_offsets: where each partition is to be read on after these messages.
        """
        documents = {_document(message) for message in self._large}
        for message in messages:
            if message_bytes(message) <= self._small_bytes and _document(message) not in documents:
                self._small.append(message)
            else:
                self._large.append(message)
                documents.add(_document(message))
            self._read_from.setdefault(message.partition, message.offset)
        self._read_to.update(next_offsets)

    def small(self) -> list[Message]:
        """Return the small messages, in order; they stay in hand until they are `done`."""
        return list(self._small)

    def large(self) -> list[Message]:
        """Return the large ones, and what has to stay behind them; they stay in hand until they are `done`."""
        return list(self._large)

    def done(self, messages: Sequence[Message]) -> None:
        """Let go of messages that were handled."""
        places = {(message.partition, message.offset) for message in messages}
        self._small = [message for message in self._small if (message.partition, message.offset) not in places]
        self._large = [message for message in self._large if (message.partition, message.offset) not in places]

    def next_offsets(self) -> dict[int, int]:
        """Return where each partition goes on: at its first message that is in hand, or behind all that was polled."""
        offsets = dict(self._read_to)
        for message in (*self._small, *self._large):
            offsets[message.partition] = min(offsets[message.partition], message.offset)
        return offsets

    def to_commit(self) -> dict[int, int]:
        """Return the same, of the partitions of which something was handled."""
        return {partition: offset for partition, offset in self.next_offsets().items() if offset > self._read_from[partition]}

    def counts(self) -> dict[int, int]:
        """Return how many messages of each partition are in hand."""
        counts: dict[int, int] = {}
        for message in (*self._small, *self._large):
            counts[message.partition] = counts.get(message.partition, 0) + 1
        return counts

    def give_up(self) -> dict[int, int]:
        """Let go of everything unhandled; return where it is to be read again."""
        self._read_to = self.next_offsets()
        self._small, self._large = [], []
        return dict(self._read_to)

    def forget(self) -> None:
        """Hold nothing, of no partition: what was in hand was given to others."""
        self._small, self._large = [], []
        self._read_from, self._read_to = {}, {}


def _document(message: Message) -> tuple[str, str] | bytes | None:
    # Not by the key's bytes: one document's key can be written in more than one way.
    return named_document(message.key) or message.key
