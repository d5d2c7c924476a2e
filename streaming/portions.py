"""Batches and writes cut into pieces of bounded size."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

from streaming.decode import Message

T = TypeVar("T")
# Of the newest measurement: what a portion takes varies with what is in it, and with what else runs.
_WEIGHT: Final = 0.3
# A batch makes about so many portions, where that is neither shorter than this nor longer than the setting.
_PORTIONS: Final = 8
_LEAST_SECONDS: Final = 0.25


class PortionSize:
    """How many bytes of messages make a portion: as many as are worked off in a time, by how long earlier ones took.

    Documents are searchable when their portion is written, so none of them waits for more than about that time once it is their
    turn, on a laptop as on a graphics card; and the more go in together, the less of what is embedded is padding.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._seconds_per_byte = 0.0

    def bytes(self, batch_bytes: int) -> int:
        """Return how many bytes the next portion may have; all that are allowed before anything was measured.

        Args:
            batch_bytes: of the whole batch. What little has come is taken in small portions, each searchable as soon as it is;
                in a backlog, where all wait for long, large ones are quicker.
        """
        batch_seconds = self._seconds_per_byte * batch_bytes
        seconds = min(self._seconds, max(_LEAST_SECONDS, batch_seconds / _PORTIONS))
        if self._seconds_per_byte * self._max_bytes <= seconds:
            return self._max_bytes
        return int(seconds / self._seconds_per_byte)

    def took(self, portion: Sequence[Message], seconds: float) -> None:
        """Note how long a portion took, from the end of the one before to its own."""
        measured = seconds / max(sum(map(message_bytes, portion)), 1)
        before = self._seconds_per_byte
        self._seconds_per_byte = (1 - _WEIGHT) * before + _WEIGHT * measured if before else measured


def portions(batch: Sequence[Message], max_bytes: Callable[[], int], max_messages: int) -> Iterator[list[Message]]:
    """Yield the messages in order, in portions of bounded size.

    Args:
        batch: to be cut.
        max_bytes: asked again for each portion; its messages together have no more, and a larger one is alone.
        max_messages: of a portion.
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
    """Yield the items in order, at most `size` at a time; an iterator is read no further than needed."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece


def begun_ahead(items: Iterable[T], begin: Callable[[T], object], ahead: int) -> Iterator[T]:
    """Yield the items in order, each after it and the `ahead` that follow it were begun."""
    begun: deque[T] = deque()
    for item in items:
        begin(item)
        begun.append(item)
        if len(begun) > ahead:
            yield begun.popleft()
    yield from begun


def message_bytes(message: Message) -> int:
    """Return how large a message is, key and value."""
    return len(message.key or b"") + len(message.value or b"")
