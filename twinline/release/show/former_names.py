"""The former names of parameters, from when params.yaml held the encoder's sections at its top.

Commit 4b22519 was the last one of that layout. Registered versions keep their own params.yaml, so these names stay as long as
such a version may be compared with a newer one.
"""

from collections.abc import Mapping
from typing import Any, Final

_ENCODER: Final = "encoder"
_OF_THE_ENCODER: Final = frozenset(
    ("base_model", "contract", "pairs", "train", "evaluate", "export", "parity", "quality", "profile", "package", "index")
)


def in_one_layout(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the parameters of two commits under the same names; two of one layout stay unchanged."""
    if (_ENCODER in a) == (_ENCODER in b) or not a or not b:
        return a, b
    return _by_present_names(a), _by_present_names(b)


def _by_present_names(params: Mapping[str, Any]) -> Mapping[str, Any]:
    if _ENCODER in params:
        return params
    moved = {name: value for name, value in params.items() if name in _OF_THE_ENCODER}
    return {**{name: value for name, value in params.items() if name not in moved}, _ENCODER: moved}
