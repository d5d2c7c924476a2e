"""Named vectors: their specifications in a collection, and the two kinds of vector of a point."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError, SettingsError
from twinline.contract.sparse.vector import Sparse

# The name of the dense vector, in the engines too: every collection ever written has it.
DENSE: Final = "dense"
# Of the terms, where a release has words.
WORDS: Final = "words"
Dense = NDArray[np.float32]


Vector = Dense | Sparse


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """The specification of the vectors under one name.

    Args:
        dimension: how many numbers a dense vector has; None for a sparse one, whose ids are any of 32 bits.
        distance: `cosine` for a dense vector, which the store keeps at length 1; `dot` for a sparse one.

    Raises:
        SettingsError: the three do not go together.
    """

    kind: Literal["dense", "sparse"]
    dimension: int | None
    distance: Literal["cosine", "dot"]

    def __post_init__(self) -> None:
        is_dense = self.kind == "dense" and self.distance == "cosine" and self.dimension is not None and self.dimension > 0
        is_sparse = self.kind == "sparse" and self.distance == "dot" and self.dimension is None
        if not is_dense and not is_sparse:
            raise SettingsError(f"{self} cannot be stored: dense has a dimension and cosine, sparse has no dimension and dot")

    def fits(self, vector: Vector) -> bool:
        """Return whether a vector is of this kind and dimension."""
        if isinstance(vector, Sparse):
            return self.kind == "sparse"
        return self.kind == "dense" and vector.shape == (self.dimension,)


def one_dense(dimension: int) -> dict[str, VectorSpec]:
    """Return the vectors of a collection that has the dense one alone."""
    return {DENSE: VectorSpec("dense", dimension, "cosine")}


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A question: which points, `depth` at most, have the vector of the name `using` nearest to this one?"""

    using: str
    vector: Vector
    depth: int


def check_asks(place: str, specs: Mapping[str, VectorSpec], asks: Iterable[Ask]) -> None:
    """Raise ContractError unless a collection has the vector of each ask, by name, kind and dimension."""
    for ask in asks:
        _check(place, specs, ask.using, ask.vector)


def check_vectors(place: str, specs: Mapping[str, VectorSpec], vectors: Mapping[str, Vector]) -> None:
    """Raise ContractError unless a point has all of a collection's vectors and no other."""
    for name, vector in vectors.items():
        _check(place, specs, name, vector)
    missing = sorted(specs.keys() - vectors.keys())
    if missing:
        raise ContractError(f"{place} takes {_listed(specs)}, a point has no {', '.join(missing)}: give every chunk all of them")


def vectors_to_json(vectors: Mapping[str, Vector]) -> dict[str, JSON]:
    """Return the JSON form: the dense vector as `vector`, where older versions look for it, and `vectors` if there are others."""
    dense, others = vectors.get(DENSE), {name: _to_json(vector) for name, vector in vectors.items() if name != DENSE}
    value = {"vector": None if dense is None else _to_json(dense)}
    return {**value, "vectors": others} if others else value


def vectors_from_json(value: Mapping[str, Any]) -> dict[str, Vector]:
    """Read the JSON form, of this version or of one before vectors had names."""
    vectors = {name: _from_json(vector) for name, vector in value.get("vectors", {}).items()}
    return vectors if value["vector"] is None else {DENSE: _from_json(value["vector"]), **vectors}


def _check(place: str, specs: Mapping[str, VectorSpec], name: str, vector: Vector) -> None:
    if name not in specs or not specs[name].fits(vector):
        found = "a sparse vector" if isinstance(vector, Sparse) else f"a dense vector of shape {vector.shape}"
        raise ContractError(f"{place} takes {_listed(specs)}, not {found} as {name!r}: build a collection that does")


def _listed(specs: Mapping[str, VectorSpec]) -> str:
    return ", ".join(
        f"{name} (sparse)" if spec.dimension is None else f"{name} ({spec.dimension} numbers)" for name, spec in specs.items()
    )


def _to_json(vector: Vector) -> JSON:
    if isinstance(vector, Sparse):
        return {"ids": list(vector.ids), "weights": list(vector.weights)}
    values: list[JSON] = vector.tolist()
    return values


def _from_json(value: Any) -> Vector:
    if isinstance(value, Mapping):
        return Sparse(tuple(value["ids"]), tuple(value["weights"]))
    return np.asarray(value, np.float32)
