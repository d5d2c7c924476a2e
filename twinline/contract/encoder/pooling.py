"""Pooling, normalisation and distance in numpy: the reference for exported graphs, not the serving path."""

import numpy as np
from numpy.typing import NDArray

from twinline.contract.encoder.specification import Pooling
from twinline.contract.errors import SettingsError


def pool(hidden: NDArray[np.float32], mask: NDArray[np.int64], pooling: Pooling) -> NDArray[np.float32]:
    """Return one vector a text, `(batch, dim)`, of token states `(batch, length, dim)` and a mask `(batch, length)`.

    `mean` is the mean over unmasked tokens; `cls` the first token; `last` the last unmasked token (right padding).
    """
    if pooling == "cls":
        return np.asarray(hidden[:, 0])
    if pooling == "last":
        return np.asarray(hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1])
    if pooling == "mean":
        weights = mask[:, :, None].astype(hidden.dtype)
        return np.asarray((hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9), dtype=hidden.dtype)
    raise SettingsError(f"pooling is {pooling!r}, must be mean, cls or last")


def normalize(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors of length one, `(batch, dim)`; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def cosine_distance(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return 1 - cosine, row by row, `(batch,)`.

    Computed in float64 as half the squared distance of the unit vectors: 1 - dot loses all digits below 1e-7 in float32.
    """
    a, b = left.astype(np.float64), right.astype(np.float64)
    a /= np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-300)
    b /= np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-300)
    return np.asarray(((a - b) ** 2).sum(axis=1) / 2)
