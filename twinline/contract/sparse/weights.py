"""Weights of terms: BM25 in integers, the text's part in the index and the rarity in the query.

    score(query, text) = sum over common terms of   rarity(term)  x  saturation(occurrences, length)

    saturation = 255 tf / (tf + k1 (1 - b + b L / mean L))       rounded down, 1 at least
    rarity     = 64 ln(1 + (N - n + 0.5) / (n + 0.5))            rounded, for n of N chunks; an unknown term counts as n = 1

From version 2 on, a name or code of at most ten chunks weighs 1,024 more in a query: more than any other word can, so the chunks
that hold it come first by words, whatever the sentence around it says. Fusion tells such a query by that weight.

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, in the form of Lucene, which has
no negative rarity and leaves out the constant k1 + 1. A query's weights add up to 65,792 at most, times 255: below 2^24, so a
float32 holds every sum exactly.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, Self

from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.sparse.analyzer import Analyzer, pieces
from twinline.contract.sparse.ids import term_id
from twinline.contract.sparse.names import names
from twinline.contract.sparse.statistics import LENGTH_UNIT, STATISTICS_FILE, Statistics
from twinline.contract.sparse.vector import LARGEST_WEIGHT, NAME_WEIGHT, Sparse

SATURATION_STEPS: Final = 255
RARITY_STEPS: Final = 64
HIGHEST_RARITY: Final = 1_023
MOST_QUERY_TERMS: Final = 64
# Of all terms of a query: with saturations of 255, a sum that a float32 holds.
MOST_QUERY_WEIGHT: Final = (LARGEST_WEIGHT - 1) // SATURATION_STEPS
# A name of more chunks is a word like others.
MOST_NAMED_CHUNKS: Final = 10
_NAMES_SINCE: Final = 2
# Of a corpus without statistics: any number, since all terms have it.
_ALIKE: Final = 512
_REMEMBERED: Final = 65_536
_LONGEST_REMEMBERED: Final = 32


class Words:
    """A sparse contract made runnable. Thread-safe: nothing changes after construction but a cache of equal values.

    Args:
        contract: the sparse part of a release's contract.
        statistics: of the release's corpus.
    """

    def __init__(self, contract: SparseContract, statistics: Statistics) -> None:
        contract.check("sparse contract")
        self.contract = contract
        self.statistics = statistics
        self._analyzer = Analyzer(contract.analyzer, contract.language)
        self._rarity = _rarities(statistics)
        chunks = statistics.chunks
        self._rarest = _rarity(1, chunks) if chunks else _ALIKE
        self._least_of_names = _rarity(min(MOST_NAMED_CHUNKS, chunks), chunks) if chunks else _ALIKE
        self._ids: dict[str, tuple[int, ...]] = {}

    @classmethod
    def load(cls, folder: Path, contract: SparseContract) -> Self:
        """Read the statistics of a release's folder.

        Raises:
            MismatchError: they are missing or are not what the contract names.
        """
        return cls(contract, Statistics.load(folder / STATISTICS_FILE, contract.statistics_sha256))

    def terms(self, text: str) -> list[str]:
        """Return a text's terms in their order, repeated ones too; `term_id` gives the id of each."""
        return self._analyzer.terms(text)

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text's terms in their order, repeated ones too."""
        remembered = self._ids
        found: list[int] = []
        for piece in pieces(text):
            ids = remembered.get(piece)
            found.extend(self._made(piece) if ids is None else ids)
        return found

    def document(self, text: str) -> Sparse:
        """Return the sparse vector of a chunk's text; empty for a text without a term."""
        counts = Counter(self.ids(text))
        norm, mean = self._norm(counts.total()), max(self.statistics.mean_length, 1)
        ids = sorted(counts)
        return Sparse(tuple(ids), tuple(self._saturation(counts[identity], norm, mean) for identity in ids))

    def query(self, text: str) -> Sparse:
        """Return the sparse vector of a query: the weight of each of its terms, the heaviest 64 of them."""
        weights = {identity: self._rarity.get(identity, self._rarest) for identity in self.ids(text)}
        if self.contract.weights >= _NAMES_SINCE:
            weights |= {identity: NAME_WEIGHT + weights[identity] for identity in self._rare_names(text, weights)}
        heaviest = sorted(weights, key=lambda identity: (-weights[identity], identity))[:MOST_QUERY_TERMS]
        totals = accumulate(weights[identity] for identity in heaviest)
        kept = [identity for identity, total in zip(heaviest, totals, strict=True) if total <= MOST_QUERY_WEIGHT]
        ids = sorted(identity for identity in kept if weights[identity])
        return Sparse(tuple(ids), tuple(weights[identity] for identity in ids))

    def _rare_names(self, text: str, weights: Mapping[int, int]) -> set[int]:
        """Return the terms of names and codes as a whole, without their parts, where few chunks have them."""
        # A stop word has no term.
        terms = [found[-1] for name in names(text) if (found := self._analyzer.terms_of(name))]
        return {identity for identity in map(term_id, terms) if weights[identity] >= self._least_of_names}

    def _norm(self, length: int) -> int:
        """Return k1 (1 - b + b L / mean), times 10,000 times the mean: the divisor's second part, as a whole number."""
        k1, b, mean = self.contract.k1_percent, self.contract.b_percent, self.statistics.mean_length
        # Without statistics no length is long.
        return k1 * ((100 - b) * mean + b * length * LENGTH_UNIT) if mean else k1 * 100

    @staticmethod
    def _saturation(occurrences: int, norm: int, mean: int) -> int:
        scaled = occurrences * 10_000 * mean
        return max(1, SATURATION_STEPS * scaled // (scaled + norm))

    def _made(self, piece: str) -> tuple[int, ...]:
        ids = tuple(map(term_id, self._analyzer.terms_of(piece)))
        if len(piece) <= _LONGEST_REMEMBERED:
            if len(self._ids) >= _REMEMBERED:
                self._ids.clear()
            self._ids[piece] = ids
        return ids


def score(query: Sparse, document: Sparse) -> int:
    """Return the dot product: the score that a store gives, as a whole number."""
    weights = dict(zip(document.ids, document.weights, strict=True))
    return sum(weight * weights.get(identity, 0) for identity, weight in zip(query.ids, query.weights, strict=True))


def _rarities(statistics: Statistics) -> Mapping[int, int]:
    pairs: Sequence[tuple[int, int]] = list(zip(statistics.ids.tolist(), statistics.frequencies.tolist(), strict=True))
    return {identity: _rarity(frequency, statistics.chunks) for identity, frequency in pairs}


def _rarity(frequency: int, chunks: int) -> int:
    nats = math.log1p((chunks - frequency + 0.5) / (frequency + 0.5))
    return min(HIGHEST_RARITY, round(RARITY_STEPS * nats))
