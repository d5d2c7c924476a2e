"""The index settings of a release's collection: they decide speed, memory and recall of a search, and never a vector.

They are part of the release: two releases that differ only in them have a collection each.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, Self, TypeAlias

from twinline.contract.canonical import JSON
from twinline.contract.documents.filterable import FIELD_TYPES, FieldType, is_plain_name
from twinline.contract.errors import SettingsError, check_whole_number

Quantization: TypeAlias = Literal["none", "int8", "binary"]

_QUANTIZATIONS: Final = ("none", "int8", "binary")
# Lower and upper bounds: below them there is no graph, beyond them only memory use grows.
_BOUNDS: Final = {"m": (4, 128), "ef_construct": (4, 4_096), "ef_search": (1, 10_000), "oversampling_percent": (100, 2_000)}


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The settings of a collection's index.

    Attributes:
        m: links of each point in the graph (HNSW).
        ef_construct: candidates during the building of the graph.
        ef_search: candidates of a search.
        quantization: compression of the vectors for the search; the full vectors stay beside them.
        rescore: whether full vectors rank the candidates from compressed vectors again.
        oversampling_percent: candidates from compressed vectors, before rescoring, for 100 wanted ones.
        keywords: payload fields, beside the platform's own, that are indexed as keywords for filters, such as `metadata.team`.
        filters: the metadata fields that a search may filter by, with their types: `{"metadata.year": "integer"}`.
    """

    # The defaults never change: they are the values of manifests without the field. The current best ones are in params.yaml.
    m: int = 16
    ef_construct: int = 100
    ef_search: int = 128
    quantization: Quantization = "none"
    rescore: bool = True
    oversampling_percent: int = 200
    keywords: tuple[str, ...] = ()
    filters: Mapping[str, FieldType] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _BOUNDS.items():
            check_whole_number(getattr(self, name), lowest, highest, f"index.{name}")
        if self.quantization not in _QUANTIZATIONS:
            raise SettingsError(f"index.quantization is {self.quantization!r}: must be one of {', '.join(_QUANTIZATIONS)}")
        if len(set(self.keywords)) != len(self.keywords) or not all(self.keywords):
            raise SettingsError(f"index.keywords is {list(self.keywords)}: each field once, and none empty")
        for name, type_ in self.filters.items():
            if not is_plain_name(name) or name in self.keywords:
                raise SettingsError(
                    f"index.filters has {name!r}: a field is called `metadata.NAME`, of letters, digits, `_`, `-` and dots, "
                    "and is not also among index.keywords"
                )
            if type_ not in FIELD_TYPES:
                raise SettingsError(f"index.filters has {name!r} as {type_!r}: must be one of {', '.join(FIELD_TYPES)}")

    @property
    def oversampling(self) -> float:
        """Return the number of candidates for each wanted one."""
        return self.oversampling_percent / 100

    @property
    def declared(self) -> dict[str, FieldType]:
        """Return the type of each payload field that the release declares filterable."""
        return {**dict.fromkeys(self.keywords, "keyword"), **self.filters}

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form. Without filters it is that of a release from before there were any, whose id stays."""
        value = {**asdict(self), "keywords": list(self.keywords)}
        return value if self.filters else {name: each for name, each in value.items() if name != "filters"}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the JSON form; missing settings have their defaults.

        Raises:
            SettingsError: a setting is unknown or out of bounds.
        """
        unknown = sorted(set(value) - {setting.name for setting in fields(cls)})
        if unknown:
            raise SettingsError(f"index has {unknown}: it may have {[setting.name for setting in fields(cls)]}")
        return cls(**{**value, "keywords": tuple(value.get("keywords", ()))})
