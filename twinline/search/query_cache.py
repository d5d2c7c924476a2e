"""The query cache: vectors of recent queries. A repeated question, for example a reloaded page, needs no encoder.

It is in memory only, by the hash of the text and for a short time: a text is private, and a vector can be turned back into much
of it. An entry names its space and is checked like every other vector.
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
        seconds: how long an entry is valid; 0 turns the cache off.
        kept: the maximum number of entries; the least recently used one is dropped first.
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
        """Return the embeddings of one query, from the cache or the embedder.

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
        # An answer from another space is not cached; the caller refuses it.
        if self._seconds > 0 and made.space == embedder.space:
            made.vectors.setflags(write=False)
            with self._changing:
                self._known[name] = (self._clock(), made)
                self._known.move_to_end(name)
                while len(self._known) > self._kept:
                    self._known.popitem(last=False)
        return made
