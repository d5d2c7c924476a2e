"""The middleware of every request: HEAD, the host's name, a limit on the body, one log line, one count."""

import ipaddress
import logging
import time
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinline.search.metrics import SearchMetrics

# The longest query, every character of it written as an escaped surrogate pair, fits with room to spare.
MAX_BODY_BYTES: Final = 128 * 1024
# A name that an attacker's page has pointed to loopback is none of these.
LOOPBACK_HOSTS: Final = ("127.0.0.1", "::1", "localhost")
ANY_ADDRESS: Final = "ADDRESS"
_QUIET_PATHS: Final = ("/healthz", "/readyz", "/metrics")
_log = logging.getLogger(__name__)


class HeadAsGet:
    """Answer HEAD as GET without the body, at every address that GET has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; the server sends headers, and drops what a HEAD may not carry."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        # A copy: the server looks at its own scope to know that a length without a body is right.
        await self._app({**scope, "method": "GET"}, receive, without_body)


class OwnHosts:
    """Refuse a request whose `Host` is no name of this service.

    A web page may point a name of its own to loopback, and would then read our answers as if they were its own.

    Args:
        hosts: names beside those of loopback; `ADDRESS` stands for every IP address, `*` for any name.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = {host.lower() for host in (*LOOPBACK_HOSTS, *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("host", "")
        if "*" in self._hosts or self._is_own(host_name(given)):
            await self._app(scope, receive, send)
        else:
            problem = {
                "error": "unknown_host",
                "detail": f"this service is not called {given[:200]!r}",
                "remedy": "Use its own address, or add the name to TWINLINE_SEARCH_HOSTS where it is served.",
            }
            await JSONResponse(problem, 400)(scope, receive, send)

    def _is_own(self, name: str) -> bool:
        return name in self._hosts or (ANY_ADDRESS.lower() in self._hosts and is_address(name))


def own_hosts(bound_to: str, named: str) -> tuple[str, ...]:
    """Return the hosts of a service beside those of loopback.

    Args:
        bound_to: the address or name that it listens on. Beyond loopback every IP address is accepted: only a name can be
            pointed elsewhere by somebody else.
        named: further names, with commas between them.
    """
    more = tuple(name.strip() for name in named.split(",") if name.strip())
    return more if bound_to in LOOPBACK_HOSTS else (bound_to, ANY_ADDRESS, *more)


def host_name(header: str) -> str:
    """Return the name in a `Host` header, without its port; IPv6 without its brackets."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header


def is_address(name: str) -> bool:
    """Return whether a host's name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class BodyLimit:
    """Refuse a request body above the limit before it is held in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with its body read up to the limit."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                await _too_large(scope, receive, send)
                return
            if not message.get("more_body"):
                break
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        await self._app(scope, replay, send)


class RequestLog:
    """Log and count each request: method, path, status, time. Never the query: it is private."""

    def __init__(self, app: ASGIApp, metrics: SearchMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "unknown")
            self._metrics.requested(path, status)
            if path not in _QUIET_PATHS:
                milliseconds = round((time.perf_counter() - started) * 1000, 1)
                _log.info("request", extra={"method": scope["method"], "path": path, "status": status, "ms": milliseconds})


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    problem = {
        "error": "body_too_large",
        "detail": f"the request body is larger than {MAX_BODY_BYTES} bytes",
        "remedy": "Send a shorter query; documents are published with `twinline publish`, not searched with.",
    }
    await JSONResponse(problem, 413)(scope, receive, send)
