"""Twinline: the library that training and serving share, and the `twinline` command.

The public names stand in `__all__`; anything else may change from version to version. Each is imported at its first use, so
that a program which needs one of them, and the model server with its copy of the contract, load nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinline.contract.errors import (
        ContractError,
        DocumentError,
        MismatchError,
        SettingsError,
        TransientError,
        TwinlineError,
    )
    from twinline.search.client import AsyncSearchClient, SearchClient
    from twinline.search.results import Hit, SearchResult

__all__ = [
    "AsyncSearchClient",
    "ContractError",
    "DocumentError",
    "Hit",
    "MismatchError",
    "SearchClient",
    "SearchResult",
    "SettingsError",
    "TransientError",
    "TwinlineError",
]

_PLACES = {
    "twinline.search.client": ("AsyncSearchClient", "SearchClient"),
    "twinline.search.results": ("Hit", "SearchResult"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its public names are {', '.join(__all__)}")
    module = next((place for place, names in _PLACES.items() if name in names), "twinline.contract.errors")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
