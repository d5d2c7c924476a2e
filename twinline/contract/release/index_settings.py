"""How a release's collection is indexed: what decides speed, memory and recall of a search, and never a vector.

Part of the release: two releases that differ only in here are two releases, with a collection each.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, Self, TypeAlias

from twinline.contract.canonical import JSON
from twinline.contract.errors import SettingsError

Quantization: TypeAlias = Literal["none", "int8", "binary"]

_QUANTIZATIONS: Final = ("none", "int8", "binary")
# Lower and upper bounds: below them there is no graph, beyond them only memory is spent.
_BOUNDS: Final = {"m": (4, 128), "ef_construct": (4, 4_096), "ef_search": (1, 10_000), "oversampling_percent": (100, 2_000)}


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The settings of a collection's index. The defaults are never changed: a manifest that says nothing means them.

    Attributes:
        m: links of each point in the graph (HNSW).
        ef_construct: candidates that are looked at while the graph is built.
        ef_search: candidates that a search looks at.
        quantization: how vectors are compressed for the search; the full ones are kept beside them.
        rescore: whether candidates found by compressed vectors are compared again by the full ones.
        oversampling_percent: how many candidates the compressed vectors give for 100 that are wanted, before rescoring.
        keywords: payload fields, beside the platform's own, that are indexed for filters, such as `metadata.team`.
    """

    # What a manifest that does not say means, so for good; what is best now is in params.yaml.
    m: int = 16
    ef_construct: int = 100
    ef_search: int = 128
    quantization: Quantization = "none"
    rescore: bool = True
    oversampling_percent: int = 200
    keywords: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _BOUNDS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not lowest <= value <= highest:
                raise SettingsError(f"index.{name} is {value!r}: must be a whole number from {lowest} to {highest}")
        if self.quantization not in _QUANTIZATIONS:
            raise SettingsError(f"index.quantization is {self.quantization!r}: must be one of {', '.join(_QUANTIZATIONS)}")
        if len(set(self.keywords)) != len(self.keywords) or not all(self.keywords):
            raise SettingsError(f"index.keywords is {list(self.keywords)}: each field once, and none empty")

    @property
    def oversampling(self) -> float:
        """Return how many candidates are looked at for each one that is wanted."""
        return self.oversampling_percent / 100

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form, every setting included."""
        return {**asdict(self), "keywords": list(self.keywords)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the JSON form; what it does not say is as by default.

        Raises:
            SettingsError: it says something that there is not, or that cannot be.
        """
        unknown = sorted(set(value) - {field.name for field in fields(cls)})
        if unknown:
            raise SettingsError(f"index has {unknown}: it may have {[field.name for field in fields(cls)]}")
        return cls(**{**value, "keywords": tuple(value.get("keywords", ()))})
