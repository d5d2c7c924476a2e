"""A portion is cut and embedded aside: the encoder does not wait for the store, nor what is small and urgent for the encoder.

The next two are made while the one in hand is written: one is cut while the other is embedded, by a thread each, so that the
encoder is asked for one thing at a time, as a query beside it needs it. While one is made, whoever waits for it looks after other
things.

Nothing is decided here. What is made ahead is kept by what it is made of, a text or the hash of one; the portion is then applied
by the law as any other, and finds its chunks and vectors ready, or makes them itself. A mistake here costs time, not an index.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final, Generic, TypeAlias, TypeVar

from streaming.points import Vector
from twinline.contract.documents.records import Document
from twinline.contract.encoder.chunking import Chunk
from twinline.contract.errors import TransientError

_log = logging.getLogger(__name__)
# Portions that are begun beyond the one in hand.
AHEAD: Final = 2
# How often whoever waits for it looks up: that is added to the time until a document that came meanwhile is found.
_LOOK_UP_SECONDS = 0.025
# Raises when nobody wants any more what is being made.
Check: TypeAlias = Callable[[], object]
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Made:
    """What is ready: chunks by title and text of their document, vectors by content hash."""

    chunks: Mapping[tuple[str, str], list[Chunk]] = field(default_factory=dict)
    vectors: Mapping[str, Vector] = field(default_factory=dict)

    def cut(self, document: Document, cut: Callable[[Document], list[Chunk]]) -> list[Chunk]:
        """Return the chunks of a document, cut now unless they are ready; raises what `cut` raises."""
        ready = self.chunks.get((document.title, document.text))
        return cut(document) if ready is None else ready


NOTHING = Made()


class _DroppedError(Exception):
    """Nobody wants any more what is being made."""


class Ahead(Generic[C]):
    """Makes portions aside, in two steps; they are made and taken in the order in which they were begun."""

    def __init__(self) -> None:
        self._cutting, self._embedding = (ThreadPoolExecutor(1, thread_name_prefix=step) for step in ("cutting", "embedding"))
        self._under_way: deque[tuple[Future[C], Future[Made]]] = deque()
        self._dropped = Event()

    def begin(self, cut: Callable[[Check], C], embed: Callable[[C, Check], Made]) -> None:
        """Begin to make something: to cut it, then to embed that; both are to call their `Check` between pieces of work."""
        dropped = self._dropped

        def check() -> None:
            if dropped.is_set():
                raise _DroppedError

        half = self._cutting.submit(cut, check)
        self._under_way.append((half, self._embedding.submit(lambda: embed(half.result(), check))))

    def take(self, between: Callable[[], object]) -> Made:
        """Return what was begun first, once it is made; nothing where that failed, or where nothing was begun.

        Args:
            between: called again and again meanwhile; what it raises ends the wait.

        Raises:
            TransientError: something was away, and most likely still is for whoever applies the portion.
        """
        if not self._under_way:
            return NOTHING
        _, under_way = self._under_way[0]
        between()
        while not wait([under_way], _LOOK_UP_SECONDS).done:
            between()
        self._under_way.popleft()
        failure = under_way.exception()
        if failure is None:
            return under_way.result()
        if isinstance(failure, TransientError):
            raise failure
        # Whoever applies the portion meets it again, and finds out whose fault it is.
        _log.info("not_made_ahead", extra={"error": str(failure)})
        return NOTHING

    def drop(self) -> None:
        """Let go of what is begun, and wait until nobody works on it: at most for one document to be cut, or one request."""
        self._dropped.set()
        begun: list[Future[Any]] = [step for steps in self._under_way for step in steps]
        for step in begun:
            step.cancel()
        wait(begun)
        self._under_way.clear()
        self._dropped = Event()
