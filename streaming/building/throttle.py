"""Throttle a build while people search: low priority for the builder, and few texts at a time for the encoder.

A build costs mostly the encoder's time in Triton. A query goes before documents there, but waits for the running batch. While
people search, the pieces are therefore small, with a pause after each.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

import httpx
import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from twinline.contract.encoder.embedding import Embedder, Embeddings
from twinline.contract.encoder.specification import Role

_log = logging.getLogger(__name__)

_NICE: Final = 10
_LOWEST_OF_BEST_EFFORT: Final = 7
_LOOK_SECONDS: Final = 2.0
_TIMEOUT_SECONDS: Final = 2.0
_PIECE_TEXTS: Final = 2
# The build's share of the encoder's time while people search.
_SHARE: Final = 0.5


def lower_priority() -> None:
    """Lower the priority of this process, and of all threads that it starts from now on."""
    os.nice(_NICE)
    process = psutil.Process()
    if hasattr(process, "ionice"):
        process.ionice(psutil.IOPRIO_CLASS_BE, _LOWEST_OF_BEST_EFFORT)


class SearchTraffic:
    """Whether people are searching, by the search API's own count of answers."""

    def __init__(
        self, url: str, transport: httpx.BaseTransport | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS, trust_env=False, transport=transport)
        self._clock = clock
        self._looked_at = float("-inf")
        self._answers: float | None = None
        self._is_busy = False

    def is_busy(self) -> bool:
        """Say whether a search was answered between the last two readings of the count."""
        if self._clock() - self._looked_at >= _LOOK_SECONDS:
            answers = self._count()
            # A restarted API counts from zero.
            self._is_busy = answers is not None and self._answers is not None and answers != self._answers
            self._answers, self._looked_at = answers, self._clock()
        return self._is_busy

    def _count(self) -> float | None:
        try:
            response = self._client.get("/metrics")
            response.raise_for_status()
        except httpx.TimeoutException:
            # Too slow to answer: it is busy.
            return (self._answers or 0.0) + 1
        except httpx.HTTPError as exc:
            # No search can be answered.
            _log.info("search_is_away", extra={"error": str(exc)})
            return None
        for family in text_string_to_metric_families(response.text):
            for sample in family.samples:
                if sample.name == "twinline_search_seconds_count" and sample.labels.get("part") == "total":
                    return float(sample.value)
        return 0.0


class ThrottledEmbedder:
    """Yields to searches; implements `twinline.contract.encoder.embedding.Embedder`."""

    def __init__(
        self,
        embedder: Embedder,
        is_busy: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._embedder = embedder
        self._is_busy = is_busy
        self._clock = clock
        self._sleep = sleep
        self._lock = Lock()

    @property
    def space(self) -> str:
        """Return the space of the throttled embedder."""
        return self._embedder.space

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        """Return one vector a text, in order: all at once, or in small pieces with pauses while people search."""
        pieces: list[Embeddings] = []
        done = 0
        while done < len(texts) or not pieces:
            if self._is_busy():
                # All threads of a build share one part of the encoder's time.
                with self._lock:
                    piece = texts[done : done + _PIECE_TEXTS]
                    began = self._clock()
                    pieces.append(self._embedder.embed(piece, role, token_counts and token_counts[done : done + _PIECE_TEXTS]))
                    self._sleep((self._clock() - began) * (1 - _SHARE) / _SHARE)
            else:
                piece = texts[done:]
                pieces.append(self._embedder.embed(piece, role, token_counts and token_counts[done:]))
            done += len(piece)
        return Embeddings(
            np.concatenate([piece.vectors for piece in pieces]),
            np.concatenate([piece.token_counts for piece in pieces]),
            np.concatenate([piece.truncated for piece in pieces]),
            pieces[-1].space,
        )
