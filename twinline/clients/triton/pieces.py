"""How many documents go to the encoder at once: as many as it answers in a time, which is short while people ask.

Triton takes a query before documents, but not out of the middle of a batch: a query waits for the one that is running. How long
that is depends on the texts, the encoder and the machine, so it is measured, and a graphics card gets more than a laptop. A piece
also ends where padding its shorter texts to the next one's length would take longer than a request of its own.
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
# What a request costs by itself, whatever is in it: its way through client, server and the two steps of the ensemble.
_REQUEST_SECONDS: Final = 0.003
# Bytes of text a token, where nobody has counted; English prose has four.
_BYTES_PER_TOKEN: Final = 4
# Of the newest measurement: what a request takes varies with what else runs.
_WEIGHT: Final = 0.3


class PieceSize:
    """Sizes of pieces, from how long earlier ones took. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds_per_token: float | None = None
        self._asked_at = float("-inf")

    def asked(self) -> None:
        """Note that somebody waits for the answer to a query."""
        self._asked_at = self._clock()

    def of(self, lengths: Sequence[int], most: int) -> int:
        """Return how many of the texts to send now, at least one.

        Args:
            lengths: of the texts in tokens, shortest first: a piece is padded to its longest text.
            most: texts that a request may have.
        """
        most = min(most, len(lengths))
        per_token = self._seconds_per_token
        if per_token is None:
            return min(_FIRST_TEXTS, most)
        seconds = _SECONDS_BESIDE_QUERIES if self._clock() - self._asked_at < _EXPECTED_SECONDS else _SECONDS
        size, tokens = 1, lengths[0]
        while size < most and (size + 1) * lengths[size] * per_token <= seconds:
            padding = size * lengths[size] - tokens
            if padding * per_token > _REQUEST_SECONDS:
                break
            tokens += lengths[size]
            size += 1
        return size

    def took(self, lengths: Sequence[int], seconds: float) -> None:
        """Note how long a piece took, from request to answer."""
        # Never nothing: one that came back sooner than a request was thought to take is quick, not free.
        encoding = max(seconds - _REQUEST_SECONDS, seconds / 2)
        measured = encoding / max(len(lengths) * lengths[-1], 1)
        with self._lock:
            before = measured if self._seconds_per_token is None else self._seconds_per_token
            self._seconds_per_token = (1 - _WEIGHT) * before + _WEIGHT * measured


def guessed_tokens(text: bytes) -> int:
    """Return about how many tokens an encoded text has, at least one."""
    return len(text) // _BYTES_PER_TOKEN + 1
