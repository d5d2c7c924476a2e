"""The asynchronous client, against the real application: its answers, its errors, and how many it asks at once."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from twinline.contract.errors import ContractError, DocumentError, TransientError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.search.admission import Admission
from twinline.search.api import build_app
from twinline.search.client import AsyncSearchClient
from twinline.search.results import SearchResult

Asking = Callable[[AsyncSearchClient], Coroutine[Any, Any, Any]]


def asked(world: Any, ask: Asking, admission: Admission | None = None, **options: Any) -> Any:
    async def run() -> Any:
        transport = httpx.ASGITransport(
            build_app(world.releases, principal=LOCAL_OPERATOR, admission=admission, hosts=["search"])
        )
        async with AsyncSearchClient("http://search", transport=transport, **options) as client:
            return await ask(client)

    return asyncio.run(run())


def answered_by(handler: Callable[[httpx.Request], httpx.Response], ask: Asking, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncSearchClient("http://search", transport=httpx.MockTransport(handler), **options) as client:
            return await ask(client)

    return asyncio.run(run())


def test_an_answer_is_the_one_that_the_service_gives(world: Any) -> None:
    found = asked(world, lambda client: client.search("cats sleep", limit=2, source="notes"))
    assert isinstance(found, SearchResult)
    plain = world.search("cats sleep", limit=2, source="notes")
    assert [hit.key for hit in found.hits] == [hit["key"] for hit in plain["hits"]]
    hit = found.hits[0]
    assert str(hit.point) == plain["hits"][0]["point"]
    assert hit.lineage.kafka.offset == 42
    assert [list(part) for part in hit.highlights] == plain["hits"][0]["highlights"]
    assert hit.version.number == 3


def test_many_answers_come_back_in_the_order_of_their_questions(world: Any) -> None:
    texts = {"cats": "cats sleep all day", "dogs": "dogs run all day", "fish": "fish swim in water"}
    keys = [*texts] * 10
    found = asked(world, lambda client: client.search_many([texts[key] for key in keys], limit=1), at_once=7)
    assert [answer.hits[0].key for answer in found] == keys


def test_no_more_are_under_way_than_was_said() -> None:
    under_way, most = 0, 0

    async def handler(_: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return httpx.Response(503, json={"error": "unavailable", "detail": "away", "remedy": "wait"})

    with pytest.raises(TransientError):
        answered_by(handler, lambda client: client.search_many(["a"] * 20), at_once=4)  # type: ignore[arg-type]
    assert most == 4


def test_a_question_without_words_is_a_bad_document_with_its_reason(world: Any) -> None:
    with pytest.raises(DocumentError) as failure:
        asked(world, lambda client: client.search("   "))
    assert failure.value.reason == "empty_query"


def test_a_wrong_field_is_refused_for_good(world: Any) -> None:
    with pytest.raises(ContractError, match="limit"):
        asked(world, lambda client: client.search("cats", limit=0))


def test_what_may_pass_says_when_to_try_again(world: Any, away: TransientError) -> None:
    world.served["r1"].embedder.failure = away
    with pytest.raises(TransientError, match="does not answer") as failure:
        asked(world, lambda client: client.search("cats"))
    assert failure.value.retry_after_seconds == 7


def test_nobody_at_the_address_is_a_failure_that_may_pass() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(TransientError, match="no search service answers at http://search"):
        answered_by(handler, lambda client: client.search("cats"))


def test_somebody_else_at_the_address_is_not_taken_for_search() -> None:
    with pytest.raises(ContractError, match="not as Twinline's search"):
        answered_by(lambda _: httpx.Response(200, json={"hits": "none"}), lambda client: client.search("cats"))


def test_a_question_is_asked_again_as_often_as_was_said_and_only_where_it_may_help(world: Any) -> None:
    body, statuses = world.search("cats"), [503, 503, 200, 500]

    def handler(_: httpx.Request) -> httpx.Response:
        status = statuses.pop(0)
        problem = {"error": "unavailable", "detail": "away", "remedy": "wait"}
        return httpx.Response(status, json=body if status == 200 else problem, headers={"Retry-After": "0"})

    assert answered_by(handler, lambda client: client.search("cats"), retries=2).hits
    with pytest.raises(ContractError):
        answered_by(handler, lambda client: client.search("cats"), retries=2)
    assert statuses == []


def test_too_many_questions_are_refused_at_once_and_the_rest_of_the_service_goes_on(world: Any) -> None:
    """Every thread of search hangs at the encoder, and one question waits; the next hears so, and metrics and health answer."""
    go_on, entered = threading.Event(), threading.Semaphore(0)
    embedder = world.served["r1"].embedder
    embed = embedder.embed

    def hang(texts: Any, role: str) -> Any:
        entered.release()
        assert go_on.wait(20)
        return embed(texts, role)

    embedder.embed = hang
    admission = Admission(at_once=2, most_waiting=1)
    app = build_app(world.releases, principal=LOCAL_OPERATOR, admission=admission, hosts=["search"])

    async def run() -> tuple[list[int], int, int, httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://search") as client:
            asked = [asyncio.create_task(client.post("/v1/search", json={"query": f"cats {n}"})) for n in range(3)]
            for _ in range(2):
                while not entered.acquire(blocking=False):
                    await asyncio.sleep(0.01)
            refused = await client.post("/v1/search", json={"query": "dogs"})
            index = await client.get("/index")
            metrics = await client.get("/metrics")
            go_on.set()
            answers = await asyncio.gather(*asked)
        return [answer.status_code for answer in answers], index.status_code, metrics.status_code, refused

    statuses, index, metrics, refused = asyncio.run(run())
    assert (index, metrics) == (200, 200)
    assert statuses == [200, 200, 200]
    assert "overloaded" in refused.json()["detail"]
    assert refused.headers["Retry-After"] == "1"
