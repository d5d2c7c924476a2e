"""`params.yaml`: the numbers of an experiment, read by DVC stages into frozen dataclasses; an unknown key is an error."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from twinline.contract.artefacts import PARAMS
from twinline.contract.errors import SettingsError

T = TypeVar("T")


def load_params(section: str, cls: type[T], path: Path | str = PARAMS) -> T:
    """Return one section of the parameters, named with dots: `encoder.train`.

    Raises:
        SettingsError: the file or section is missing, a key is unknown or missing, a value has the wrong type.
    """
    return build_params(_section(section, path), cls, f"{path}: section `{section}`")


def load_plain_params(section: str, cls: type[T], path: Path | str = PARAMS) -> T:
    """Return the keys of a section that are not sections themselves; an empty `section` is the top of the file.

    Raises:
        SettingsError: as `load_params`.
    """
    values = {key: value for key, value in _section(section, path).items() if not isinstance(value, Mapping)}
    return build_params(values, cls, f"{path}: section `{section}`" if section else str(path))


def _section(section: str, path: Path | str) -> Mapping[str, Any]:
    values: Mapping[str, Any] = read_params(path)
    for name in section.split(".") if section else ():
        if values.get(name) is None:
            raise SettingsError(f"{path}: no section `{section}`; found {sorted(values)} where `{name}` should be")
        values = values[name]
        if not isinstance(values, Mapping):
            raise SettingsError(f"{path}: section `{section}` is {values!r}, must be a mapping")
    return values


def build_params(values: Mapping[str, Any], cls: type[T], place: str) -> T:
    """Return a frozen dataclass of checked values."""
    if not is_dataclass(cls):
        raise TypeError(f"{cls} is not a dataclass")
    known = {field.name: field for field in fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise SettingsError(f"{place}: unknown key {', '.join(map(repr, unknown))}; known are {', '.join(sorted(known))}")
    missing = [
        name
        for name, field in known.items()
        if name not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise SettingsError(f"{place}: missing key {', '.join(map(repr, missing))}")
    hints = get_type_hints(cls)
    checked = {}
    for name, value in values.items():
        try:
            checked[name] = TypeAdapter(hints[name]).validate_python(value, strict=not isinstance(value, int | list | dict))
        except ValidationError as exc:
            message = "; ".join(error["msg"] for error in exc.errors(include_url=False))
            raise SettingsError(f"{place}: {name} is {value!r}: {message}") from exc
    return cls(**checked)


def set_params(tree: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Change values of a tree of parameters in place, by dotted name.

    Raises:
        SettingsError: a name is not in the tree; a number that no stage reads would change nothing.
    """
    for name, value in values.items():
        *sections, key = name.split(".")
        place: Any = tree
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict) or key not in place:
            raise SettingsError(f"params.yaml has no {name}: see there for what can be set")
        place[key] = value


def read_params(path: Path | str = PARAMS) -> dict[str, Any]:
    """Return the whole file.

    Raises:
        SettingsError: it is missing, or not YAML with a mapping at the top.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError as exc:
        place = Path(path).absolute()
        raise SettingsError(f"{place} is missing: run in the project's folder, the one with dvc.yaml and params.yaml") from exc
    except yaml.YAMLError as exc:
        raise SettingsError(f"{path} is not YAML: {exc}") from exc
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: the top is {type(tree).__name__}, must be a mapping")
    return tree
