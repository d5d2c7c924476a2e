"""Ask a running Twinline from a program, many questions at a time.

    async with AsyncSearchClient("http://127.0.0.1:18080") as search:
        answer = await search.search("how do I roll back a release?", limit=5)
        for hit in answer.hits:
            print(hit.score, hit.source, hit.key, hit.chunk.text)

        answers = await search.search_many(["how do I ...", "where is ..."])     # in their order, a few at a time

Answers are the service's own types (`query.Answer`). What failed is a `TransientError` if the same question may succeed
later (`retry_after_seconds` says when), else a `ContractError`. Connections are kept and used again; nothing is repeated
unless `retries` says so.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, Self

import httpx
from pydantic import TypeAdapter, ValidationError

from twinline.contract.errors import ContractError, DocumentError, SettingsError, TransientError, TwinlineError
from twinline.search.query import Answer

AT_ONCE: Final = 16
_TIMEOUT_SECONDS: Final = 30.0
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
_BAD_QUERY: Final = 400
_ANSWER: Final = TypeAdapter(Answer)


class AsyncSearchClient:
    """Questions to one search service. For one event loop; any number of tasks may ask at once."""

    def __init__(
        self,
        url: str,
        *,
        at_once: int = AT_ONCE,
        retries: int = 0,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Connect lazily: nothing is sent before the first question.

        Args:
            url: of the search service.
            at_once: how many questions are under way at most; the others wait here, not in the service's queue.
            retries: how often a question is asked again after a failure that may pass; after what the service asks for, or a
                pause that doubles.
            timeout_seconds: for one attempt.
            transport: how to get there, for tests.
        """
        self._url = url
        self._retries = retries
        self._turns = asyncio.Semaphore(at_once)
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        try:
            # trust_env off: the questions are other people's, and a proxy of the environment is none of theirs.
            self._client = httpx.AsyncClient(
                base_url=url, limits=limits, timeout=timeout_seconds, transport=transport, trust_env=False
            )
        except httpx.InvalidURL as exc:
            raise SettingsError(f"{url!r} is no address ({exc}): give one like http://127.0.0.1:18080") from exc

    async def search(
        self, query: str, *, limit: int = 10, tenant: str | None = None, source: str | None = None, exact: bool = False
    ) -> Answer:
        """Return the documents that answer a question, best first, and the release that found them.

        Raises:
            TransientError: nobody answers there, no release is active, or it has too much to do.
            DocumentError: there is nothing to search for in the question, or it is too long.
            ContractError: a field is out of its limits, or the service refuses for a reason that repeating cannot mend.
        """
        body = {"query": query, "limit": limit, "tenant": tenant, "source": source, "exact": exact}
        async with self._turns:
            pause = _FIRST_PAUSE_SECONDS
            for _ in range(self._retries):
                try:
                    return await self._ask(body)
                except TransientError as exc:
                    await asyncio.sleep(min(exc.retry_after_seconds or pause, _LONGEST_PAUSE_SECONDS))
                    pause *= 2
            return await self._ask(body)

    async def search_many(self, queries: Iterable[str], **fields: Any) -> list[Answer]:
        """Return the answers to many questions, in their order; `fields` are those of `search`.

        All are asked, also after one has failed; the first failure is then raised.

        Raises:
            TransientError, ContractError: as `search` does.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_outcome(self.search(query, **fields))) for query in queries]
        found = [task.result() for task in tasks]
        failure = next((one for one in found if isinstance(one, TwinlineError)), None)
        if failure is not None:
            raise failure
        return [one for one in found if isinstance(one, Answer)]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, body: dict[str, Any]) -> Answer:
        try:
            response = await self._client.post("/v1/search", json=body)
        except httpx.UnsupportedProtocol as exc:
            raise SettingsError(f"{self._url!r} is no address ({exc}): give one like http://127.0.0.1:18080") from exc
        except httpx.TransportError as exc:
            raise TransientError(f"no search service answers at {self._url} ({type(exc).__name__}: {exc})") from exc
        if not response.is_success:
            raise _failure(self._url, response)
        try:
            return _ANSWER.validate_json(response.content)
        except ValidationError as exc:
            raise ContractError(
                f"{self._url} answers, but not as Twinline's search of this version ({exc}): check the address"
            ) from exc


async def _outcome(asked: Any) -> Answer | TwinlineError:
    # A group of tasks would wrap what one of them raises in a group of errors.
    try:
        found: Answer = await asked
    except TwinlineError as exc:
        return exc
    return found


def _failure(url: str, response: httpx.Response) -> TwinlineError:
    try:
        problem = response.json()
        message = f"{problem['detail']}. {problem['remedy']}"
        slug = str(problem["error"])
    except (ValueError, KeyError, TypeError):
        # A proxy in between, say, that has lost what is behind it.
        message, slug = f"{url} answers {response.status_code}: {response.text[:200]!r}", ""
    if response.status_code in (429, 502, 503, 504):
        return TransientError(message, _seconds(response.headers.get("Retry-After")))
    if response.status_code == _BAD_QUERY and slug not in ("", "bad_request"):
        return DocumentError(slug, message)
    return ContractError(message)


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isdecimal() else None
