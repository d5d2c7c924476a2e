"""`params.yaml`: the numbers of an experiment, read by DVC stages into frozen dataclasses; an unknown key is an error."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from contract.errors import SettingsError

T = TypeVar("T")


def load_params(section: str, cls: type[T], path: Path | str = "params.yaml") -> T:
    """Return one section of the parameters; an empty `section` reads the keys at the top that are no sections.

    Raises:
        SettingsError: the file or section is missing, a key is unknown or missing, a value has the wrong type.
    """
    tree = read_params(path)
    if section:
        values = tree.get(section)
        if values is None:
            raise SettingsError(f"{path}: no section `{section}`; found {sorted(tree)}")
    else:
        values = {key: value for key, value in tree.items() if not isinstance(value, Mapping)}
    if not isinstance(values, Mapping):
        raise SettingsError(f"{path}: section `{section}` is {values!r}, must be a mapping")
    return build_params(values, cls, f"{path}: section `{section}`" if section else str(path))


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


def read_params(path: Path | str = "params.yaml") -> dict[str, Any]:
    """Return the whole file.

    Raises:
        SettingsError: it is missing, or not YAML with a mapping at the top.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError as exc:
        raise SettingsError(f"{path} is missing: run from the checkout's root") from exc
    except yaml.YAMLError as exc:
        raise SettingsError(f"{path} is not YAML: {exc}") from exc
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: the top is {type(tree).__name__}, must be a mapping")
    return tree
