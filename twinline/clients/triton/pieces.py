"""The number of documents in one request to the encoder: as many as it answers in a fixed time, shorter beside queries.

Triton takes a query before documents, but a query waits for the running batch. That wait depends on texts, encoder and machine,
so it is measured: a graphics card gets more than a laptop. A piece also ends where padding its shorter texts to the next one's
length would take longer than another request.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

# Without queries: long enough to make a request's own cost negligible.
_SECONDS: Final = 0.2
# Beside queries: a query waits for half of it on average, on top of its own few milliseconds.
_SECONDS_BESIDE_QUERIES: Final = 0.02
# How long after a query others are expected.
_EXPECTED_SECONDS: Final = 2.0
# Before anything was measured.
_FIRST_TEXTS: Final = 8
# A request's own cost, for any content: client, server and the two steps of the ensemble.
_REQUEST_SECONDS: Final = 0.003
# Bytes of text a token, where tokens were not counted; English prose has four.
_BYTES_PER_TOKEN: Final = 4
# The weight of the newest measurement: times vary with the load of the machine.
_WEIGHT: Final = 0.3


class PieceSize:
    """Sizes of pieces, from how long earlier ones took. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds_per_token: float | None = None
        self._asked_at = float("-inf")

    def asked(self) -> None:
        """Note a query."""
        self._asked_at = self._clock()

    def of(self, lengths: Sequence[int], most: int) -> int:
        """Return how many texts to send now, at least one.

        Args:
            lengths: the texts' lengths in tokens, shortest first: a piece is padded to its longest text.
            most: the limit of texts in a request.
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
        # Never zero: an answer sooner than a request's assumed cost is quick, not free.
        encoding = max(seconds - _REQUEST_SECONDS, seconds / 2)
        measured = encoding / max(len(lengths) * lengths[-1], 1)
        with self._lock:
            before = measured if self._seconds_per_token is None else self._seconds_per_token
            self._seconds_per_token = (1 - _WEIGHT) * before + _WEIGHT * measured


def guessed_tokens(text: bytes) -> int:
    """Return an estimate of an encoded text's tokens, at least one."""
    return len(text) // _BYTES_PER_TOKEN + 1
