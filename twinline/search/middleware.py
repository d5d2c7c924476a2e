"""The middleware of every request: a limit on the body, one log line, one count."""

import logging
import time
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinline.search.metrics import SearchMetrics

# The longest query, every character of it written as an escaped surrogate pair, fits with room to spare.
MAX_BODY_BYTES: Final = 128 * 1024
_QUIET_PATHS: Final = ("/healthz", "/readyz", "/metrics")
_log = logging.getLogger(__name__)


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
