"""The data of an index measurement: vectors of real chunks, mixtures of them, questions, and the exact answers."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from bench.documents import read_documents
from bench.in_process import InProcessEncoder
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import SettingsError
from twinline.contract.release.manifest import Manifest

WANTED: Final = 10
_CORPUS: Final = "pydocs"
_BATCH: Final = 16
# The distance of a made vector from a real one: half the way towards another real one, and a little to the side.
_TOWARDS_ANOTHER: Final = 0.5
_ASIDE: Final = 0.25
# Scores that differ by less are equal: the same docstring may be in several places.
_EQUAL: Final = 1e-6


@dataclass(frozen=True)
class Sample:
    """Vectors to index `(n, dim)`, questions `(q, dim)`, and the score of each question's tenth-best vector `(q,)`."""

    vectors: NDArray[np.float32]
    queries: NDArray[np.float32]
    tenth: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> Self:
        """Compare every question with every vector.

        Raises:
            SettingsError: there are too few vectors.
        """
        if len(vectors) < WANTED:
            raise SettingsError(f"{len(vectors)} vectors cannot give the {WANTED} best: take more")
        scores = queries @ vectors.T
        return cls(vectors, queries, np.partition(scores, -WANTED, axis=1)[:, -WANTED])

    def recall(self, query: int, found: list[int]) -> float:
        """Return the share of the ten best that were found; a vector of equal score counts as well."""
        scores = self.vectors[found[:WANTED]] @ self.queries[query]
        return float(np.count_nonzero(scores >= self.tenth[query] - _EQUAL)) / WANTED

    def save(self, path: Path) -> Path:
        """Write it to a file for another process; return the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, vectors=self.vectors, queries=self.queries, tenth=self.tenth)
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file from `save`."""
        with np.load(path) as kept:
            return cls(kept["vectors"], kept["queries"], kept["tenth"])


def real_sample(release: Path, folder: Path, chunks: int, questions: int) -> Sample:
    """Return real chunks, and as questions the first lines of other documents; embedded once and cached.

    Raises:
        SettingsError: there is too little text, or the release serves a format that does not run in process.
    """
    kept = folder / f"{_CORPUS}-{Manifest.load(release).release}-{chunks}-{questions}.npz"
    if not kept.is_file():
        preprocessor, encoder = Preprocessor.load(release), InProcessEncoder.load(release)
        # Every document has at least one chunk, so as many documents are enough.
        documents = iter(read_documents(_CORPUS, chunks + questions))
        asked = [_first_line(document) for document in islice(documents, questions)]
        texts = [chunk.encoder_text for document in documents for chunk in preprocessor.chunks(document)][:chunks]
        queries = [preprocessor.query_text(line) for line in asked]
        Sample.of(_embedded(encoder, texts, "document"), _embedded(encoder, queries, "query")).save(kept)
    return Sample.load(kept)


def mixed_sample(real: Sample, count: int, seed: int) -> Sample:
    """Return `count` vectors that lie between real ones, and the real questions.

    Random directions are unlike text: they have no close neighbours, and every index does badly on them.
    """
    numbers = np.random.default_rng(seed)
    first, second = (real.vectors[numbers.integers(len(real.vectors), size=count)] for _ in range(2))
    aside = numbers.standard_normal(first.shape, np.float32) * (_ASIDE / np.sqrt(first.shape[1]))
    made = first + _TOWARDS_ANOTHER * second + aside
    return Sample.of((made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32), real.queries)


def _first_line(document: Document) -> str:
    return next(line.strip() for line in document.text.splitlines() if line.strip())


def _embedded(encoder: InProcessEncoder, texts: list[str], role: Role) -> NDArray[np.float32]:
    """Return one vector a text, in order; in batches of similar length, or most of the work would be padding."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    vectors = np.empty((len(texts), encoder.manifest.dimension), np.float32)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        vectors[rows] = encoder.embed([texts[row] for row in rows], role).vectors
    return vectors
