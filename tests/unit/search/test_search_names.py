"""One list of search fields, two clients that do the same, and the public names: exactly these, and light."""

import asyncio
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import httpx
import pytest

import twinline
from twinline.commands import search as search_command
from twinline.contract.errors import ContractError, DocumentError, TransientError
from twinline.online.admin import TrialQuestion
from twinline.search.address import question_by_address
from twinline.search.client import AsyncSearchClient, SearchClient
from twinline.search.results import Question, SearchResult

PUBLIC = {
    *("AsyncSearchClient", "Hit", "SearchClient", "SearchResult"),
    *("ContractError", "DocumentError", "MismatchError", "SettingsError", "TransientError", "TwinlineError"),
}


def test_the_public_names_are_exactly_these_and_each_is_there() -> None:
    assert set(twinline.__all__) == PUBLIC
    assert {name for name in dir(twinline) if not name.startswith("_")} == PUBLIC
    assert {getattr(twinline, name).__name__ for name in PUBLIC} == PUBLIC
    with pytest.raises(AttributeError, match="its public names are"):
        _ = twinline.Answer


def loaded_by(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_the_package_loads_nothing_but_itself() -> None:
    assert loaded_by("import twinline") & {"httpx", "pydantic", "numpy", "rfc8785"} == set()


def test_the_client_loads_no_package_of_a_server() -> None:
    loaded = loaded_by("from twinline import AsyncSearchClient, SearchClient, SearchResult, Hit, TransientError")
    heavy = {"airflow", "daft", "fastapi", "kafka", "numpy", "qdrant_client", "regex", "tokenizers", "torch", "tritonclient"}
    assert loaded & heavy == set()


FIELDS: dict[str, Any] = {
    field.name: inspect.Parameter.empty if field.default is MISSING else field.default for field in fields(Question)
}


@pytest.mark.parametrize("search", [SearchClient.search, AsyncSearchClient.search])
def test_both_clients_take_the_fields_of_a_question_with_the_same_defaults(search: Callable[..., Any]) -> None:
    _, *parameters = inspect.signature(search).parameters.values()
    assert {parameter.name: parameter.default for parameter in parameters} == FIELDS


def test_the_address_takes_the_fields_of_a_question() -> None:
    found = {parameter.name: parameter.default for parameter in inspect.signature(question_by_address).parameters.values()}
    assert found == {"q" if name == "query" else name: default for name, default in FIELDS.items()}


def test_the_command_line_takes_the_fields_of_a_question() -> None:
    found = set(inspect.signature(search_command.command).parameters)
    assert found - {"as_json", "url"} == set(FIELDS)


def test_a_trial_takes_the_fields_of_a_question_and_the_settings_that_need_no_other_index() -> None:
    settings = ["rule", "depth", "k", "dense_percent", "ef_search"]
    assert [field.name for field in fields(TrialQuestion)] == [*FIELDS, *settings]
    assert TrialQuestion("cats", 500).limit == 500


def responding(status: int, body: Any, headers: dict[str, str] | None = None) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(status, json=body, headers=headers))


def test_the_plain_client_returns_what_the_service_says(world: Any) -> None:
    body = world.search("cats sleep", limit=2)
    with SearchClient("http://search", transport=responding(200, body)) as client:
        result = client.search("cats sleep", limit=2)
        assert isinstance(result, SearchResult)
        assert [hit.key for hit in result.hits] == [hit["key"] for hit in body["hits"]]
        assert [one.release for one in client.search_many(["cats", "dogs"])] == [body["release"]] * 2


@pytest.mark.parametrize("group", [True, False])
def test_both_clients_send_whether_copies_are_grouped(world: Any, group: bool) -> None:
    answered, bodies = world.search("cats"), []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json=answered)

    with SearchClient("http://search", transport=httpx.MockTransport(handler)) as client:
        client.search("cats", group=group)

    async def ask() -> None:
        async with AsyncSearchClient("http://search", transport=httpx.MockTransport(handler)) as other:
            await other.search("cats", group=group)

    asyncio.run(ask())
    assert [body["group"] for body in bodies] == [group, group]


@pytest.mark.parametrize(
    ("status", "slug", "error"),
    [(503, "unavailable", TransientError), (400, "empty_query", DocumentError), (422, "invalid_request", ContractError)],
)
def test_the_plain_client_fails_as_the_asynchronous_one_does(status: int, slug: str, error: type[Exception]) -> None:
    body = {"error": slug, "detail": "it is so", "remedy": "do this"}
    with (
        SearchClient("http://search", transport=responding(status, body)) as client,
        pytest.raises(error, match="it is so"),
    ):
        client.search("cats")


def test_the_plain_client_asks_again_as_often_as_was_said(world: Any) -> None:
    body, statuses = world.search("cats"), [503, 503, 200, 503]

    def handler(_: httpx.Request) -> httpx.Response:
        status = statuses.pop(0)
        problem = {"error": "unavailable", "detail": "away", "remedy": "wait"}
        return httpx.Response(status, json=body if status == 200 else problem, headers={"Retry-After": "0"})

    with SearchClient("http://search", retries=2, transport=httpx.MockTransport(handler)) as client:
        assert client.search("cats").hits
    with (
        SearchClient("http://search", transport=httpx.MockTransport(handler)) as client,
        pytest.raises(TransientError, match="away"),
    ):
        client.search("cats")
    assert statuses == []
