"""Batches and writes, cut into pieces of bounded size."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

from streaming.decode import Message

T = TypeVar("T")
# Of the newest measurement: a portion's time varies with its texts, and with the load of the machine.
_WEIGHT: Final = 0.3
# The portions of a batch, while each takes at least `_LEAST_SECONDS` and at most the setting.
_PORTIONS: Final = 8
_LEAST_SECONDS: Final = 0.25


class PortionSize:
    """How many bytes of messages make a portion: as many as take a given time, measured on earlier portions.

    Documents are searchable once their portion is written. The time therefore bounds how long a document waits once it is its
    turn, on a laptop and on a graphics card; and larger portions need less padding.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._seconds_per_byte = 0.0

    def bytes(self, batch_bytes: int) -> int:
        """Return how many bytes the next portion may have; the maximum before the first measurement.

        Args:
            batch_bytes: of the whole batch. A small batch goes in small portions, which are searchable sooner; a backlog goes in
                large ones, which are quicker in total.
        """
        batch_seconds = self._seconds_per_byte * batch_bytes
        seconds = min(self._seconds, max(_LEAST_SECONDS, batch_seconds / _PORTIONS))
        if self._seconds_per_byte * self._max_bytes <= seconds:
            return self._max_bytes
        return int(seconds / self._seconds_per_byte)

    def took(self, portion: Sequence[Message], seconds: float) -> None:
        """Record how long a portion took, from the end of the previous one to its own."""
        measured = seconds / max(sum(map(message_bytes, portion)), 1)
        before = self._seconds_per_byte
        self._seconds_per_byte = (1 - _WEIGHT) * before + _WEIGHT * measured if before else measured


def portions(batch: Sequence[Message], max_bytes: Callable[[], int], max_messages: int) -> Iterator[list[Message]]:
    """Yield the messages in order, in portions of bounded size.

    Args:
        batch: the messages.
        max_bytes: the limit of the next portion, asked for each; a message above it is alone.
        max_messages: the limit of a portion.
    """
    portion: list[Message] = []
    size, limit = 0, max_bytes()
    for message in batch:
        own = message_bytes(message)
        if portion and (size + own > limit or len(portion) == max_messages):
            yield portion
            portion, size, limit = [], 0, max_bytes()
        portion.append(message)
        size += own
    if portion:
        yield portion


def pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in order, at most `size` at a time; an iterator is read only as far as needed."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece


def prefetched(items: Iterable[T], begin: Callable[[T], object], depth: int) -> Iterator[T]:
    """Yield the items in order, each after it and the next `depth` were begun."""
    begun: deque[T] = deque()
    for item in items:
        begin(item)
        begun.append(item)
        if len(begun) > depth:
            yield begun.popleft()
    yield from begun


def message_bytes(message: Message) -> int:
    """Return how large a message is, key and value."""
    return len(message.key or b"") + len(message.value or b"")
