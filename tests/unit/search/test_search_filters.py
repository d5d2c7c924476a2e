"""Conditions of a question: read from JSON and from text, checked against the declared fields, refused by name."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.adapter_suites.memory_store import MemoryCollection
from tests.unit.search.conftest import DIMENSION, bag_of_words
from twinline import SearchClient
from twinline.clients.store.conditions import Either, Exists, Range
from twinline.clients.store.protocol import CollectionInfo, Head, StoredPoint, version_fields
from twinline.clients.store.vectors import DENSE, one_dense
from twinline.commands import search as search_command
from twinline.contract.documents.filterable import FieldType, filterable
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Version
from twinline.contract.errors import DocumentError, SettingsError
from twinline.contract.release.index_settings import IndexSettings
from twinline.search.filters import Where, store_conditions, where_of

DECLARED: dict[str, FieldType] = {
    "metadata.team": "keyword",
    "metadata.year": "integer",
    "metadata.score": "float",
    "metadata.published": "datetime",
    "metadata.reviewed": "bool",
    "metadata.by.name": "keyword",
}


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# The JSON form of one condition, and the store's.
READ = [
    ({"metadata.team": "red"}, {"metadata.team": ["red"]}),
    ({"metadata.team": ""}, {"metadata.team": [""]}),
    ({"metadata.team": {"any": ["red", "İ"]}}, {"metadata.team": ["red", "İ"]}),
    ({"metadata.by.name": "x"}, {"metadata.by.name": ["x"]}),
    ({"metadata.year": 2020}, {"metadata.year": [2020]}),
    ({"metadata.year": 2020.0}, {"metadata.year": [2020]}),
    ({"metadata.year": {"gte": 2020, "lt": 2024}}, {"metadata.year": Range(gte=2020, lt=2024)}),
    ({"metadata.year": {"gt": 2020, "gte": None}}, {"metadata.year": Range(gt=2020)}),
    ({"metadata.year": Where(gte=2020)}, {"metadata.year": Range(gte=2020)}),
    ({"metadata.score": 1}, {"metadata.score": Range(gte=1.0, lte=1.0)}),
    ({"metadata.score": {"any": [0.5, 1]}}, {"metadata.score": Either((Range(gte=0.5, lte=0.5), Range(gte=1, lte=1)))}),
    ({"metadata.reviewed": True}, {"metadata.reviewed": ["true"]}),
    ({"metadata.reviewed": {"exists": False}}, {"metadata.reviewed": Exists(False)}),
    ({"metadata.published": "2020-01-01"}, {"metadata.published": Range(gte=day("2020-01-01"), lte=day("2020-01-01"))}),
    ({"metadata.published": {"lt": "2020-01-01T02:00:00+02:00"}}, {"metadata.published": Range(lt=day("2020-01-01"))}),
    ({"metadata.published": {"lt": "2020-01-01t00:00:00z"}}, {"metadata.published": Range(lt=day("2020-01-01"))}),
    ({"received": {"gte": "1970-01-01T00:00:01.5Z"}}, {"timestamp_ms": Range(gte=1500.0)}),
    ({"received": {"exists": True}}, {"timestamp_ms": Exists(True)}),
    ({"source": {"any": ["a", "b"]}, "tenant": "t"}, {"source": ["a", "b"], "tenant": ["t"]}),
    ({"tenant": {"exists": False}}, {"tenant": Exists(False)}),
    ({}, {}),
    (None, {}),
]


@pytest.mark.parametrize(("where", "conditions"), READ)
def test_conditions_are_read_by_the_declared_types(where: Any, conditions: dict[str, Any]) -> None:
    assert store_conditions(where, DECLARED, "r1") == conditions


# Conditions that cannot be: the reason, and what the message names beside the field.
REFUSED = [
    ({"team": "red"}, "unknown_field", "write 'metadata.team'"),
    ({"colour": "red"}, "unknown_field", "use one of the known fields"),
    ({"timestamp_ms": 1}, "unknown_field", "'timestamp_ms' is no field"),
    ({"text": "x"}, "unknown_field", "'text'"),
    ({"metadata.Team": "red"}, "undeclared_field", "encoder.index.filters"),
    ({"metadata": "x"}, "unknown_field", "'metadata'"),
    ({"metadata.by": "x"}, "undeclared_field", "release r1"),
    ({"": "x"}, "unknown_field", "''"),
    ({"metadata.team": 7}, "wrong_filter", "7 is written in quotes"),
    ({"metadata.team": True}, "wrong_filter", "has true"),
    ({"metadata.team": {"any": ["red", 7]}}, "wrong_filter", "has 7"),
    ({"metadata.team": {"gte": "a"}}, "wrong_filter", "declared keyword, which has no order"),
    ({"metadata.year": "2020"}, "wrong_filter", 'has "2020": the field is declared integer: give a whole number'),
    ({"metadata.year": 2020.5}, "wrong_filter", "has 2020.5"),
    ({"metadata.year": True}, "wrong_filter", "has true"),
    ({"metadata.year": 2**53}, "wrong_filter", "2**53-1"),
    ({"metadata.year": {"gte": "x"}}, "wrong_filter", 'has "x"'),
    ({"metadata.score": 10**400}, "wrong_filter", "declared float"),
    ({"metadata.score": float("nan")}, "wrong_filter", "metadata.score"),
    ({"metadata.score": float("inf")}, "wrong_filter", "metadata.score"),
    ({"metadata.published": "yesterday"}, "wrong_filter", "RFC 3339"),
    ({"metadata.published": "2020-02-30"}, "wrong_filter", 'has "2020-02-30"'),
    ({"metadata.published": "20200101"}, "wrong_filter", "RFC 3339"),
    ({"metadata.published": "2020-W01-1"}, "wrong_filter", "RFC 3339"),
    ({"metadata.published": "0001-01-01T00:00:00+23:00"}, "wrong_filter", "RFC 3339"),
    ({"metadata.published": "２０２０-01-01"}, "wrong_filter", "RFC 3339"),
    ({"metadata.published": 2020}, "wrong_filter", "has 2020"),
    ({"metadata.reviewed": "true"}, "wrong_filter", "give true or false"),
    ({"metadata.reviewed": 1}, "wrong_filter", "give true or false"),
    ({"metadata.reviewed": {"lt": True}}, "wrong_filter", "no order"),
    ({"received": 5}, "wrong_filter", "'received' has 5"),
    ({"metadata.year": None}, "wrong_filter", "metadata.year: must be a text, a number, true or false, or an object"),
    ({"metadata.year": [2020]}, "wrong_filter", "or an object with any, gte"),
    ({"metadata.year": {}}, "wrong_filter", "no condition"),
    ({"metadata.year": {"any": []}}, "wrong_filter", "metadata.year.any"),
    ({"metadata.year": {"any": [None]}}, "wrong_filter", "must be a text, a number, true or false"),
    ({"metadata.year": {"between": [1, 2]}}, "wrong_filter", "metadata.year.between"),
    ({"metadata.year": {"gte": 1, "gt": 1}}, "wrong_filter", "gte, gt"),
    ({"metadata.year": {"gte": 1, "any": [1]}}, "wrong_filter", "any, gte"),
    ({"metadata.year": {"exists": 1}}, "wrong_filter", "metadata.year.exists"),
    ({f"metadata.m{number}": 1 for number in range(33)}, "wrong_filter", "32"),
    ({"metadata.team": "x" * 1025}, "wrong_filter", "1024"),
]


@pytest.mark.parametrize(("where", "reason", "said"), REFUSED)
def test_a_condition_that_cannot_be_is_refused_with_field_value_remedy_and_the_declared_fields(
    where: Any, reason: str, said: str
) -> None:
    with pytest.raises(DocumentError) as raised:
        store_conditions(where, DECLARED, "r1")
    assert raised.value.reason == reason
    assert said in str(raised.value)
    assert "metadata.team (keyword), metadata.year (integer)" in str(raised.value)
    assert "received (datetime)" in str(raised.value)


TEXTS = [
    ("team=red", {"metadata.team": "red"}),
    ("metadata.team=red", {"metadata.team": "red"}),
    (" team = red lights ", {"metadata.team": "red lights"}),
    ("lang=en,tr", {"metadata.lang": {"any": ["en", "tr"]}}),
    ("lang = en , tr ;", {"metadata.lang": {"any": ["en", "tr"]}}),
    ("by.name=Iğdır", {"metadata.by.name": "Iğdır"}),
    ("year>=2020", {"metadata.year": {"gte": 2020}}),
    ("year>2020;year<=2024", {"metadata.year": {"gt": 2020, "lte": 2024}}),
    ("year=2020", {"metadata.year": 2020}),
    ("year=-3", {"metadata.year": -3}),
    ("score<1e-3", {"metadata.score": {"lt": 0.001}}),
    ('year="2020"', {"metadata.year": "2020"}),
    ("zip=00123", {"metadata.zip": "00123"}),
    ("reviewed=true", {"metadata.reviewed": True}),
    ('reviewed="true"', {"metadata.reviewed": "true"}),
    ("reviewed?", {"metadata.reviewed": {"exists": True}}),
    ("!reviewed?", {"metadata.reviewed": {"exists": False}}),
    ("published>=2020-01-01T00:00:00Z", {"metadata.published": {"gte": "2020-01-01T00:00:00Z"}}),
    ("received<2026-11-01; source=a", {"received": {"lt": "2026-11-01"}, "source": "a"}),
    ("tenant=t; key=k; metadata.source=x", {"tenant": "t", "key": "k", "metadata.source": "x"}),
    ('team="a;b,\\"c\\""', {"metadata.team": 'a;b,"c"'}),
    ('team="",x', {"metadata.team": {"any": ["", "x"]}}),
    ("path=a=b", {"metadata.path": "a=b"}),
    ("", None),
    (" ; ;", None),
]


@pytest.mark.parametrize(("text", "where"), TEXTS)
def test_conditions_are_read_from_a_text(text: str, where: Any) -> None:
    assert where_of([text]) == where


def test_conditions_of_several_texts_are_one_list() -> None:
    assert where_of(["team=red", "year>=2020; year<2024"]) == {"metadata.team": "red", "metadata.year": {"gte": 2020, "lt": 2024}}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "team",
            "team=",
            "=red",
            "team=,",
            "team=a,",
            "team=a,,b",
            'team="a',
            'team=a"b',
            "team==",
            "team==x",
            "team!=x",
            "year=>3",
            "year> >3",
            "!team",
            "year>=1,2",
            "?",
        ),
        *("year>=2020;year>=2021", "team=a;team=b", "team?;team=a", 'team="\\x"', "a b=c", "x" * 4_001, '; " ;', "year<>3"),
    ],
)
def test_a_text_that_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="where: ") as raised:
        where_of([text])
    assert raised.value.reason == "wrong_filter"


# --- through every door ---

DOCUMENTS: dict[str, dict[str, Any]] = {
    "a": {"team": "red", "year": 2019, "published": "2019-05-01", "note": "kept", "reviewed": True},
    "b": {"team": "blue", "year": 2020, "published": "2020-05-01T10:00:00+02:00", "by": {"name": "x"}},
    "c": {"team": ["red", "green"], "year": 2021.0, "reviewed": False},
    "d": {"team": 7, "year": "2022"},
}


@pytest.fixture
def filtered(world: Any) -> Any:
    """Four documents that only their metadata tell apart, in the in-memory store, as the consumer writes them."""
    served = world.release("r2")
    info: CollectionInfo = CollectionInfo(
        "r2", "space-r2", "contract-r2", "vector", "index", one_dense(DIMENSION), IndexSettings(filters=DECLARED)
    )
    collection = MemoryCollection(served.collection.name, info)
    world.head_reads = []
    read_heads = collection.read_heads
    collection.read_heads = lambda ids: world.head_reads.append(len(ids)) or read_heads(ids)  # type: ignore[method-assign]
    world.served["r2"] = replace(served, release=replace(served.release, info=info), collection=collection)
    world.releases.add(world.served["r2"])
    for offset, (key, metadata) in enumerate(DOCUMENTS.items()):
        version = Version("explicit", 1)
        collection.put_heads([Head("notes", key, version, False, 1, metadata)])
        payload = {
            "kind": "chunk", "source": "notes", "key": key, **version_fields(version), "chunk_index": 0, "start": 0, "end": 4,
            "text": "cats", "title": key, "metadata": filterable(metadata, DECLARED), "tenant": "t" if key == "a" else None,
            "content_hash": key * 64, "token_count": 1, "truncated": False, "space": info.space, "release": "r2",
            "contract": info.contract_fingerprint, "partition": 0, "offset": offset, "timestamp_ms": 1_000 * offset,
            "headers": {},
        }  # fmt: skip
        collection.put_points([StoredPoint(point_id("notes", key, 0), payload, {DENSE: bag_of_words("cats")})])
    world.store.active_name = collection.name
    world.collection = collection
    return world


ASKED = [
    ("team=red", "ac"),
    ("team=red,blue", "abc"),
    ("year>=2020", "bc"),
    ("year>2019; year<2021", "b"),
    ("year=2021", "c"),
    ("published<2020-05-01T08:00:00.000001Z", "ab"),
    ("published=2020-05-01T08:00:00Z", "b"),
    ("reviewed?", "ac"),
    ("!reviewed?", "bd"),
    ("reviewed=false", "c"),
    ("by.name=x", "b"),
    ("!year?; !team?", "d"),  # values of another type are none
    ("received>=1970-01-01T00:00:02Z", "cd"),
    ("received=1970-01-01T00:00:01Z", "b"),
    ("tenant=t", "a"),
    ("!tenant?", "bcd"),
    ("source=other", ""),
    ("key=a,d; team=red", "a"),
]


@pytest.mark.parametrize(("text", "keys"), ASKED)
def test_body_address_page_client_and_command_line_find_the_same(
    filtered: Any, text: str, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = where_of([text])
    body = filtered.search("cats", where=where)
    assert "".join(sorted(hit["key"] for hit in body["hits"])) == keys
    by_address = filtered.client.get("/v1/search", params={"q": "cats", "where": text}).json()
    assert [hit["key"] for hit in by_address["hits"]] == [hit["key"] for hit in body["hits"]]
    page = filtered.client.get("/", params={"q": "cats", "where": text})
    assert page.status_code == 200
    assert page.text.count('class="hit') >= len(keys)
    assert ("No document passes" in page.text) is (not keys)

    def send(request: httpx.Request) -> httpx.Response:
        answer = filtered.client.post("/v1/search", content=request.content, headers={"Content-Type": "application/json"})
        return httpx.Response(answer.status_code, content=answer.content)

    with SearchClient("http://search", transport=httpx.MockTransport(send)) as client:
        assert [hit.key for hit in client.search("cats", where=where).hits] == [hit["key"] for hit in body["hits"]]
    ask = search_command.ask
    monkeypatch.setattr(search_command, "ask", lambda url, fields: ask(url, fields, httpx.MockTransport(send)))
    shown: list[Any] = []
    monkeypatch.setattr(search_command, "_show", lambda answer, _: shown.extend(hit["key"] for hit in answer["hits"]))
    search_command.command("cats", where=text.split(";"), url="http://search")
    assert shown == [hit["key"] for hit in body["hits"]]


def test_a_hit_has_all_metadata_of_its_head_by_one_read(filtered: Any) -> None:
    hits = filtered.search("cats")["hits"]
    assert {hit["key"]: hit["metadata"] for hit in hits} == DOCUMENTS
    assert filtered.head_reads == [4]


def test_a_collection_of_an_older_release_of_twinline_answers_with_the_metadata_of_its_chunks(filtered: Any) -> None:
    for key, metadata in DOCUMENTS.items():
        head = filtered.collection.points[head_id("notes", key)]
        old = {name: value for name, value in head.payload.items() if name != "metadata"}
        filtered.collection.points[head.id] = StoredPoint(head.id, old)
        chunk = filtered.collection.points[point_id("notes", key, 0)]
        filtered.collection.points[chunk.id] = StoredPoint(chunk.id, {**chunk.payload, "metadata": metadata}, chunk.vectors)
    assert {hit["key"]: hit["metadata"] for hit in filtered.search("cats")["hits"]} == DOCUMENTS
    assert [hit["key"] for hit in filtered.search("cats", where={"metadata.team": "blue"})["hits"]] == ["b"]
    # Erased between the two reads.
    del filtered.collection.points[head_id("notes", "b")]
    assert len(filtered.search("cats")["hits"]) == 4


@pytest.mark.parametrize(("where", "reason", "said"), [REFUSED[0], REFUSED[4], REFUSED[8], REFUSED[12], REFUSED[20], REFUSED[29]])
def test_the_service_refuses_by_name_and_asks_no_encoder(filtered: Any, where: Any, reason: str, said: str) -> None:
    response = filtered.client.post("/v1/search", json={"query": "cats", "where": where})
    assert (response.status_code, response.json()["error"]) == (400, reason)
    assert said in response.json()["detail"]
    assert "metadata.reviewed (bool)" in response.json()["detail"]
    assert filtered.served["r2"].embedder.texts == []


@pytest.mark.parametrize("where", [["x"], "team=red", {"metadata.year": None}, {"metadata.year": {"between": 1}}, 7])
def test_a_body_of_another_form_names_the_place(filtered: Any, where: Any) -> None:
    response = filtered.client.post("/v1/search", json={"query": "cats", "where": where})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("where")
    assert response.json()["detail"].count(";") == 0


@pytest.mark.parametrize(
    ("text", "reason"), [("team", "wrong_filter"), ("hue=red", "undeclared_field"), ("year=x", "wrong_filter")]
)
def test_page_and_address_show_what_is_wrong(filtered: Any, text: str, reason: str) -> None:
    page = filtered.client.get("/", params={"q": "cats", "where": text})
    assert page.status_code == 400
    assert 'role="alert"' in page.text
    assert reason in page.text
    assert f'name="where" value="{text}"' in page.text
    answer = filtered.client.get("/v1/search", params={"q": "cats", "where": text})
    assert (answer.status_code, answer.json()["error"]) == (400, reason)


def test_a_field_that_is_given_twice_is_refused(filtered: Any) -> None:
    for name in ("tenant", "source"):
        answer = filtered.client.post("/v1/search", json={"query": "cats", name: "t", "where": {name: "t"}})
        assert (answer.status_code, answer.json()["error"]) == (400, "wrong_filter")
        assert f"'{name}' is given twice" in answer.json()["detail"]


def test_the_schema_of_the_api_shows_the_conditions(filtered: Any) -> None:
    schemas = filtered.client.get("/openapi.json").json()["components"]["schemas"]
    assert set(schemas["Where"]["properties"]) == {"any", "gte", "gt", "lte", "lt", "exists"}
    assert "where" in schemas["Question"]["properties"]


@pytest.mark.parametrize("text", ["team", "year>=1,2", 'team="x'])
def test_the_command_refuses_a_text_that_is_no_condition_as_a_wrong_use(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--where: .* write team=red"):
        search_command.command("cats", where=[text], url="http://search")
