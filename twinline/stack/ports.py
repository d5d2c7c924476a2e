"""Ports are checked before use: a taken port is an error with its holder and the setting to change."""

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from twinline.contract.errors import SettingsError


@dataclass(frozen=True)
class Port:
    """A port that a part listens on, and the environment variable that moves it."""

    number: int
    setting: str


def is_free(host: str, number: int) -> bool:
    """Return whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As in servers: an address that lingers from a closed connection is not in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise SettingsError(f"cannot listen on {host}:{number}: {error.strerror}") from error
    return True


def holder(number: int) -> str:
    """Name the process that listens on a port, as far as this user may see it."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN or connection.pid is None:
            continue
        if not connection.laddr or connection.laddr.port != number:
            continue
        try:
            process = psutil.Process(connection.pid)
            return f"{process.name()} (pid {process.pid}: {' '.join(process.cmdline())[:80]})"
        except psutil.Error:
            # The process has ended between the two looks, or belongs to another user.
            return f"pid {connection.pid}"
    return "a process of another user"


def check_free(host: str, ports: Iterable[Port]) -> None:
    """Raise one SettingsError that lists every taken port, its holder and its setting."""
    taken = [port for port in ports if not is_free(host, port.number)]
    if taken:
        lines = [f"port {port.number} is held by {holder(port.number)}: stop it, or set {port.setting}" for port in taken]
        raise SettingsError("; ".join(lines))
