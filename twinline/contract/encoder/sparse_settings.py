"""The sparse part of a contract: how words become weighted terms, and which corpus statistics weigh them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from twinline.contract.canonical import JSON
from twinline.contract.errors import MismatchError, check_whole_number

# The rules themselves are `twinline.contract.sparse`: reading a contract needs none of them.
ANALYZER_VERSIONS: Final = (1,)
# No stemmer and no stop words.
NO_LANGUAGE: Final = "none"
LANGUAGE_NAMES: Final = (
    NO_LANGUAGE, "english", "german", "french", "spanish", "italian", "portuguese", "dutch", "turkish",
)  # fmt: skip
# Anserini's and so BEIR's k1 and b, times 100.
DEFAULT_K1_PERCENT: Final = 90
DEFAULT_B_PERCENT: Final = 40
# 1: BM25's saturation in 255 steps, Lucene's rarity in 64 steps a nat. 2: rare names weigh more. See `sparse/weights.py`.
WEIGHT_VERSIONS: Final = (1, 2)


@dataclass(frozen=True, slots=True)
class SparseContract:
    """Everything that decides a text's sparse vector.

    Attributes:
        analyzer: the version of the rules from text to terms.
        language: of stemmer, case and stop words; `none` for no stemmer.
        weights: the version of the formulas.
        k1_percent: BM25's k1, times 100: how soon repetition stops to count.
        b_percent: BM25's b, times 100: how much a long text is weighed down. Without corpus statistics it has no effect.
        statistics_sha256: of the file with the corpus statistics.
    """

    analyzer: int
    language: str
    weights: int
    k1_percent: int
    b_percent: int
    statistics_sha256: str

    def check(self, place: str) -> None:
        """Raise MismatchError for a value that this code cannot honour."""
        for name, value, known in (
            ("sparse analyzer", self.analyzer, ANALYZER_VERSIONS),
            ("sparse language", self.language, LANGUAGE_NAMES),
            ("sparse weights", self.weights, WEIGHT_VERSIONS),
        ):
            if value not in known:
                raise MismatchError(f"{place}: {name} is {value!r}, this code knows {list(known)}")
        for name, number, most in (("k1_percent", self.k1_percent, 1_000), ("b_percent", self.b_percent, 100)):
            check_whole_number(number, 0, most, f"{place}: sparse {name}", MismatchError)

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Raises:
            TypeError: a field is missing or unknown.
        """
        return cls(**value)
