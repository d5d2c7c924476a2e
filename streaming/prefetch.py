"""Prefetch: the next portions are cut and embedded while the current one is written.

Two portions are prefetched at a time, one thread cutting and one embedding. The encoder gets one request at a time, so that a
query beside it waits for one request only. The consumer's thread keeps its heartbeat while it waits for a portion.

Nothing is decided here. Chunks are kept by a document's title and text, vectors by content hash. The portion is then applied like
any other, and finds its chunks and vectors ready or makes them itself: a mistake here costs time, and never an index.
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
# Portions that are begun beyond the current one.
DEPTH: Final = 2
# The pause between two heartbeats of a waiting consumer: a document that arrives meanwhile waits for it.
_LOOK_SECONDS: Final = 0.025
# Raises once the result is not needed any more.
Check: TypeAlias = Callable[[], object]
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Prefetched:
    """The results of one portion: chunks by title and text of their document, vectors by content hash."""

    chunks: Mapping[tuple[str, str], list[Chunk]] = field(default_factory=dict)
    vectors: Mapping[str, Vector] = field(default_factory=dict)

    def cut(self, document: Document, cut: Callable[[Document], list[Chunk]]) -> list[Chunk]:
        """Return the chunks of a document, cut now unless they are ready; raises what `cut` raises."""
        ready = self.chunks.get((document.title, document.text))
        return cut(document) if ready is None else ready


NOTHING = Prefetched()


class _DroppedError(Exception):
    """The result is not needed any more."""


class Prefetcher(Generic[C]):
    """Prefetches portions in two steps. They are made, and taken, in the order in which they were begun."""

    def __init__(self) -> None:
        self._cutting, self._embedding = (ThreadPoolExecutor(1, thread_name_prefix=step) for step in ("cutting", "embedding"))
        self._under_way: deque[tuple[Future[C], Future[Prefetched]]] = deque()
        self._dropped = Event()

    def begin(self, cut: Callable[[Check], C], embed: Callable[[C, Check], Prefetched]) -> None:
        """Begin a portion: cut it, then embed the result. Both steps call their `Check` between pieces of work."""
        dropped = self._dropped

        def check() -> None:
            if dropped.is_set():
                raise _DroppedError

        half = self._cutting.submit(cut, check)
        self._under_way.append((half, self._embedding.submit(lambda: embed(half.result(), check))))

    def take(self, between: Callable[[], object]) -> Prefetched:
        """Return the portion that was begun first, once it is ready; NOTHING where it failed, or where none was begun.

        Args:
            between: called repeatedly while this waits; an exception of it ends the wait.

        Raises:
            TransientError: a dependency is away; applying the portion would most likely fail too.
        """
        if not self._under_way:
            return NOTHING
        _, under_way = self._under_way[0]
        between()
        while not wait([under_way], _LOOK_SECONDS).done:
            between()
        self._under_way.popleft()
        failure = under_way.exception()
        if failure is None:
            return under_way.result()
        if isinstance(failure, TransientError):
            raise failure
        # The portion's application meets this failure again, and finds the message at fault.
        _log.info("prefetch_failed", extra={"error": str(failure)})
        return NOTHING

    def drop(self) -> None:
        """Drop all portions begun, and wait for both threads: at most for one document to be cut, or one request."""
        self._dropped.set()
        begun: list[Future[Any]] = [step for steps in self._under_way for step in steps]
        for step in begun:
            step.cancel()
        wait(begun)
        self._under_way.clear()
        self._dropped = Event()
