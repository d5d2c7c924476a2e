"""The search API: answers, limits, errors, and never two releases in one answer."""

import hashlib
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from proofs.switch.load import _read
from twinline.contract.encoder.limits import MAX_QUERY_CHARS
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.search.api import build_app
from twinline.search.middleware import MAX_BODY_BYTES


def test_a_hit_says_where_it_came_from(world: Any) -> None:
    answer = world.search("cats sleep")
    hit = answer["hits"][0]
    assert (hit["source"], hit["key"], hit["title"]) == ("notes", "cats", "On cats")
    assert hit["chunk"] == {"index": 0, "start": 0, "end": 18, "text": "cats sleep all day"}
    assert hit["version"]["number"] == 3
    lineage = hit["lineage"]
    assert (lineage["release"], lineage["space"], lineage["contract"]) == ("r1", "space-r1", "contract-r1")
    assert lineage["kafka"] == {"partition": 1, "offset": 42, "timestamp_ms": 1_790_000_000_000}
    assert lineage["ingest"] == {"run_id": "run-7"}
    assert lineage["content_hash"] == hashlib.sha256(b"cats sleep all day").hexdigest()
    assert lineage["training"]["snapshot"] == "snapshot-r1"
    assert (answer["release"], answer["space"]) == ("r1", "space-r1")
    assert set(answer["timings"]) == {"embed_ms", "search_ms", "total_ms"}


def test_the_address_and_the_body_give_the_same_hits(world: Any) -> None:
    by_address = world.client.get("/v1/search", params={"q": "dogs run", "limit": 2}).json()
    assert by_address["hits"] == world.search("dogs run", limit=2)["hits"]


def test_the_query_is_cleaned_before_it_is_embedded(world: Any) -> None:
    world.search("  cats\n\tsleep ")
    assert world.served["r1"].embedder.texts[-1] == "cats sleep"


def test_a_document_with_very_many_chunks_is_one_hit_and_leaves_room_for_others(world: Any) -> None:
    world.add("r1", "long", *[f"cats sleep {number}" for number in range(500)])
    hits = world.search("cats sleep", limit=4)["hits"]
    assert [hit["key"] for hit in hits].count("long") == 1
    assert sorted(hit["key"] for hit in hits) == ["cats", "dogs", "fish", "long"]


def test_an_exhausted_collection_ends_the_search(world: Any) -> None:
    assert len(world.search("cats", limit=100)["hits"]) == 3
    assert len(world.served["r1"].collection.reaches) == 1


@pytest.mark.parametrize(("fields", "keys"), [({"tenant": "acme"}, ["secret"]), ({"source": "wiki"}, ["page"])])
def test_filters_keep_everything_else_out(world: Any, fields: dict[str, str], keys: list[str]) -> None:
    world.add("r1", "secret", "cats at work", tenant="acme")
    world.add("r1", "page", "cats in art", source="wiki")
    assert [hit["key"] for hit in world.search("cats", **fields)["hits"]] == keys


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": "x" * (MAX_QUERY_CHARS + 1)},
        {"query": "cats", "limit": 0},
        {"query": "cats", "limit": 101},
        {"query": "cats", "tennant": "acme"},  # a misspelt filter must not search everything
        {"query": ["cats"]},
    ],
)
def test_a_wrong_field_is_refused_by_name_and_without_its_value(world: Any, body: dict[str, Any]) -> None:
    response = world.client.post("/v1/search", json=body)
    assert response.status_code == 422
    assert set(response.json()) == {"error", "detail", "remedy"}
    assert re.match(r"(query|limit|tennant): ", response.json()["detail"])
    assert "xxx" not in response.text


def test_a_query_without_text_is_refused_with_its_reason(world: Any) -> None:
    response = world.client.post("/v1/search", json={"query": " \n "})
    assert (response.status_code, response.json()["error"]) == (400, "empty_query")


def test_a_body_that_is_too_large_is_refused_before_it_is_parsed(world: Any) -> None:
    response = world.client.post("/v1/search", content=b"[" * (MAX_BODY_BYTES + 1))
    assert (response.status_code, response.json()["error"]) == (413, "body_too_large")


def test_broken_json_is_refused(world: Any) -> None:
    response = world.client.post("/v1/search", content=b'{"query": ', headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]) == (422, "invalid_request")


@pytest.mark.parametrize("path", ["/v1/search?q=cats", "/index", "/readyz"])
def test_without_a_release_the_answer_is_503(world: Any, path: str) -> None:
    world.store.active_name = None
    response = world.client.get(path)
    assert response.status_code == 503
    assert "no release is active" in response.text


def test_without_a_release_the_remedy_is_named(world: Any) -> None:
    world.store.active_name = None
    response = world.client.post("/v1/search", json={"query": "cats"})
    assert response.json()["error"] == "no_active_release"
    assert "twinline demo" in response.json()["remedy"]


def test_an_encoder_that_is_away_is_503_and_says_when_to_come_back(world: Any, away: Exception) -> None:
    world.served["r1"].embedder.failure = away
    response = world.client.post("/v1/search", json={"query": "cats"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")
    assert "127.0.0.1:18001" in response.json()["detail"]
    ready = world.client.get("/readyz")
    assert ready.status_code == 503
    assert "127.0.0.1:18001" in ready.json()["missing"][0]
    assert world.client.get("/healthz").status_code == 200


def test_an_encoder_of_another_space_answers_nothing(world: Any) -> None:
    world.served["r1"].embedder.space = "space-other"
    response = world.client.post("/v1/search", json={"query": "cats"})
    assert (response.status_code, response.json()["error"]) == (500, "mismatch")
    assert "space-other" in response.json()["detail"]
    assert "space-r1" in response.json()["detail"]


def test_a_bug_is_a_clear_500_without_its_insides(world: Any) -> None:
    world.served["r1"].embedder.failure = ZeroDivisionError("secret")
    response = world.client.post("/v1/search", json={"query": "cats"})
    assert (response.status_code, response.json()["error"]) == (500, "bug")
    assert "secret" not in response.text


def test_a_switch_between_two_requests_changes_the_whole_answer(world: Any) -> None:
    world.release("r2")
    world.add("r2", "cats", "cats sleep all night")
    assert world.search("cats")["release"] == "r1"
    world.store.active_name = "documents_r2"
    answer = world.search("cats")
    assert answer["release"] == "r2"
    assert {hit["lineage"]["space"] for hit in answer["hits"]} == {answer["space"]} == {"space-r2"}


def test_a_switch_in_the_middle_of_a_request_does_not_mix_releases(world: Any) -> None:
    world.release("r2")
    world.add("r2", "cats", "cats sleep all night")

    def switch() -> None:
        world.store.active_name = "documents_r2"

    world.served["r1"].collection.before_query = switch
    answer = world.search("cats")
    assert answer["release"] == "r1"
    assert {hit["lineage"]["release"] for hit in answer["hits"]} == {"r1"}
    assert world.search("cats")["release"] == "r2"


def test_the_index_says_what_is_searched(world: Any) -> None:
    world.add("r1", "pair", "one", "two")
    index = world.client.get("/index").json()
    assert (index["documents"], index["chunks"], index["release"]) == (4, 5, "r1")
    assert index["fingerprints"]["contract"] == "contract-r1"


def test_what_else_must_hold_is_part_of_readiness(world: Any) -> None:
    app = build_app(world.releases, principal=LOCAL_OPERATOR, checks=[lambda: ["the consumer of r1 has stopped"]])
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get("/readyz").json() == {"ready": False, "missing": ["the consumer of r1 has stopped"]}


def test_metrics_count_requests_by_route_and_never_by_what_was_asked(world: Any) -> None:
    world.search("cats")
    world.client.get("/nothing/here")
    text = world.client.get("/metrics").text
    assert 'twinline_search_requests_total{path="/v1/search",status="200"} 1.0' in text
    assert "nothing/here" not in text
    assert 'twinline_search_seconds_count{part="embed"} 1.0' in text


def test_the_api_page_loads_nothing_from_elsewhere(world: Any) -> None:
    page = world.client.get("/docs").text
    assert not re.findall(r"https?://[^'\" ]+", page)
    for asset in re.findall(r"(?:src|href)=\"([^\"]+)\"", page):
        assert world.client.get(asset).status_code == 200
    assert world.client.get("/openapi.json").json()["paths"]["/v1/search"]["post"]


def test_no_query_is_logged(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="twinline.search"):
        world.search("unspeakable cats")
        world.client.get("/v1/search", params={"q": "unspeakable cats"})
    assert caplog.records
    assert not any("unspeakable" in str(vars(record)) for record in caplog.records)


def test_the_switch_bench_reads_what_every_answer_says(world: Any) -> None:
    answer = world.search("cats sleep")
    read = _read(answer)
    assert (read["release"], read["space"], read["collection"]) == ("r1", "space-r1", "documents_r1")
    assert [hit.point for hit in read["hits"]] == [hit["point"] for hit in answer["hits"]]
    first = read["hits"][0]
    assert (first.key, first.chunk_index, first.version.number) == ("cats", 0, 3)
    assert (first.release, first.space, first.contract) == ("r1", "space-r1", "contract-r1")
