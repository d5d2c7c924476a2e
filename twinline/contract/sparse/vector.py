"""A sparse vector: weighted terms."""

from dataclasses import dataclass
from typing import Final

from twinline.contract.errors import ContractError

# The engines keep ids as 32 bits and weights as float32, which holds every integer up to here exactly.
LARGEST_ID: Final = 2**32 - 1
LARGEST_WEIGHT: Final = 2**24
# What a rare name or code weighs beyond its rarity in a query: no other term of a query weighs as much as this.
NAME_WEIGHT: Final = 1_024


@dataclass(frozen=True, slots=True)
class Sparse:
    """Weighted terms: ids in ascending order, each with a weight of 1 or more.

    Weights are integers. Their sums do not depend on the order of addition, so every engine and the offline evaluation give
    the same score to the last digit, as long as it stays within `LARGEST_WEIGHT`.

    Raises:
        ContractError: ids are out of order or out of range, or a weight is.
    """

    ids: tuple[int, ...]
    weights: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.weights):
            raise ContractError(f"a sparse vector has {len(self.ids)} ids and {len(self.weights)} weights: give each id one")
        if any(first >= second for first, second in zip(self.ids, self.ids[1:], strict=False)):
            raise ContractError("a sparse vector's ids are not in ascending order, each once: sort them and add up repeated ones")
        if self.ids and not 0 <= self.ids[0] <= self.ids[-1] <= LARGEST_ID:
            raise ContractError(f"a sparse vector has ids {self.ids[0]} to {self.ids[-1]}: only 0 to {LARGEST_ID} can be stored")
        wrong = [weight for weight in self.weights if not isinstance(weight, int) or not 1 <= weight <= LARGEST_WEIGHT]
        if wrong:
            raise ContractError(f"a sparse vector has the weight {wrong[0]!r}: give integers from 1 to {LARGEST_WEIGHT}")

    @property
    def has_rare_name(self) -> bool:
        """Return whether a query holds a name or code that few chunks have."""
        return any(weight >= NAME_WEIGHT for weight in self.weights)
