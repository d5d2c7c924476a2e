"""Words in the upkeep of an index: audited, made again from the text, repaired by the log, gone with their point, traced."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from streaming.decode import Message, decode
from streaming.indexer import Indexer
from tests.adapter_suites.memory_store import MemoryCollection, MemoryStore
from tests.fixtures_streaming import GOLDEN, FakeEmbedder, ListSink, Log, NothingErased, info_of, preprocessor, vector_of
from twinline.clients.online import AdminClient
from twinline.clients.release import Release
from twinline.clients.store.audit import PointFacts, words_hash
from twinline.clients.store.protocol import Query, StoredPoint
from twinline.clients.store.vectors import DENSE, WORDS, Ask, VectorSpec
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.errors import ContractError, SettingsError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.sparse.analyzer import Analyzer
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.statistics import Statistics
from twinline.contract.sparse.vector import Sparse
from twinline.contract.sparse.weights import Words
from twinline.online.admin import build_admin
from twinline.online.service import OnlineService
from twinline.search.query import answer_from
from twinline.search.releases import Releases, Served
from twinline.search.results import RESULT, Question
from twinline.upkeep.erase.removal import remove_points
from twinline.upkeep.reconcile.compare import KINDS, Finding, compare_document
from twinline.upkeep.reconcile.ledger import Ledger
from twinline.upkeep.reconcile.repair import repair
from twinline.upkeep.reconcile.target import Direct, Target
from twinline.upkeep.trace.target import target_of_hit

__all__ = ["preprocessor"]

TEXTS = {"a": "one two three four five six seven eight nine ten", "b": "two two code AB-12", "c": "zwölf İstanbul ışık"}


def make_words() -> Words:
    terms = [Analyzer(1, "none").terms(text) for text in TEXTS.values()]
    return Words(SparseContract(1, "none", 1, 90, 40, "0" * 64), Statistics.count([*terms, *terms]))


@dataclass
class World:
    """An index with words, and the log behind it."""

    collection: MemoryCollection
    release: Release
    embedder: FakeEmbedder
    log: Log = field(default_factory=Log)
    messages: dict[str, Message] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        index, release = Direct(self.collection, self.indexer), self.release
        return Target(release.info.release, release.info, release.preprocessor, index, dict, release.words)

    @property
    def indexer(self) -> Indexer:
        return Indexer(self.collection, self.release, ListSink(), NothingErased())

    def put(self, key: str, text: str) -> None:
        self.messages[key] = self.log.append(Document("s", key, text))
        self.indexer.handle([self.messages[key]])

    def point(self, key: str, index: int = 0) -> StoredPoint:
        return self.collection.points[point_id("s", key, index)]

    def damage(self, key: str, new: Sparse | None, index: int = 0) -> None:
        point = self.point(key, index)
        vectors = {DENSE: point.vectors[DENSE], **({} if new is None else {WORDS: new})}
        self.collection.points[point.id] = replace(point, vectors=vectors)

    def findings(self, ledger: Ledger) -> list[Finding]:
        for message in self.messages.values():
            ledger.take(decode(message))
        for page in self.target.facts():
            ledger.add_points(page)
        found: list[Finding] = []
        for doc, message in ledger.documents():
            event = decode(message)
            chunks = self.release.preprocessor.chunks(event.item)  # type: ignore[arg-type]
            found += compare_document(event, chunks, ledger.points_of(doc), self.release.info, self.release.words)
        return found


@pytest.fixture
def world(preprocessor: Preprocessor) -> World:
    plain = info_of(preprocessor)
    info = replace(plain, vectors={**plain.vectors, WORDS: VectorSpec("sparse", None, "dot")})
    embedder = FakeEmbedder()
    made = World(
        MemoryCollection("documents_r1", info),
        Release(info, preprocessor, embedder, GOLDEN, make_words(), Fusion()),
        embedder,
    )
    for key, text in TEXTS.items():
        made.put(key, text)
    return made


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def first_weight(words: Sparse, by: int) -> Sparse:
    return Sparse(words.ids, (words.weights[0] + by, *words.weights[1:]))


DAMAGES: dict[str, tuple[Callable[[Sparse], Sparse | None], str, bool]] = {
    "a weight is higher": (lambda words: first_weight(words, 1), "wrong_words", False),
    "a weight is lower": (lambda words: first_weight(words, -1), "wrong_words", False),
    "a term is missing": (lambda words: Sparse(words.ids[:-1], words.weights[:-1]), "wrong_words", False),
    "a term too many": (lambda words: Sparse((0, *words.ids), (7, *words.weights)), "wrong_words", False),
    "another term": (lambda words: Sparse((words.ids[0] - 1, *words.ids[1:]), words.weights), "wrong_words", False),
    "no terms": (lambda words: Sparse((), ()), "wrong_words", False),
    "another language's": (
        lambda words: Words(replace(make_words().contract, language="german"), make_words().statistics).document("Häuser"),
        "wrong_words",
        False,
    ),
    "weights turned round": (lambda words: Sparse(words.ids, tuple(range(1, len(words.ids) + 1))), "wrong_words", False),
    # found before it is compared, and not reused
    "no vector": (lambda words: None, "bad_vector", True),
}


def test_an_index_as_the_consumer_wrote_it_has_no_fault(world: World, ledger: Ledger) -> None:
    assert world.findings(ledger) == []
    facts = [facts for page in world.target.facts() for facts in page if facts.kind == "chunk"]
    assert len({each.words for each in facts}) == len(facts) == 4
    assert [PointFacts.from_json(each.to_json()) for each in facts] == facts


@pytest.mark.parametrize("name", DAMAGES)
def test_words_that_the_text_does_not_make_are_found_and_made_again_by_the_log(
    world: World, ledger: Ledger, tmp_path: Path, name: str
) -> None:
    change, kind, remove = DAMAGES[name]
    before = {id_: point.vectors for id_, point in world.collection.points.items()}
    whole = world.point("a", 1)
    damaged = change(whole.vectors[WORDS])  # type: ignore[arg-type]
    world.damage("a", damaged, index=1)
    found = world.findings(ledger)
    assert [(finding.kind, finding.key, finding.remove) for finding in found] == [(kind, "a", remove)]
    assert kind in KINDS
    assert found[0].point is not None
    assert found[0].point.id == whole.id
    asked = len(world.embedder.texts)
    assert repair(found, ledger, world.target.index) == {"removed": int(remove), "applied": 1}
    with Ledger(tmp_path / "after.sqlite") as after:
        assert world.findings(after) == []
    assert {id_: dict(point.vectors).get(WORDS) for id_, point in world.collection.points.items()} == {
        id_: dict(vectors).get(WORDS) for id_, vectors in before.items()
    }
    # the dense vector was good, and is kept where its point was
    assert len(world.embedder.texts) - asked == int(remove)


def test_every_chunk_of_an_index_by_another_analyzer_is_found(world: World, ledger: Ledger) -> None:
    other = Words(replace(make_words().contract, k1_percent=200), make_words().statistics)
    consumer = Indexer(world.collection, replace(world.release, words=other), ListSink(), NothingErased())
    consumer.handle(list(world.messages.values()))
    assert [finding.kind for finding in world.findings(ledger)] == ["wrong_words"] * 4


def test_a_release_without_words_compares_none(world: World, ledger: Ledger) -> None:
    world.release = replace(world.release, words=None)
    world.damage("a", Sparse((1,), (1,)))
    assert world.findings(ledger) == []


def test_a_stored_text_that_is_wrong_is_said_once(world: World, ledger: Ledger) -> None:
    """Its words are of that text, and would be a second name of the same fault."""
    point = world.point("b")
    world.collection.points[point.id] = StoredPoint(
        point.id, {**point.payload, "text": "three"}, {**point.vectors, WORDS: make_words().document("three")}
    )
    assert [finding.kind for finding in world.findings(ledger)] == ["wrong_text"]


def test_the_hash_of_words_is_of_terms_and_weights() -> None:
    assert words_hash(Sparse((1, 2), (3, 4))) == words_hash(Sparse((1, 2), (3, 4)))
    assert len({words_hash(Sparse(*pair)) for pair in [((1, 2), (3, 4)), ((1, 2), (4, 3)), ((1,), (3,)), ((), ())]}) == 4


# --- erased, and traced ---


def by_words(world: World, text: str) -> list[str]:
    asked = make_words().query(text)
    [found] = world.collection.query(Query((Ask(WORDS, asked, 10),)))
    return [str(point.payload["key"]) for point in found]


def test_an_erased_document_is_found_by_no_word_any_more(world: World) -> None:
    assert by_words(world, "AB-12") == ["b"]
    tombstone = world.log.append(Deletion("s", "b"))
    done = remove_points(world.target, tombstone, "s", "b")
    assert (done["removed"], done["left"]) == (1, 0)
    assert by_words(world, "AB-12") == []
    kept = [point for point in world.collection.points.values() if point.payload.get("key") == "b"]
    assert [(point.id, dict(point.vectors)) for point in kept] == [(head_id("s", "b"), {})]


def test_a_chunk_that_an_update_drops_takes_its_words_along(world: World) -> None:
    assert by_words(world, "ten") == ["a"]
    world.put("a", "one")
    assert by_words(world, "ten") == []


@pytest.mark.parametrize("mode", ["words", "hybrid", "dense"])
def test_a_hit_is_traced_whatever_found_it(world: World, mode: Any) -> None:
    served = Served(world.release, world.collection)
    answer = answer_from(served, Question("İstanbul ışık", mode=mode), LOCAL_OPERATOR)
    hit = next(hit for hit in answer.hits if hit.key == "c")
    assert (hit.words is not None, hit.dense is not None) == (mode != "dense", mode != "words")
    target = target_of_hit(RESULT.dump_json(replace(answer, hits=[hit])).decode())
    assert target.ids == (point_id("s", "c", 0),)
    stored = world.point("c").payload
    assert {name: target.hit[name] for name in ("text", "offset", "release", "content_hash")} == {
        name: stored[name] for name in ("text", "offset", "release", "content_hash")
    }


# --- the store's own lists, for the hops of skew ---


@pytest.fixture
def admin(world: World) -> AdminClient:
    store = MemoryStore(ready={"documents_r1": world.collection}, active_name="documents_r1")
    releases = Releases(store)
    releases.add(Served(world.release, world.collection))
    service = OnlineService(store, releases, lambda name: None, lambda served: None)  # type: ignore[arg-type,return-value]
    app = TestClient(build_admin(service, principal=LOCAL_OPERATOR), base_url="http://127.0.0.1", raise_server_exceptions=False)

    def forward(request: httpx.Request) -> httpx.Response:
        headers = {"content-type": request.headers.get("content-type", "")}
        answer = app.request(request.method, str(request.url), content=request.content, headers=headers)
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)

    return AdminClient("http://127.0.0.1", httpx.MockTransport(forward))


def plain(lists: list[list[StoredPoint]]) -> list[list[tuple[Any, float | None]]]:
    return [[(point.id, point.score) for point in points] for points in lists]


@pytest.mark.parametrize("among", [None, (point_id("s", "a", 0), point_id("s", "b", 0)), ()])
def test_the_admin_api_gives_the_stores_own_lists(world: World, admin: AdminClient, among: Any) -> None:
    asks = (Ask(DENSE, vector_of("two"), 3), Ask(WORDS, make_words().query("two code"), 3))
    query = Query(asks, exact=True, among=among, with_payload=False)
    assert plain(admin.query("documents_r1", query)) == plain(world.collection.query(query))
    # `two` is in the first chunk of a, twice in b
    assert len(admin.query("documents_r1", Query(asks, exact=True, with_payload=False))[1]) == 2


def test_a_vector_that_the_collection_does_not_have_is_refused(admin: AdminClient) -> None:
    with pytest.raises((ContractError, SettingsError), match="takes dense"):
        admin.query("documents_r1", Query((Ask("terms", Sparse((1,), (1,)), 3),)))


def test_the_admin_api_answers_in_the_mode_that_was_asked(admin: AdminClient) -> None:
    for mode in ("hybrid", "dense", "words"):
        assert admin.search("documents_r1", "two code", mode=mode)["mode"] == mode
