"""Batches and writes cut into pieces of bounded size. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from streaming.decode import Message

T = TypeVar("T")


def portions(batch: Sequence[Message], max_bytes: int, max_messages: int) -> Iterator[list[Message]]:
    """Yield the messages in order, in portions whose values together have at most `max_bytes`; a larger one is alone."""
    portion: list[Message] = []
    size = 0
    for message in batch:
        own = len(message.key or b"") + len(message.value or b"")
        if portion and (size + own > max_bytes or len(portion) == max_messages):
            yield portion
            portion, size = [], 0
        portion.append(message)
        size += own
    if portion:
        yield portion


def pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in order, at most `size` at a time; an iterator is read no further than needed."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece


def with_next(items: Iterable[T]) -> Iterator[tuple[T, T | None]]:
    """Yield each item together with the one after it; the last one with None."""
    rest = iter(items)
    item = next(rest, None)
    while item is not None:
        following = next(rest, None)
        yield item, following
        item = following
