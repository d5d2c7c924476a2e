"""Errors as people and programs read them: one JSON object {error, detail, remedy} with the right status."""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from twinline.contract.errors import ContractError, DocumentError, MismatchError, SettingsError, TransientError, TwinlineError
from twinline.search.releases import NoActiveReleaseError, NotServedError

_DEFAULT_RETRY_SECONDS: Final = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, with which value, and what to do."""

    error: str
    detail: str
    remedy: str


# From the narrowest type to the widest: the first that fits is taken.
_PROBLEMS: Final[list[tuple[type[TwinlineError], int, str, str]]] = [
    (
        NoActiveReleaseError,
        503,
        "no_active_release",
        "Run `twinline demo`, or `twinline release` to build and activate one.",
    ),
    (
        NotServedError,
        503,
        "release_not_served",
        "Wait for the switch to finish; `twinline status` shows what is served.",
    ),
    (TransientError, 503, "unavailable", "Try again shortly; `twinline status` shows what is down."),
    (DocumentError, 400, "bad_query", "Change the query."),
    (MismatchError, 500, "mismatch", "Whoever runs this service must act: see the detail and `twinline status`."),
    (SettingsError, 400, "bad_request", "See /docs for what is accepted."),
    (ContractError, 500, "contract", "Whoever runs this service must act: see the detail."),
]


def problem_of(error: TwinlineError) -> tuple[int, Problem]:
    """Return the HTTP status and the problem that say what `error` says."""
    for kind, status, slug, remedy in _PROBLEMS:
        if isinstance(error, kind):
            return status, Problem(error.reason if isinstance(error, DocumentError) else slug, str(error), remedy)
    return 500, Problem("failed", str(error), "Whoever runs this service must act: see the detail.")


def retry_after(error: TwinlineError) -> dict[str, str]:
    """Return the header that tells a client when to try again, for errors that are worth it."""
    if not isinstance(error, TransientError):
        return {}
    return {"Retry-After": str(math.ceil(error.retry_after_seconds or _DEFAULT_RETRY_SECONDS))}


def install(app: FastAPI) -> None:
    """Make every error of `app` a `Problem`."""

    @app.exception_handler(TwinlineError)
    async def ours(request: Request, error: TwinlineError) -> JSONResponse:
        status, problem = problem_of(error)
        level = logging.ERROR if status == 500 else logging.WARNING
        _log.log(level, "request_refused", extra={"path": request.url.path, "status": status, "error": problem.error})
        return JSONResponse(asdict(problem), status, retry_after(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(asdict(_content_problem(request) or invalid_problem(error)), 422)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400 and isinstance(error.__cause__, ValueError | RecursionError):
            # FastAPI's only 400: the body could not be read as JSON, for another reason than its grammar.
            return JSONResponse(asdict(_body_problem(error.__cause__)), 422)
        problem = Problem("http", f"{request.method} {request.url.path}: {error.detail}", "See /docs for the addresses.")
        return JSONResponse(asdict(problem), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def bug(_: Request, __: Exception) -> JSONResponse:
        # Starlette raises the exception again after this answer, and the server logs it with its traceback.
        problem = Problem("bug", "something unexpected went wrong", "The service's log has the details.")
        return JSONResponse(asdict(problem), 500)


def invalid_problem(error: RequestValidationError) -> Problem:
    """Return the problem that names every wrong field; values are left out, for they are other people's text."""
    faults = [_fault(fault) for fault in error.errors()]
    return Problem("invalid_request", "; ".join(faults), "See /docs for the fields and their limits.")


def _fault(fault: Mapping[str, Any]) -> str:
    place, *names = fault["loc"]
    if fault["type"] == "json_invalid":
        return f"body: not JSON at character {names[0] + 1}: {fault['ctx']['error']}"
    if fault["type"] == "string_unicode":
        return f"{'.'.join(map(str, names))}: half of a surrogate pair, which is no character"
    if not names and place == "body":
        return "body: missing" if fault["type"] == "missing" else "body: must be a JSON object"
    return f"{'.'.join(map(str, names))}: {fault['msg']}"


def _content_problem(request: Request) -> Problem | None:
    """Return the problem of a body that is not sent as JSON: FastAPI does not parse it, and finds it no object."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return None
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return None
    said = f"sent as {given[:100]!r}" if given else "sent without a content type"
    return Problem("not_json", f"body: {said}, not as JSON", 'Add the header "Content-Type: application/json".')


def _body_problem(cause: Exception) -> Problem:
    if isinstance(cause, UnicodeDecodeError):
        return Problem("not_utf8", f"body: not UTF-8 at byte {cause.start}", "Send JSON as UTF-8.")
    reason = "nested too deeply" if isinstance(cause, RecursionError) else "a number has too many digits"
    return Problem("invalid_request", f"body: not readable as JSON: {reason}", "See /docs for the fields and their limits.")
