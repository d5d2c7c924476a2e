"""The shared core of both search clients: questions and responses. Nothing here sends or waits, so tests can step through it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import httpx
from pydantic import ValidationError

from twinline.contract.errors import ContractError, DocumentError, SettingsError, TransientError, TwinlineError
from twinline.search.results import RESULT, Question, SearchResult

PATH: Final = "/v1/search"
EXPLAIN_PATH: Final = "/v1/explain"
JSON_HEADERS: Final = {"Content-Type": "application/json"}
AT_ONCE: Final = 16
TIMEOUT_SECONDS: Final = 30.0
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
_BAD_QUERY: Final = 400
# The answers of a service that is away or full, or of a proxy that has lost it.
_MAY_PASS: Final = (429, 502, 503, 504)


class Patience:
    """The retries of one question, and the wait before each: the time that the service asks for, or a doubling pause."""

    def __init__(self, retries: int) -> None:
        self._left = retries
        self._pause = _FIRST_PAUSE_SECONDS

    def seconds_after(self, failure: TransientError) -> float:
        """Return how long to wait before the next attempt; raise the failure when no attempt is left."""
        if not self._left:
            raise failure
        self._left -= 1
        pause, self._pause = self._pause, self._pause * 2
        return min(failure.retry_after_seconds or pause, _LONGEST_PAUSE_SECONDS)


def client_options(url: str, at_once: int, timeout_seconds: float) -> dict[str, Any]:
    """Return the options of an httpx client, the same for both kinds."""
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    # trust_env off: questions are private, and must not pass a proxy that the environment happens to name.
    return {"base_url": url, "limits": limits, "timeout": timeout_seconds, "trust_env": False}


def body(question: Question) -> bytes:
    """Return the request's body."""
    return encoded(asdict(question))


def encoded(fields: Mapping[str, Any]) -> bytes:
    """Return fields as JSON in ASCII: half a surrogate pair reaches the service, which refuses it in words."""
    return json.dumps(fields).encode()


def no_address(url: str, exc: Exception) -> SettingsError:
    """Return the error for an invalid address."""
    return SettingsError(f"{url!r} is no address ({exc}): give one like http://127.0.0.1:18080")


def lost(url: str, exc: httpx.TransportError) -> TwinlineError:
    """Return the error for a missing response."""
    if isinstance(exc, httpx.UnsupportedProtocol):
        return no_address(url, exc)
    return TransientError(f"no search service answers at {url} ({type(exc).__name__}: {exc})")


def result(url: str, response: httpx.Response) -> SearchResult:
    """Return the result in a response.

    Raises:
        TransientError, DocumentError, ContractError: as `SearchClient.search` does.
    """
    if not response.is_success:
        raise _failure(url, response)
    try:
        return RESULT.validate_json(response.content)
    except ValidationError as exc:
        raise ContractError(f"{url} answers, but not as Twinline's search of this version ({exc}): check the address") from exc


def all_or_first_failure(outcomes: list[SearchResult | TwinlineError]) -> list[SearchResult]:
    """Return the results of many questions; raise the first failure among them."""
    for outcome in outcomes:
        if isinstance(outcome, TwinlineError):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, SearchResult)]


def _failure(url: str, response: httpx.Response) -> TwinlineError:
    try:
        problem = response.json()
        message = f"{problem['detail']}. {problem['remedy']}"
        slug = str(problem["error"])
    except (ValueError, KeyError, TypeError):
        # For example a proxy that has lost its service.
        message, slug = f"{url} answers {response.status_code}: {response.text[:200]!r}", ""
    if response.status_code in _MAY_PASS:
        return TransientError(message, _seconds(response.headers.get("Retry-After")))
    if response.status_code == _BAD_QUERY and slug not in ("", "bad_request"):
        return DocumentError(slug, message)
    return ContractError(message)


def _seconds(header: str | None) -> float | None:
    # More digits are no wait, and thousands of them no float that a wait can take.
    return float(header) if header is not None and header.isdecimal() and len(header) < 7 else None
