"""Vectors of queries that were asked a moment ago: the same question again, a page that is reloaded say, needs no encoder.

Kept in memory only, by the hash of the text and for a short time: a text is private, and a vector can be turned back into much of
it. An entry knows its space like every other vector, and is checked like every other.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from twinline.contract.encoder.embedding import Embedder, Embeddings

KEPT_QUERIES: Final = 1_000


class RememberedQueries:
    """The embeddings of recent queries, by space and exact clean text. Thread-safe.

    Args:
        seconds: how long an entry is good for; 0 remembers nothing.
        kept: how many at most; the one that was not asked for the longest goes first.
        clock: seconds that only go forward.
    """

    def __init__(self, seconds: float, kept: int = KEPT_QUERIES, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._kept = kept
        self._clock = clock
        self._known: OrderedDict[tuple[str, bytes], tuple[float, Embeddings]] = OrderedDict()
        self._changing = threading.Lock()
        self.hits = 0

    def embed(self, embedder: Embedder, text: str) -> Embeddings:
        """Return the embeddings of one query: remembered, or made by the embedder.

        Raises:
            TransientError, MismatchError: as the embedder does.
        """
        name = (embedder.space, hashlib.sha256(text.encode()).digest())
        with self._changing:
            found = self._known.get(name)
            if found is not None and self._clock() - found[0] < self._seconds:
                self._known.move_to_end(name)
                self.hits += 1
                return found[1]
        made = embedder.embed([text], "query")
        # What was answered from another space is for the caller to refuse, and not to be remembered.
        if self._seconds > 0 and made.space == embedder.space:
            made.vectors.setflags(write=False)
            with self._changing:
                self._known[name] = (self._clock(), made)
                self._known.move_to_end(name)
                while len(self._known) > self._kept:
                    self._known.popitem(last=False)
        return made
