"""Ask a running Twinline from a program, one question or many at a time.

    from twinline import AsyncSearchClient, SearchClient

    with SearchClient("http://127.0.0.1:18080") as search:
        result = search.search("how do I roll back a release?", limit=5)
        for hit in result.hits:
            print(hit.score, hit.source, hit.key, hit.chunk.text)

    async with AsyncSearchClient("http://127.0.0.1:18080") as search:
        results = await search.search_many(["how do I ...", "where is ..."])     # in their order, a few at a time

Results are the service's own types (`results.SearchResult`). A failure is a `TransientError` if the same question may succeed
later (`retry_after_seconds` says when), else a `ContractError`. Connections are reused; nothing is repeated unless `retries` says
so.
"""

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import httpx

from twinline.contract.errors import TransientError, TwinlineError
from twinline.search import exchange
from twinline.search.exchange import AT_ONCE, TIMEOUT_SECONDS, Patience
from twinline.search.results import Mode, Question, SearchResult


class SearchClient:
    """Questions to one search service, each waited for. Any number of threads may ask at once."""

    def __init__(
        self,
        url: str,
        *,
        at_once: int = AT_ONCE,
        retries: int = 0,
        timeout_seconds: float = TIMEOUT_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect lazily: nothing is sent before the first question.

        Args:
            url: of the search service.
            at_once: how many questions of `search_many` are under way at most.
            retries: how often a question is asked again after a failure that may pass; after what the service asks for, or a
                pause that doubles.
            timeout_seconds: for one attempt.
            transport: how to get there, for tests.
        """
        self._url = url
        self._retries = retries
        self._at_once = at_once
        try:
            self._client = httpx.Client(transport=transport, **exchange.client_options(url, at_once, timeout_seconds))
        except httpx.InvalidURL as exc:
            raise exchange.no_address(url, exc) from exc

    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        tenant: str | None = None,
        source: str | None = None,
        exact: bool = False,
        mode: Mode = "hybrid",
        group: bool = True,
        where: dict[str, Any] | None = None,
    ) -> SearchResult:
        """Return the documents that answer a question, best first, and the release that found them.

        Args:
            where: conditions that the documents meet, by field, as `twinline.search.filters` shows them.

        Raises:
            TransientError: no service answers there, no release is active, or it has too much to do.
            DocumentError: there is nothing to search for in the question, or it is too long.
            ContractError: a field is out of its limits, or the service refuses for a reason that no repetition removes.
        """
        question, patience = Question(query, limit, tenant, source, exact, mode, group, where), Patience(self._retries)
        while True:
            try:
                return self._ask(question)
            except TransientError as failure:
                time.sleep(patience.seconds_after(failure))

    def search_many(self, queries: Iterable[str], **fields: Any) -> list[SearchResult]:
        """Return the results of many questions, in their order; `fields` are those of `search`.

        All are asked, also after one has failed; the first failure is then raised.

        Raises:
            TransientError, ContractError: as `search` does.
        """
        with ThreadPoolExecutor(self._at_once) as pool:
            outcomes = list(pool.map(lambda query: self._outcome(query, fields), queries))
        return exchange.all_or_first_failure(outcomes)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _outcome(self, query: str, fields: dict[str, Any]) -> SearchResult | TwinlineError:
        try:
            return self.search(query, **fields)
        except TwinlineError as exc:
            return exc

    def _ask(self, question: Question) -> SearchResult:
        try:
            response = self._client.post(exchange.PATH, content=exchange.body(question), headers=exchange.JSON_HEADERS)
        except httpx.TransportError as exc:
            raise exchange.lost(self._url, exc) from exc
        return exchange.result(self._url, response)


class AsyncSearchClient:
    """Questions to one search service. For one event loop; any number of tasks may ask at once."""

    def __init__(
        self,
        url: str,
        *,
        at_once: int = AT_ONCE,
        retries: int = 0,
        timeout_seconds: float = TIMEOUT_SECONDS,
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
        try:
            self._client = httpx.AsyncClient(transport=transport, **exchange.client_options(url, at_once, timeout_seconds))
        except httpx.InvalidURL as exc:
            raise exchange.no_address(url, exc) from exc

    async def search(
        self,
        query: str,
        *,
        limit: int = 10,
        tenant: str | None = None,
        source: str | None = None,
        exact: bool = False,
        mode: Mode = "hybrid",
        group: bool = True,
        where: dict[str, Any] | None = None,
    ) -> SearchResult:
        """Return the documents that answer a question, best first, and the release that found them.

        Raises:
            TransientError, DocumentError, ContractError: as `SearchClient.search` does.
        """
        question, patience = Question(query, limit, tenant, source, exact, mode, group, where), Patience(self._retries)
        async with self._turns:
            while True:
                try:
                    return await self._ask(question)
                except TransientError as failure:
                    await asyncio.sleep(patience.seconds_after(failure))

    async def search_many(self, queries: Iterable[str], **fields: Any) -> list[SearchResult]:
        """Return the results of many questions, in their order; `fields` are those of `search`.

        All are asked, also after one has failed; the first failure is then raised.

        Raises:
            TransientError, ContractError: as `search` does.
        """
        # Outcomes, not exceptions: a group of tasks would wrap an exception in a group of errors.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._outcome(query, fields)) for query in queries]
        return exchange.all_or_first_failure([task.result() for task in tasks])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _outcome(self, query: str, fields: dict[str, Any]) -> SearchResult | TwinlineError:
        try:
            return await self.search(query, **fields)
        except TwinlineError as exc:
            return exc

    async def _ask(self, question: Question) -> SearchResult:
        try:
            response = await self._client.post(exchange.PATH, content=exchange.body(question), headers=exchange.JSON_HEADERS)
        except httpx.TransportError as exc:
            raise exchange.lost(self._url, exc) from exc
        return exchange.result(self._url, response)
