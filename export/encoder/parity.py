"""Parity: an exported format's vectors against the training framework's. The worst row counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinline.contract.encoder.golden import PARITY_LIMITS
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.encoder.runtime import Precision, Runtime
from twinline.contract.encoder.tensors import served_length
from twinline.contract.errors import ContractError

_SHOWN_CHARS = 120


@dataclass(frozen=True, slots=True)
class Sample:
    """The texts of a comparison, their token ids, and the reference vectors `(n, dimension)`."""

    texts: Sequence[str]
    token_ids: Sequence[Sequence[int]]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FormatParity:
    """One format's cosine distances from the reference."""

    name: str
    precision: Precision
    texts: int
    worst: float
    median: float
    worst_text: str
    worst_case: str

    @property
    def limit(self) -> float:
        """Return the largest distance that this precision allows."""
        return PARITY_LIMITS[self.precision]

    @property
    def passed(self) -> bool:
        """Return whether the worst text is within the limit; NaN never is."""
        return self.worst <= self.limit

    def summary(self) -> str:
        """Return the result in one line."""
        verdict = "within" if self.passed else "OVER"
        return (
            f"{self.name}: worst {self.worst:.2e}, median {self.median:.2e} over {self.texts} texts, {verdict} the "
            f"limit {self.limit:.0e} of {self.precision}; worst text ({self.worst_case}): {self.worst_text!r}"
        )


def measure_parity(
    name: str, precision: Precision, sample: Sample, run: Runtime, buckets: Sequence[int], pad_id: int, batch: int = 8
) -> FormatParity:
    """Compare one format with the reference, each text alone and in a mixed batch with the padding of serving.

    Args:
        name: of the format.
        precision: of the format; it decides the limit.
        sample: texts with their reference.
        run: the format's runtime.
        buckets: the padded lengths of serving.
        pad_id: the token id of padding.
        batch: texts in one mixed batch.

    Raises:
        ContractError: the format gives vectors of another shape.
    """
    cases = {
        "alone": [[row] for row in range(len(sample.texts))],
        "in a padded batch": mixed_batches([len(ids) for ids in sample.token_ids], batch),
    }
    distances = np.stack([_distances(sample, run, rows, buckets, pad_id) for rows in cases.values()])
    # NaN compares as neither larger nor smaller; infinity is the worst value.
    distances = np.where(np.isnan(distances), np.inf, distances)
    case, row = divmod(int(distances.argmax()), len(sample.texts))
    return FormatParity(
        name=name,
        precision=precision,
        texts=len(sample.texts),
        worst=float(distances[case, row]),
        median=float(np.median(distances)),
        worst_text=_shorten(sample.texts[row]),
        worst_case=list(cases)[case],
    )


def _distances(
    sample: Sample, run: Runtime, batches: list[list[int]], buckets: Sequence[int], pad_id: int
) -> NDArray[np.float64]:
    vectors = np.full_like(sample.vectors, np.nan)
    lengths: NDArray[np.float64] = np.full(len(sample.texts), np.nan)
    for rows in batches:
        found = run(*_padded([sample.token_ids[row] for row in rows], buckets, pad_id))
        if found.shape != (len(rows), sample.vectors.shape[1]):
            raise ContractError(
                f"the exported graph gives vectors of shape {found.shape} for {len(rows)} texts, the reference "
                f"{(len(rows), sample.vectors.shape[1])}: export it again from this encoder"
            )
        vectors[rows] = found
        lengths[rows] = np.linalg.norm(found.astype(np.float64), axis=1)
    # Cosine ignores length and a client's dot product does not: a graph without normalisation must not pass.
    return cosine_distance(vectors, sample.vectors) + (lengths - 1) ** 2 / 2


def _padded(
    token_ids: Sequence[Sequence[int]], buckets: Sequence[int], pad_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    length = served_length(max(len(ids) for ids in token_ids), tuple(buckets))
    input_ids = np.full((len(token_ids), length), pad_id, dtype=np.int64)
    mask = np.zeros((len(token_ids), length), dtype=np.int64)
    for row, ids in enumerate(token_ids):
        input_ids[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return input_ids, mask


def mixed_batches(lengths: Sequence[int], batch: int) -> list[list[int]]:
    """Return batches of short and long texts together: padding errors grow with the padding."""
    by_length = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    count = -(-len(by_length) // batch)
    return [by_length[start::count] for start in range(count)]


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
