"""Features of a release's recent queries: numbers for the drift report, in memory only.

Neither a query's text nor its vector is kept: a text is private, and a vector can be turned back into much of its text.
"""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.monitor.drift import Features
from twinline.contract.monitor.drift_reference import DriftReference, features_of, unknown_id

KEPT_QUERIES: Final = 2_000


@dataclass(frozen=True, slots=True)
class _Seen:
    token_count: float
    truncated: float
    similarity: float
    unknown_share: float | None


class RecentQueries:
    """The features of the last `kept` queries. Thread-safe."""

    def __init__(self, preprocessor: Preprocessor, reference: DriftReference, kept: int = KEPT_QUERIES) -> None:
        self._preprocessor = preprocessor
        self._reference = reference
        self._unknown = unknown_id(preprocessor.tokenizer_json)
        self._seen: deque[_Seen] = deque(maxlen=kept)
        self._changing = threading.Lock()

    def add(self, text: str, embeddings: Embeddings) -> None:
        """Note one answered query: its clean text and the encoder's answer."""
        # The encoder does not return the token ids; tokenizing again takes some tens of microseconds.
        encoded = self._preprocessor.encode([text], "query")
        found = features_of(encoded, self._reference.nearest(embeddings.vectors), self._unknown, 1)
        unknown = None if found.unknown_share is None else float(found.unknown_share[0])
        # The served encoder's counts, not this process's.
        seen = _Seen(float(embeddings.token_counts[0]), float(embeddings.truncated[0]), float(found.similarity[0]), unknown)
        with self._changing:
            self._seen.append(seen)

    def features(self) -> Features:
        """Return the features of the stored queries, oldest first."""
        with self._changing:
            seen = list(self._seen)
        return Features(
            token_count=np.array([query.token_count for query in seen], dtype=np.float64),
            truncated=np.array([query.truncated for query in seen], dtype=np.float64),
            similarity=np.array([query.similarity for query in seen], dtype=np.float64),
            unknown_share=(
                None if self._unknown is None else np.array([query.unknown_share for query in seen], dtype=np.float64)
            ),
            independent=len(seen),
        )
