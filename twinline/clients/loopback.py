"""Traffic to this machine goes through no proxy: not ours, and not that of the programs that we start."""

import ipaddress
import os
from collections.abc import MutableMapping
from typing import Final

# Where servers of this machine are asked: also by the address that stands for all of its own.
_NAMES: Final = ("127.0.0.1", "localhost", "::1", "0.0.0.0")  # noqa: S104
_VARIABLES: Final = ("no_proxy", "NO_PROXY")


def apply(environment: MutableMapping[str, str] | None = None) -> None:
    """Name this machine in `no_proxy` of this process and its child processes, beside what is named there.

    Args:
        environment: where to set the variables, `os.environ` by default. Libraries read either spelling, so both get all.
    """
    target = os.environ if environment is None else environment
    named = [name.strip() for variable in _VARIABLES for name in target.get(variable, "").split(",") if name.strip()]
    host = target.get("TWINLINE_HOST", "")
    whole = ",".join(dict.fromkeys([*named, *_NAMES, *([host] if host else [])]))
    for variable in _VARIABLES:
        target[variable] = whole


def is_this_machine(host: str) -> bool:
    """Return whether a host's name or address is that of loopback, or stands for every address of this machine."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    return address.is_loopback or address.is_unspecified
