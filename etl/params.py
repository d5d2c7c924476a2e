"""The experiment numbers of the offline data stages: one frozen dataclass per section of params.yaml."""

from dataclasses import dataclass
from typing import Literal

from twinline.contract.errors import SettingsError


@dataclass(frozen=True, slots=True)
class IngestParams:
    """Section `ingest`. An empty column is looked for by its usual names."""

    max_reject_share: float = 0.5
    key_column: str = ""
    title_column: str = ""
    text_column: str = ""

    def __post_init__(self) -> None:
        _check_share("ingest.max_reject_share", self.max_reject_share)


@dataclass(frozen=True, slots=True)
class PrepareParams:
    """Section `prepare`: the definition of a near-duplicate.

    A document's set holds its runs of `shingle_words` consecutive words. Two documents are near-duplicates when the estimated
    Jaccard similarity of their sets reaches `near_duplicate_similarity`. Only documents that share one of `bands` bands of
    MinHash values are compared.
    """

    near_duplicate_similarity: float = 0.7
    shingle_words: int = 3
    hashes: int = 128
    bands: int = 32

    def __post_init__(self) -> None:
        _check_share("prepare.near_duplicate_similarity", self.near_duplicate_similarity)
        if self.shingle_words < 1 or self.bands < 1 or self.hashes < 1 or self.hashes % self.bands:
            raise SettingsError(
                f"prepare: hashes {self.hashes} must be a multiple of bands {self.bands}, and shingle_words "
                f"{self.shingle_words} at least 1"
            )


@dataclass(frozen=True, slots=True)
class PairsParams:
    """Section `pairs`.

    Args:
        natural: pairs out of the documents themselves (title and text, summary and body); `auto` takes them where the data
            set brings no judgements to train on.
        dev_share: share of the training queries for the development split, where the data set brings none.
        test_share: the same for a test split.
        min_body_words: a document with fewer words, after its natural query is taken out, gives no natural pair.
        seed: decides which clusters are held out.
    """

    natural: Literal["auto", "always", "never"] = "auto"
    dev_share: float = 0.1
    test_share: float = 0.1
    min_body_words: int = 30
    min_query_words: int = 3
    max_query_words: int = 64
    seed: int = 13

    def __post_init__(self) -> None:
        _check_share("encoder.pairs.dev_share", self.dev_share)
        _check_share("encoder.pairs.test_share", self.test_share)
        if self.dev_share + self.test_share >= 1:
            raise SettingsError(f"pairs: dev_share {self.dev_share} and test_share {self.test_share} leave nothing to train on")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise SettingsError(f"{name} is {value}, must be from 0 to 1")
