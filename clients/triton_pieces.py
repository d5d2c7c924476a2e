"""How many documents go to the encoder at once: as many as it answers in a time, which is short while people ask.

Triton takes a query before documents, but not out of the middle of a batch: a query waits for the one that is running. How long
that is depends on the texts, the encoder and the machine, so it is measured, and a graphics card gets more than a laptop.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

# While nobody asks: long enough that what a request costs by itself does not count.
_SECONDS: Final = 0.2
# While somebody does, he waits for half of it on average, on top of his own few milliseconds.
_SECONDS_BESIDE_QUERIES: Final = 0.02
# After a query others are expected for so long.
_EXPECTED_SECONDS: Final = 2.0
# Before anything was measured.
_FIRST_TEXTS: Final = 8
# Of the newest measurement: what a request takes varies with what else runs.
_WEIGHT: Final = 0.3


class PieceSize:
    """Sizes of pieces, from how long earlier ones took. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds_per_byte: float | None = None
        self._asked_at = float("-inf")

    def asked(self) -> None:
        """Note that somebody waits for the answer to a query."""
        self._asked_at = self._clock()

    def of(self, lengths: Sequence[int], most: int) -> int:
        """Return how many of the texts to send now, at least one.

        Args:
            lengths: of the texts in bytes, shortest first: a piece is padded to its longest text.
            most: texts that a request may have.
        """
        most = min(most, len(lengths))
        per_byte = self._seconds_per_byte
        if per_byte is None:
            return min(_FIRST_TEXTS, most)
        seconds = _SECONDS_BESIDE_QUERIES if self._clock() - self._asked_at < _EXPECTED_SECONDS else _SECONDS
        size = 1
        while size < most and (size + 1) * lengths[size] * per_byte <= seconds:
            size += 1
        return size

    def took(self, lengths: Sequence[int], seconds: float) -> None:
        """Note how long a piece took, from request to answer."""
        measured = seconds / max(len(lengths) * lengths[-1], 1)
        with self._lock:
            before = measured if self._seconds_per_byte is None else self._seconds_per_byte
            self._seconds_per_byte = (1 - _WEIGHT) * before + _WEIGHT * measured
