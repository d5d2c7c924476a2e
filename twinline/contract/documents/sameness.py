"""Whether two chunks say the same: search groups them, and evaluation counts what that costs, by this one measure.

    equal    the same content hash
    near     of both texts' terms at least 95 % are common to both (Jaccard), no term with a digit is in one alone, and each text
             has at least 40 terms

A term is a word between spaces, as it is written. A text whose words are longer than 16 characters in the mean is of a script
without spaces, and its terms are its pairs of characters. A digit decides, since prices, dates and codes tell apart what is equal
otherwise; a short text differs in what little it has. Another rule is another version.
"""

import re
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Generic, TypeVar

SAMENESS_VERSION: Final = 1
LEAST_PERCENT: Final = 95
LEAST_TERMS: Final = 40
_LONGEST_MEAN_WORD: Final = 16
_DIGIT: Final = re.compile(r"\d")

Id = TypeVar("Id", bound=Hashable)


def terms(text: str) -> frozenset[str]:
    """Return the terms by which texts are compared."""
    words = text.split()
    if len(words) * _LONGEST_MEAN_WORD >= len(text):
        return frozenset(words)
    return frozenset(first + second for first, second in pairwise(text))


def are_near(first: frozenset[str], second: frozenset[str]) -> bool:
    """Return whether two texts say the same by their terms, though they are not equal."""
    smaller, larger = sorted((len(first), len(second)))
    # The common terms are the smaller set at most: most pairs end here.
    if smaller < LEAST_TERMS or 100 * smaller < LEAST_PERCENT * larger:
        return False
    common = len(first & second)
    if 100 * common < LEAST_PERCENT * (smaller + larger - common):
        return False
    return not any(_DIGIT.search(term) for term in first ^ second)


@dataclass(frozen=True, slots=True)
class _Said(Generic[Id]):
    id: Id
    terms: frozenset[str]


class Groups(Generic[Id]):
    """Chunks by what they say, in the order in which they come: the first of each group stands for it.

    Each is compared with the first of every group alone, so what comes later changes no group, and a chain of small differences
    does not join its ends.
    """

    def __init__(self) -> None:
        self._by_hash: dict[str, Id] = {}
        self._said: list[_Said[Id]] = []

    def __len__(self) -> int:
        return len(self._said)

    def first_of(self, identity: Id, content_hash: str, text: str, *, may_begin: bool = True) -> Id | None:
        """Return the first of the group that says what this chunk says; None where no group does.

        Args:
            may_begin: whether it then begins a group of its own.
        """
        if content_hash in self._by_hash:
            return self._by_hash[content_hash]
        own = terms(text)
        first = next((said.id for said in self._said if are_near(said.terms, own)), None)
        if first is None and may_begin:
            self._by_hash[content_hash] = identity
            self._said.append(_Said(identity, own))
        return first
