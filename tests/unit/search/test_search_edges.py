"""HTTP's edges: what is mistyped, oversized, wrongly sent or asked under another name is refused in our own words."""

import json
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from twinline.contract.principal import LOCAL_OPERATOR
from twinline.online.admin import build_admin
from twinline.search.api import build_app
from twinline.search.middleware import host_name, own_hosts

MANY = "9" * 4_400
KNOWN = "known are q, limit, tenant, source, exact, mode, group, where"
JSON = {"content-type": "application/json"}


def refusal(response: Any, status: int) -> dict[str, str]:
    assert response.status_code == status, response.text
    found: dict[str, str] = response.json()
    assert set(found) == {"error", "detail", "remedy"}
    return found


@pytest.mark.parametrize("name", ["tenat", "Tenant", "TENANT", "tenant ", "tenants", "source[]", "n", "query", "offset", "é", ""])
def test_a_mistyped_parameter_is_named_with_the_known_ones_and_nothing_is_searched(world: Any, name: str) -> None:
    found = refusal(world.client.get("/v1/search", params={"q": "cats", name: "acme"}), 422)
    assert found["detail"] == f"{name}: unknown parameter: {KNOWN}"
    assert world.served["r1"].embedder.texts == []


@pytest.mark.parametrize("name", ["tenant", "source", "limit", "q"])
def test_a_parameter_that_is_given_twice_is_refused_since_one_of_them_would_be_ignored(world: Any, name: str) -> None:
    query = [("q", "cats"), (name, "1"), (name, "2")]
    assert f"{name}: given more than once" in refusal(world.client.get("/v1/search", params=query), 422)["detail"]


@pytest.mark.parametrize("path", ["/index", "/healthz", "/readyz", "/metrics"])
def test_an_address_without_parameters_takes_none(world: Any, path: str) -> None:
    assert refusal(world.client.get(path, params={"x": "1"}), 422)["detail"] == "x: unknown parameter: this address has none"


def test_a_body_does_not_make_parameters_of_the_address_count(world: Any) -> None:
    response = world.client.post("/v1/search", params={"tenant": "acme"}, json={"query": "cats"})
    assert "tenant: unknown parameter" in refusal(response, 422)["detail"]


@pytest.mark.parametrize("params", [{"tenat": "acme"}, [("source", "a"), ("source", "b")]])
def test_the_page_shows_which_parameter_is_wrong(world: Any, params: Any) -> None:
    response = world.client.get("/", params=[("q", "cats"), *(params.items() if isinstance(params, dict) else params)])
    assert response.status_code == 422
    assert 'role="alert"' in response.text
    assert re.search(r"tenat: unknown parameter: known are q, limit, source, tenant|source: given more than once", response.text)
    assert world.served["r1"].embedder.texts == []


@pytest.mark.parametrize("limit", [MANY, "-1", "0", "7", "1e2", "١٠", "²", "10 ", "0010", "ten", "NaN"])
def test_a_limit_that_the_page_does_not_offer_is_an_error_on_the_page(world: Any, limit: str) -> None:
    response = world.client.get("/", params={"q": "cats", "limit": limit})
    assert response.status_code == 422
    assert "limit: must be one of 10, 25, 50, 100" in response.text
    assert MANY not in response.text


@pytest.mark.parametrize("limit", ["", "10", "25", "50", "100"])
def test_a_limit_that_the_page_offers_is_taken(world: Any, limit: str) -> None:
    assert world.client.get("/", params={"q": "cats", "limit": limit}).status_code == 200


@pytest.mark.parametrize("limit", [MANY, "-" + MANY, "0", "101", "1e9", "10.5", "x", "", "true"])
def test_a_limit_in_the_address_is_refused_by_name(world: Any, limit: str) -> None:
    found = refusal(world.client.get("/v1/search", params={"q": "cats", "limit": limit}), 422)
    assert found["detail"].startswith("limit: ")


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/", "/index", "/metrics", "/v1/search?q=cats", "/docs", "/static/search.js"]
)
def test_head_answers_as_get_does_and_without_a_body(world: Any, path: str) -> None:
    told, got = world.client.head(path), world.client.get(path)
    assert told.status_code == got.status_code == 200
    assert told.content == b""
    assert told.headers["content-type"] == got.headers["content-type"]


def test_head_tells_what_is_not_ready(world: Any, away: Exception) -> None:
    world.served["r1"].embedder.failure = away
    assert world.client.head("/readyz").status_code == 503
    assert world.client.head("/healthz").status_code == 200


def test_head_of_a_missing_address_is_404(world: Any) -> None:
    assert world.client.head("/nothing/here").status_code == 404


@pytest.mark.parametrize(
    ("content", "headers", "detail", "remedy"),
    [
        (b'{"query":"x"}', {}, "body: sent without a content type, not as JSON", "Content-Type: application/json"),
        (
            b'{"query":"x"}',
            {"content-type": "application/x-www-form-urlencoded"},  # what curl -d sends by itself
            "body: sent as 'application/x-www-form-urlencoded', not as JSON",
            "Content-Type: application/json",
        ),
        (b'{"query":"x"}', {"content-type": "text/plain"}, "body: sent as 'text/plain', not as JSON", "Content-Type"),
        (b'{"query":"x"}', {"content-type": "json"}, "body: sent as 'json', not as JSON", "Content-Type"),
        (b"query=x", {"content-type": "multipart/form-data"}, "sent as 'multipart/form-data', not as JSON", "Content-Type"),
        ('{"query":"café"}'.encode("latin-1"), JSON, "body: not UTF-8 at byte 13", "UTF-8"),
        (b'{"query":"caf\xc3', JSON, "body: not UTF-8 at byte 13", "UTF-8"),
        (b"{query: x}", JSON, "body: not JSON at character 2: Expecting property name", "/docs"),
        (b'{"query": ', JSON, "body: not JSON at character 11: Expecting value", "/docs"),
        (b"{'query': 'x'}", JSON, "body: not JSON at character 2", "/docs"),
        (b'{"query":"x"} x', JSON, "body: not JSON at character 15: Extra data", "/docs"),
        (b"", JSON, "body: missing", "/docs"),
        (b"", {}, "body: missing", "/docs"),
        (b"null", JSON, "body: missing", "/docs"),
        (b"[]", JSON, "body: must be a JSON object", "/docs"),
        (b'"x"', JSON, "body: must be a JSON object", "/docs"),
        (b"3", JSON, "body: must be a JSON object", "/docs"),
        (
            b'{"query":"x","limit":' + MANY.encode() + b"}",
            JSON,
            "body: not readable as JSON: a number has too many digits",
            "/docs",
        ),
        (b"[" * 100_000, JSON, "body: not readable as JSON: nested too deeply", "/docs"),
        (json.dumps({"query": "caf\udce9"}).encode(), JSON, "query: half of a surrogate pair", "/docs"),
        (b'{"query":"x","tenant":"\\ud800"}', JSON, "tenant: half of a surrogate pair", "/docs"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_that_cannot_be_read_is_told_from_what_it_should_be(
    world: Any, content: bytes, headers: dict[str, str], detail: str, remedy: str
) -> None:
    found = refusal(world.client.post("/v1/search", content=content, headers=headers), 422)
    assert detail in found["detail"]
    assert remedy in found["remedy"]


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"]
)
def test_json_by_any_of_its_names_is_read(world: Any, kind: str) -> None:
    response = world.client.post("/v1/search", content=b'{"query":"cats"}', headers={"content-type": kind})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:18080", "127.0.0.1.evil.example", "localhost.evil.example", "evil@127.0.0.1", "", "127.0.0.2",
     "[::2]", "0.0.0.0", "localhost.", "search:18080"],  # noqa: S104
)  # fmt: skip
def test_a_foreign_host_is_refused_and_nothing_is_searched(world: Any, host: str) -> None:
    for path in ("/v1/search?q=cats", "/", "/index", "/healthz", "/docs", "/static/search.js"):
        found = refusal(world.client.get(path, headers={"host": host}), 400)
        assert found["error"] == "unknown_host"
        assert "TWINLINE_SEARCH_HOSTS" in found["remedy"]
    assert world.served["r1"].embedder.texts == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:18080", "localhost", "LOCALHOST:18080", "[::1]", "[::1]:18080"])
def test_loopback_is_answered_under_each_of_its_names(world: Any, host: str) -> None:
    assert world.client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("bound_to", "named", "host", "status"),
    [
        ("127.0.0.1", "", "10.0.0.5", 400),
        ("127.0.0.1", "search.example, other", "search.example:80", 200),
        ("127.0.0.1", "search.example, other", "OTHER", 200),
        ("127.0.0.1", "*", "anything.example", 200),
        # by its address from elsewhere, as a probe asks: nobody can point an address elsewhere
        ("0.0.0.0", "", "10.0.0.5:18080", 200),  # noqa: S104
        ("0.0.0.0", "", "[fe80::1]:18080", 200),  # noqa: S104
        ("0.0.0.0", "", "evil.example", 400),  # noqa: S104
        ("search.example", "", "search.example", 200),
        ("search.example", "", "evil.example", 400),
    ],
)
def test_more_hosts_are_a_setting(world: Any, bound_to: str, named: str, host: str, status: int) -> None:
    client = TestClient(build_app(world.releases, principal=LOCAL_OPERATOR, hosts=own_hosts(bound_to, named)))
    assert client.get("/healthz", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("header", "name"),
    [("a:1", "a"), ("a", "a"), (" A:1 ", "a"), ("[::1]:1", "::1"), ("[::1]", "::1"), ("::1", "::1"), ("", ""), (":1", "")],
)
def test_the_name_of_a_host_is_read_without_its_port(header: str, name: str) -> None:
    assert host_name(header) == name


class Nothing:
    """A service that is not asked: each of these requests is refused before."""


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/status", "this address has none"),
        ("/collections/x/points", "known are limit, offset, kind, source, key, with_vectors"),
        ("/collections/x/audit", "known are limit, offset, source, key"),
        ("/collections/x/golden", "this address has none"),
    ],
)
def test_the_admin_api_refuses_mistyped_parameters_and_foreign_hosts_alike(path: str, known: str) -> None:
    client = TestClient(build_admin(Nothing(), principal=LOCAL_OPERATOR), base_url="http://127.0.0.1")  # type: ignore[arg-type]
    found = refusal(client.get(path, params={"sorce": "x"}), 422)
    assert found["detail"] == f"sorce: unknown parameter: {known}"
    assert refusal(client.get(path, headers={"host": "evil.example"}), 400)["error"] == "unknown_host"
    assert client.head(path, params={"sorce": "x"}).status_code == 422


@pytest.mark.parametrize("name", ["serve", "activate", "retire", "replace"])
def test_an_act_with_a_parameter_that_it_does_not_have_is_not_done(name: str) -> None:
    client = TestClient(build_admin(Nothing(), principal=LOCAL_OPERATOR), base_url="http://127.0.0.1")  # type: ignore[arg-type]
    assert "dry_run: unknown parameter" in refusal(client.post(f"/collections/x/{name}?dry_run=1"), 422)["detail"]


@pytest.mark.parametrize(
    ("act", "body", "wrong"),
    [
        ("points", {"ids": [], "with_vector": True}, "with_vector"),
        ("remove", {"points": [], "all": True}, "all"),
        ("apply", {"messages": [], "force": True}, "force"),
        ("search", {"query": "x", "tenat": "acme"}, "tenat"),
        ("remove", {"points": [{"id": "00000000-0000-0000-0000-000000000000", "version": {}, "x": 1}]}, "points.0.x"),
    ],
)
def test_the_admin_api_refuses_a_mistyped_field_of_a_body(act: str, body: dict[str, Any], wrong: str) -> None:
    client = TestClient(build_admin(Nothing(), principal=LOCAL_OPERATOR), base_url="http://127.0.0.1")  # type: ignore[arg-type]
    assert refusal(client.post(f"/collections/x/{act}", json=body), 422)["detail"].startswith(f"{wrong}: ")
