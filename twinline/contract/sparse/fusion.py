"""Fusion: one ranked list from a dense one and one of words. Search, evaluation and gate rank by this function.

Every candidate has both scores: one that only one side listed is scored by the other side too, since absence from a list that
was cut says nothing. Ties are broken by a stated order, so equal scores come in the same order at every call: the fused score,
then the cosine, then the words' score, each descending, then the id, ascending.

    ranks    1 / (k + rank by cosine)  +  1 / (k + rank by words), ranks among the candidates, from 1
    scores   d / 100 x cosine's share  +  (1 - d / 100) x words' share, from the least to the greatest of the candidates

From version 2 on, a query with a rare name or code is fused by `scores` with d = 30 at most, but for the rule `dense`. An
encoder knows nothing of a code, and its nearest chunks would come before the chunk that holds it.

Sources: for `ranks`, Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet", 2009; for `scores`, Bruch,
Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2023.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, Literal, Self, TypeVar

from twinline.contract.canonical import JSON
from twinline.contract.errors import SettingsError, check_whole_number
from twinline.contract.sparse.vector import Sparse

FUSION_VERSIONS: Final = (1, 2)
Rule = Literal["dense", "ranks", "scores"]
RULES: Final[tuple[Rule, ...]] = ("dense", "ranks", "scores")

# The weight of the cosine at most, in a query with a rare name.
NAMED_DENSE_PERCENT: Final = 30
_NAMES_SINCE: Final = 2

# How much deeper each further look goes, where the first finds too few documents.
NEXT_REACH: Final = 4

Id = TypeVar("Id")


@dataclass(frozen=True, slots=True)
class Fusion:
    """How a release makes one list of two.

    Attributes:
        rule: `dense` ranks by the cosine alone; words are still there for whoever asks by words.
        version: of the rules.
        depth: the chunks that each side lists.
        k: of `ranks`.
        dense_percent: of `scores`: the weight of the cosine.

    Raises:
        SettingsError: a value that this code cannot honour.
    """

    # The default of a release without questions; see docs/decisions/hybrid-search.md.
    rule: Rule = "scores"
    version: int = FUSION_VERSIONS[-1]
    depth: int = 100
    k: int = 60
    dense_percent: int = 50

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise SettingsError(f"fusion rule is {self.rule!r}: must be one of {', '.join(RULES)}")
        if self.version not in FUSION_VERSIONS:
            raise SettingsError(f"fusion version is {self.version!r}, this code knows {list(FUSION_VERSIONS)}")
        for name, lowest, highest in (("depth", 1, 1_000), ("k", 0, 10_000), ("dense_percent", 0, 100)):
            check_whole_number(getattr(self, name), lowest, highest, f"fusion {name}")

    @property
    def label(self) -> str:
        """Return the rule with the numbers that it uses."""
        numbers = {"dense": "", "ranks": f" k={self.k}", "scores": f" dense={self.dense_percent}%"}
        return f"{self.rule}{numbers[self.rule]}"

    def of(self, query: Sparse) -> Self:
        """Return the fusion of one query, by its words: fewer percent of the cosine where it holds a rare name."""
        if self.version < _NAMES_SINCE or self.rule == "dense" or not query.has_rare_name:
            return self
        percent = min(self.dense_percent, NAMED_DENSE_PERCENT) if self.rule == "scores" else NAMED_DENSE_PERCENT
        return replace(self, rule="scores", dense_percent=percent)

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Raises:
            TypeError: a field is missing or unknown.
            SettingsError: a value that this code cannot honour.
        """
        return cls(**value)


def write_fusion(path: Path, fusion: Fusion) -> None:
    """Write the file from which a release is packaged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fusion.to_json(), indent=1) + "\n", "utf-8")


def read_fusion(path: Path) -> Fusion:
    """Read the file from `write_fusion`.

    Raises:
        SettingsError: there is none, or it holds no fusion.
    """
    try:
        return Fusion.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError as exc:
        raise SettingsError(f"{path} does not exist: run the evaluation first (`dvc repro encoder-evaluate`)") from exc
    except (TypeError, ValueError, SettingsError) as exc:
        raise SettingsError(f"{path} holds no fusion: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Id]):
    """One candidate with both of its scores: the cosine, and the sum of words, 0 where it shares none with the query."""

    id: Id
    cosine: float
    words: float


@dataclass(frozen=True, slots=True)
class Ranked(Generic[Id]):
    """A candidate in its place: the fused score, and its ranks by either side, from 1; None where that side has none."""

    candidate: Candidate[Id]
    fused: float
    dense_rank: int | None
    words_rank: int | None


def fuse(fusion: Fusion, candidates: Sequence[Candidate[Id]]) -> list[Ranked[Id]]:
    """Return the candidates best first.

    Args:
        candidates: with ids that have an order among themselves.
    """
    dense = _ranks((-each.cosine, each.id) for each in candidates)
    words = _ranks((-each.words, each.id) for each in candidates if each.words > 0)
    fused = _fused(fusion, candidates, dense, words)
    ranked = [Ranked(each, fused[each.id], dense[each.id], words.get(each.id)) for each in candidates]
    return sorted(ranked, key=lambda one: (-one.fused, -one.candidate.cosine, -one.candidate.words, one.candidate.id))


def _fused(
    fusion: Fusion, candidates: Sequence[Candidate[Id]], dense: Mapping[Id, int], words: Mapping[Id, int]
) -> dict[Id, float]:
    if fusion.rule == "dense":
        return {each.id: each.cosine for each in candidates}
    if fusion.rule == "ranks":
        # Whoever shares no word has the rank after the last of those that do.
        last = len(words) + 1
        return {each.id: 1 / (fusion.k + dense[each.id]) + 1 / (fusion.k + words.get(each.id, last)) for each in candidates}
    by_cosine = _shares({each.id: each.cosine for each in candidates})
    by_words = _shares({each.id: each.words for each in candidates})
    weight = fusion.dense_percent
    return {each.id: (weight * by_cosine[each.id] + (100 - weight) * by_words[each.id]) / 100 for each in candidates}


def _shares(scores: Mapping[Id, float]) -> dict[Id, float]:
    """Return each score's place between the least, 0, and the greatest, 1; 0 where all are equal."""
    least, greatest = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    if greatest == least:
        return dict.fromkeys(scores, 0.0)
    return {identity: (score - least) / (greatest - least) for identity, score in scores.items()}


def _ranks(keys: Iterable[tuple[float, Id]]) -> dict[Id, int]:
    return {identity: place for place, (_, identity) in enumerate(sorted(keys), start=1)}
