"""Texts in batches of like length, longest first: little padding, and the first batch shows whether memory suffices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import Role
from twinline.contract.encoder.tokens import Encoded


def embed_in_batches(
    preprocessor: Preprocessor,
    texts: Sequence[str],
    role: Role,
    forward: Callable[[Encoded], NDArray[np.float32]],
    budget: int,
    space: str,
    progress: str,
) -> Embeddings:
    """Return one vector a text, `(n, dim)`, in the order given.

    Args:
        forward: vectors of a batch.
        budget: padded tokens of a batch, at most; a longer text is alone.
        space: of the vectors.
        progress: the label of a progress bar; empty for none.
    """
    encoded = preprocessor.encode(texts, role)
    vectors = np.zeros((len(texts), preprocessor.contract.vector.dimension), dtype=np.float32)
    with tqdm(total=len(texts), desc=progress, unit="text", disable=not progress) as bar:
        for rows in _batches(encoded.token_counts, budget):
            vectors[rows] = forward(_take(encoded, rows))
            bar.update(len(rows))
    return Embeddings(vectors, encoded.token_counts, encoded.truncated, space)


def _batches(token_counts: NDArray[np.int32], budget: int) -> Iterator[NDArray[np.intp]]:
    """Yield row numbers, longest text first, in batches of at most `budget` padded tokens and at least one row."""
    order = np.argsort(-token_counts, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, budget // max(int(token_counts[order[start]]), 1))
        yield order[start : start + size]
        start += size


def _take(encoded: Encoded, rows: NDArray[np.intp]) -> Encoded:
    return Encoded([encoded.token_ids[row] for row in rows], encoded.token_counts[rows], encoded.truncated[rows])
