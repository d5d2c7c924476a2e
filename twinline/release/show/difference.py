"""The differences between two releases, and in one line the meaning of a switch. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from twinline.release.show.described import Described
from twinline.release.show.former_names import in_one_layout

_ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One value that differs. `difference` is b - a where both are numbers."""

    what: str
    a: Any
    b: Any
    difference: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The differences by section. Every metric is listed: an unchanged figure is news too.

    A value that is known of one side only, or of none, is `unknown`: it may differ.
    """

    a: str
    b: str
    same_space: bool
    meaning: str
    sections: Mapping[str, tuple[Row, ...]]
    unknown: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def compare(a: Described, b: Described) -> Difference:
    """Return the differences from `a` to `b`."""
    sections = {
        "contract": _rows(a.contract, b.contract),
        "parameters": _rows(*in_one_layout(a.params or {}, b.params or {})),
        "data": _rows(_data(a), _data(b)),
        "metrics": tuple(_metrics(a.manifest.get("metrics") or {}, b.manifest.get("metrics") or {})),
        "formats": _rows(_formats(a.manifest), _formats(b.manifest)),
        "lineage": _rows(a.manifest.get("lineage") or {}, b.manifest.get("lineage") or {}),
    }
    same_space = a.manifest["space"] == b.manifest["space"]
    return Difference(a.release, b.release, same_space, meaning(a, b), sections, tuple(_unknown(a, b)))


def meaning(a: Described, b: Described) -> str:
    """Return the meaning of a switch from `a` to `b` for the vectors."""
    if a.release == b.release:
        return "the same release: there is nothing to switch"
    if b.served:
        served = "; its collection is served, so the switch takes seconds"
    else:
        served = "; whether its collection is served is not known" if b.notes else "; its collection is to be built first"
    if a.manifest["space"] != b.manifest["space"]:
        return (
            f"another space: vectors cannot be compared, so every document is embedded again, in a collection of its own{served}"
        )
    if a.manifest["fingerprints"]["index"] != b.manifest["fingerprints"]["index"]:
        return f"the same space, other chunks: texts that did not change keep their vectors, the rest is embedded{served}"
    return f"the same space and the same chunks: vectors are kept, nothing is embedded again{served}"


def flattened(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of nested objects under its dotted name; lists are leaves unless they hold objects."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flattened(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _unknown(a: Described, b: Described) -> Iterator[str]:
    for described in (a, b):
        if described.params is None:
            yield f"parameters of {described.release}"
        if described.snapshot is None:
            yield f"data of {described.release}"


def _rows(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Row, ...]:
    left, right = dict(flattened(a)), dict(flattened(b))
    names = [*left, *(name for name in right if name not in left)]
    return tuple(
        Row(name, left.get(name, _ABSENT), right.get(name, _ABSENT), _minus(right.get(name), left.get(name)))
        for name in names
        if left.get(name, _ABSENT) != right.get(name, _ABSENT)
    )


def _metrics(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Row]:
    left, right = dict(flattened(a)), dict(flattened(b))
    for name in [*left, *(name for name in right if name not in left)]:
        if _is_number(left.get(name)) or _is_number(right.get(name)):
            yield Row(name, left.get(name, _ABSENT), right.get(name, _ABSENT), _minus(right.get(name), left.get(name)))


def _data(described: Described) -> dict[str, Any]:
    lineage = described.manifest.get("lineage") or {}
    snapshot = described.snapshot or {}
    return {"snapshot": lineage.get("snapshot"), "source": snapshot.get("uri"), "rows": snapshot.get("counts") or {}}


def _formats(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "serving": manifest.get("serving") or {},
        **{entry["name"]: {key: value for key, value in entry.items() if key != "name"} for entry in manifest.get("formats", [])},
        **{entry["name"]: {"dropped": entry["reason"]} for entry in manifest.get("dropped_formats", [])},
    }


def _minus(b: Any, a: Any) -> float | None:
    return float(b) - float(a) if _is_number(a) and _is_number(b) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
