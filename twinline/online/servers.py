"""HTTP servers on threads of their own, so that a call to one does not delay the other."""

import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self

import uvicorn
from fastapi import FastAPI

from twinline.contract.errors import SettingsError, TransientError
from twinline.stack import ports
from twinline.stack.ports import Port

_GRACE_SECONDS: Final = 3  # for requests in progress at the end
_BACKLOG: Final = 512


class Servers:
    """The servers of this process, started together and stopped together."""

    def __init__(self) -> None:
        self._servers: list[uvicorn.Server] = []
        self._futures: list[Future[None]] = []
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="http")

    def start(self, app: FastAPI, host: str, port: Port) -> Self:
        """Answer requests to `app`.

        Raises:
            SettingsError: the port is taken, or the address is not of this machine.
        """
        listening = _listen(host, port)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_SECONDS)
        server = uvicorn.Server(config)
        self._servers.append(server)
        # Outside the main thread uvicorn installs no signal handlers.
        self._futures.append(self._executor.submit(server.run, [listening]))
        return self

    def check(self) -> None:
        """Raise when a server has ended by itself."""
        for future in self._futures:
            if future.done():
                future.result()
                raise TransientError("an HTTP server ended by itself: see the log above")

    def stop(self) -> None:
        """Finish the requests in progress, take no new ones, and return."""
        for server in self._servers:
            server.should_exit = True
        deadline = time.monotonic() + _GRACE_SECONDS + 2
        while not all(future.done() for future in self._futures) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._executor.shutdown(wait=False)


def _listen(host: str, port: Port) -> socket.socket:
    try:
        return socket.create_server((host, port.number), backlog=_BACKLOG)
    except OSError as error:
        _explain([port], host)
        raise SettingsError(f"cannot listen on {host}:{port.number}: {error.strerror}; see {port.setting}") from error


def _explain(taken: Sequence[Port], host: str) -> None:
    # If the port is taken, this raises with the name of its process.
    ports.check_free(host, taken)
