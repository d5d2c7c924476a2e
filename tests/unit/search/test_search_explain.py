"""Why a document was or was not found: one reason for each way to be missed, and exact ranks whatever the index lists."""

import random
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.unit.search.conftest import HERE, World, bag_of_words
from twinline.clients.store.protocol import StoredPoint
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.errors import DocumentError, SettingsError, TransientError
from twinline.contract.principal import LOCAL_OPERATOR, NotAllowedError, Principal
from twinline.contract.sparse.analyzer import Analyzer
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.statistics import Statistics
from twinline.contract.sparse.weights import Words, score
from twinline.search import explain as explain_module
from twinline.search.api import build_app
from twinline.search.explain import explain
from twinline.search.explanation import Explanation, Facts, Waiting, Wanted, decide
from twinline.search.results import Question

NAMES = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".split()  # noqa: SIM905
CORPUS = [f"{first} {second} {first}{second} notes" for first in NAMES for second in NAMES if first < second]


# Enough words that one more makes a copy of it.
LETTERS = [first + second for first in "abcdefgh" for second in "klmnop"]


def words() -> Words:
    analyzer = Analyzer(1, "none")
    contract = SparseContract(1, "none", 1, 90, 40, "")
    return Words(contract, Statistics.count(analyzer.terms(text) for text in CORPUS))


@pytest.fixture
def two_sided() -> World:
    """Return a release with words and a fusion that lists five chunks a side."""
    world = World()
    world.release("r1", words(), Fusion("scores", depth=5))
    for number, text in enumerate(CORPUS):
        world.add("r1", f"d{number}", text)
    world.store.active_name = "documents_r1"
    return world


def number_of(first: str, second: str) -> str:
    return f"d{CORPUS.index(f'{first} {second} {first}{second} notes')}"


def asked(world: World, query: str, key: str, of: str | None = None, **fields: Any) -> dict[str, Any]:
    body = {"question": {"query": query, **fields}, "document": {"key": key, "source": of}}
    response = world.client.post("/v1/explain", json=body)
    assert response.status_code == 200, response.text
    explained: dict[str, Any] = response.json()
    return explained


# The last by id of those that tie: the list of five ends before it.
TIED = max(NAMES[2:], key=lambda name: point_id("notes", number_of("alpha", name), 0))


def missed_by_the_index(world: World, key: str) -> None:
    world.served["r1"].collection.missed.add(point_id("notes", key, 0))  # type: ignore[attr-defined]


def test_a_hit_is_explained_with_its_rank_both_places_and_its_words(two_sided: World) -> None:
    key = number_of("alpha", "beta")
    found = asked(two_sided, "alpha beta", key)
    assert (found["why"], found["rank"], found["state"], found["remedy"]) == ("hit", 1, "stored", "")
    assert found["reason"] == f"[notes, {key}] is hit no. 1"
    assert (found["source"], found["key"], found["title"], found["chunks"]) == ("notes", key, key, 1)
    assert found["version"]["number"] == 3
    best = found["best"]
    assert (best["dense"]["rank"], best["words"]["rank"], best["index"]) == (1, 1, 0)
    assert best == found["nearest"]
    assert best["text"] == "alpha beta alphabeta notes"
    assert [term["term"] for term in found["terms"]] == ["alpha", "beta"]
    assert sum(term["adds"] for term in found["terms"]) == best["words"]["score"]
    assert (found["mode"], found["release"], found["collection"]) == ("hybrid", "r1", "documents_r1")
    hits = two_sided.search("alpha beta")["hits"]
    assert found["score"] == hits[0]["score"]
    assert (found["last"]["rank"], found["last"]["key"], found["last"]["score"]) == (10, hits[-1]["key"], hits[-1]["score"])


@pytest.mark.parametrize(
    ("prepare", "query", "key", "fields", "why", "words"),
    [
        (None, "alpha", "never", {}, "absent", "never published"),
        ("delete", "alpha", "gone", {}, "deleted", "was deleted"),
        ("unwritten", "alpha", "new", {}, "incomplete", "none of 2 chunks"),
        (None, "alpha beta", number_of("alpha", "beta"), {"tenant": "red"}, "filtered", "left out by tenant 'red'"),
        (None, "alpha beta", number_of("alpha", "beta"), {"source": "wiki"}, "filtered", "left out by source 'wiki'"),
        (
            None, "alpha beta", number_of("alpha", "beta"), {"source": "wiki", "tenant": "red"},
            "filtered", "tenant 'red' and source 'wiki'",
        ),
        (None, "alpha beta", number_of("alpha", "beta"), {"tenant": None, "source": "notes"}, "hit", "no. 1"),
        ("copy", "alpha beta words", "second", {}, "copy", "listed under it"),
        ("copy", "alpha beta words", "second", {"group": False}, "hit", "is hit no."),
        # Seven other pairs with "alpha" have the same scores, and the list is cut among them by id.
        (None, "alpha beta", number_of("alpha", TIED), {"limit": 1}, "not_listed", "first 5 chunks that either side"),
        (None, "alpha beta", number_of("kappa", "mu"), {"limit": 1}, "not_listed", "first 5 chunks that either side"),
        (None, "alpha beta", number_of("kappa", "mu"), {"limit": 1, "mode": "words"}, "no_word", "has no word"),
        (None, "alpha beta", number_of("kappa", "mu"), {"limit": 1, "mode": "dense"}, "not_listed", "that either side"),
        ("miss", "alpha beta", number_of("alpha", "beta"), {"limit": 1}, "passed_over", "first 5 chunks"),
        ("miss", "alpha beta", number_of("alpha", "beta"), {"limit": 1, "mode": "words"}, "passed_over", "first 5 chunks"),
        ("miss", "alpha beta", number_of("alpha", "beta"), {"limit": 1, "exact": True}, "hit", "no. 1"),
    ],
)  # fmt: skip
def test_each_way_to_be_missed_has_its_reason(
    two_sided: World, prepare: str | None, query: str, key: str, fields: Mapping[str, Any], why: str, words: str
) -> None:
    page = "alpha beta words " + " ".join(f"word{letter}" for letter in LETTERS)
    if prepare == "delete":
        two_sided.add("r1", "gone")
    elif prepare == "unwritten":
        two_sided.add("r1", "new", "one", "two")
        points = two_sided.served["r1"].collection.points  # type: ignore[attr-defined]
        for index in (0, 1):
            del points[point_id("notes", "new", index)]
    elif prepare == "copy":
        # The better one by a word, so that the other is its copy.
        two_sided.add("r1", "first", page)
        two_sided.add("r1", "second", f"{page} more")
    elif prepare == "miss":
        missed_by_the_index(two_sided, key)
    found = asked(two_sided, query, key, **fields)
    assert found["why"] == why
    assert words in found["reason"]
    assert key in found["reason"]
    assert bool(found["remedy"]) is (why != "hit")
    if why in ("absent", "deleted", "incomplete"):
        assert (found["best"], found["nearest"], found["terms"], found["score"]) == (None, None, [], None)
    else:
        assert found["best"] is not None


def test_a_document_below_the_last_hit_is_told_what_it_lacks(two_sided: World) -> None:
    first, second, *_ = two_sided.search("alpha beta gamma", limit=4)["hits"]
    found = asked(two_sided, "alpha beta gamma", second["key"], limit=1)
    assert (found["why"], found["last"]["key"]) == ("below", first["key"])
    assert found["score"] == second["score"]
    assert f"below the last of 1 hits, it lacks {first['score'] - second['score']:.4g}" in found["reason"]


def test_a_document_that_is_being_indexed_is_explained_by_what_is_there(two_sided: World) -> None:
    two_sided.add("r1", "half", "omega psi", "chi")
    del two_sided.served["r1"].collection.points[point_id("notes", "half", 1)]  # type: ignore[attr-defined]
    found = asked(two_sided, "omega psi", "half")
    assert (found["state"], found["why"], found["chunks"]) == ("incomplete", "hit", 1)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("mode", ["hybrid", "dense", "words"])
def test_ranks_are_exact_over_all_chunks(two_sided: World, monkeypatch: pytest.MonkeyPatch, seed: int, mode: str) -> None:
    drawn = random.Random(seed)
    monkeypatch.setattr(explain_module, "_FIRST_COUNTED", drawn.choice([1, 3, 1_000]))
    query = " ".join(drawn.sample(NAMES, 3))
    number = drawn.randrange(len(CORPUS))
    if drawn.random() < 0.5:
        missed_by_the_index(two_sided, f"d{number}")
    best = asked(two_sided, query, f"d{number}", mode=mode)["best"]
    made, vector = words(), bag_of_words(query)
    cosines = [float(vector @ bag_of_words(text)) for text in CORPUS]
    shared = [score(made.query(query), made.document(text)) for text in CORPUS]
    if mode == "words":
        assert best["dense"] is None
    else:
        assert best["dense"]["rank"] == 1 + sum(cosine > cosines[number] for cosine in cosines)
        assert best["dense"]["score"] == pytest.approx(cosines[number])
    if mode == "dense":
        assert best["words"] is None
    elif shared[number]:
        assert best["words"] == {"rank": 1 + sum(value > shared[number] for value in shared), "score": shared[number]}
    else:
        assert best["words"] == {"rank": None, "score": 0.0}


def test_beyond_what_is_counted_a_rank_is_not_made_up(two_sided: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_module, "_FIRST_COUNTED", 2)
    monkeypatch.setattr(explain_module, "MOST_COUNTED", 8)
    found = asked(two_sided, "alpha beta", number_of("kappa", "mu"))
    assert found["best"]["dense"]["rank"] is None
    assert asked(two_sided, "alpha beta", number_of("alpha", "beta"))["best"]["dense"]["rank"] == 1


def test_the_best_chunk_and_the_nearest_may_be_two(two_sided: World) -> None:
    two_sided.add("r1", "two", "quark quark quark lepton boson", "quark muon tau tau tau tau tau tau")
    found = asked(two_sided, "quark", "two")
    nearest = max((0, 1), key=lambda index: float(bag_of_words("quark") @ bag_of_words(
        ["quark quark quark lepton boson", "quark muon tau tau tau tau tau tau"][index])))  # fmt: skip
    assert found["nearest"]["index"] == nearest
    by_words = asked(two_sided, "quark", "two", mode="words")
    assert by_words["nearest"] is None
    assert by_words["best"]["words"]["rank"] == 1


def test_terms_say_what_the_chunk_has_and_lacks(two_sided: World) -> None:
    found = asked(two_sided, "alpha nonsense mu alpha", number_of("alpha", "mu"))
    by_term = {term["term"]: term for term in found["terms"]}
    assert set(by_term) == {"alpha", "nonsense", "mu"}
    assert by_term["nonsense"]["adds"] == 0
    assert by_term["nonsense"]["rarity"] > by_term["alpha"]["rarity"] > 0
    assert by_term["alpha"]["adds"] > 0 < by_term["mu"]["adds"]
    assert found["terms"][0]["term"] == "nonsense"  # the rarest first


def test_a_release_without_words_is_explained_by_meaning_alone(world: World) -> None:
    found = asked(world, "dogs run", "cats", limit=1)
    assert (found["why"], found["mode"], found["terms"]) == ("below", "dense", [])
    assert found["best"]["words"] is None
    assert found["score"] == found["best"]["dense"]["score"]
    assert "it lacks" in found["reason"]


def test_words_alone_explain_while_the_encoder_is_away_and_say_so(two_sided: World, away: TransientError) -> None:
    two_sided.served["r1"].embedder.failure = away  # type: ignore[attr-defined]
    found = asked(two_sided, "alpha beta", number_of("alpha", "beta"))
    assert (found["mode"], found["why"]) == ("words", "hit")
    assert "encoder is away" in found["note"]
    body = {"question": {"query": "alpha", "mode": "dense"}, "document": {"key": "d1"}}
    assert two_sided.client.post("/v1/explain", json=body).status_code == 503


def test_a_key_in_several_sources_must_be_named_with_one(two_sided: World) -> None:
    two_sided.add("r1", "d0", "alpha elsewhere", source="wiki")
    body: dict[str, Any] = {"question": {"query": "alpha"}, "document": {"key": "d0"}}
    response = two_sided.client.post("/v1/explain", json=body)
    assert (response.status_code, response.json()["error"]) == (400, "several_sources")
    assert "'notes', 'wiki'" in response.json()["detail"]
    assert asked(two_sided, "alpha elsewhere", "d0", "wiki")["source"] == "wiki"


@pytest.mark.parametrize(
    "body",
    [
        {"question": {"query": "alpha"}},
        {"document": {"key": "d0"}},
        {"question": {"query": "alpha"}, "document": {"key": ""}},
        {"question": {"query": "alpha"}, "document": {"key": "d0", "sorce": "notes"}},
        {"question": {"query": "alpha", "tennant": "red"}, "document": {"key": "d0"}},
        {"question": {"query": "alpha", "limit": 101}, "document": {"key": "d0"}},
        {"question": {"query": "alpha"}, "document": {"key": "x" * 5_000}},
        {"question": {"query": "alpha"}, "document": {"key": "d0"}, "more": 1},
        {"question": "alpha", "document": {"key": "d0"}},
        {},
    ],
)
def test_a_wrong_field_is_refused_by_name(two_sided: World, body: dict[str, Any]) -> None:
    response = two_sided.client.post("/v1/explain", json=body)
    assert response.status_code == 422
    assert set(response.json()) == {"error", "detail", "remedy"}


RED = Principal("ann", frozenset({"search"}), tenants=frozenset({"red"}))
NOTES = Principal("bob", frozenset({"search"}), sources=frozenset({"notes"}))


def explained(world: World, question: Question, wanted: Wanted, principal: Principal, **more: Any) -> Explanation:
    return explain(world.releases, question, wanted, principal, **more)


def test_a_caller_learns_nothing_of_documents_that_are_not_its_own(two_sided: World) -> None:
    two_sided.add("r1", "theirs", "alpha of blue", tenant="blue")
    two_sided.add("r1", "mine", "alpha of red", tenant="red")
    two_sided.add("r1", "erased")
    two_sided.add("r1", "page", "alpha of the wiki", source="wiki")
    with pytest.raises(NotAllowedError):
        explained(two_sided, Question("alpha"), Wanted("mine"), RED)
    red = Question("alpha", tenant="red")
    assert explained(two_sided, red, Wanted("mine"), RED).why == "hit"
    unknown = explained(two_sided, red, Wanted("never"), RED)
    for key in ("theirs", "erased"):
        seen = explained(two_sided, red, Wanted(key), RED)
        assert seen.reason.replace(f", {key}]", ", never]") == unknown.reason
        assert (seen.why, seen.version, seen.chunks, seen.source) == ("absent", None, 0, None)
    notes = Question("alpha", source="notes")
    assert explained(two_sided, notes, Wanted("page"), NOTES).why == "absent"
    assert explained(two_sided, notes, Wanted("page", "wiki"), NOTES).why == "absent"
    assert explained(two_sided, Question("alpha", source="wiki"), Wanted("page"), LOCAL_OPERATOR).why == "hit"


@pytest.mark.parametrize("waiting", [Waiting(0), Waiting(7), Waiting(7, (1, 43)), Waiting(90_000, None, complete=False)])
def test_what_the_log_holds_beyond_the_index_is_told(two_sided: World, waiting: Waiting) -> None:
    calls: list[tuple[str, str | None, str]] = []

    def ask_log(release: str, source: str | None, key: str) -> Waiting:
        calls.append((release, source, key))
        return waiting

    question = Question("alpha")
    assert explained(two_sided, question, Wanted("d0"), LOCAL_OPERATOR, ask_log=ask_log).waiting == waiting
    assert explained(two_sided, question, Wanted("never"), LOCAL_OPERATOR, ask_log=ask_log).waiting == waiting
    assert calls == [("r1", "notes", "d0"), ("r1", None, "never")]
    two_sided.add("r1", "mine", "alpha of red", tenant="red")
    seen = explained(two_sided, Question("alpha", tenant="red"), Wanted("mine"), RED, ask_log=ask_log)
    assert (seen.waiting, len(calls)) == (None, 2)


@pytest.mark.parametrize("failure", [TransientError("no broker answers"), SettingsError("no topic documents")])
def test_a_log_that_cannot_be_asked_is_said_and_the_rest_is_explained(two_sided: World, failure: Exception) -> None:
    def ask_log(*_: object) -> Waiting:
        raise failure

    found = explained(two_sided, Question("alpha"), Wanted("d0"), LOCAL_OPERATOR, ask_log=ask_log)
    assert found.waiting is None
    assert str(failure) in found.log
    assert found.best is not None
    assert "twinline up" in explained(two_sided, Question("alpha"), Wanted("d0"), LOCAL_OPERATOR).log


def test_several_heads_of_other_sources_are_a_fault_of_the_question(two_sided: World) -> None:
    two_sided.add("r1", "d0", "alpha", source="wiki")
    with pytest.raises(DocumentError, match="name one of them"):
        explained(two_sided, Question("alpha"), Wanted("d0"), LOCAL_OPERATOR)
    assert explained(two_sided, Question("alpha", source="notes"), Wanted("d0"), NOTES).source == "notes"


def test_every_hit_on_the_page_links_to_its_explanation(two_sided: World) -> None:
    page = two_sided.client.get("/", params={"q": "alpha beta", "source": "notes", "limit": "25"}).text
    assert page.count("Why this place?") == 25
    key = number_of("alpha", "beta")
    address = f"/explain?q=alpha+beta&amp;key={key}&amp;document_source=notes&amp;limit=25&amp;source=notes"
    assert f'href="{address}"' in page
    shown = two_sided.client.get(address.replace("&amp;", "&"))
    assert shown.status_code == 200
    assert f"[notes, {key}] is hit no. 1." in shown.text
    assert "alphabeta" in shown.text
    assert "exact, among all chunks" in shown.text


def test_the_page_of_an_explanation_escapes_and_names_problems(two_sided: World, away: TransientError) -> None:
    attack = '"><script>alert(1)</script>'
    two_sided.add("r1", attack, f"alpha {attack}", title=attack, source=attack)
    shown = two_sided.client.get("/explain", params={"q": attack, "key": attack, "document_source": attack}).text
    assert "<script" not in shown
    assert (
        "default-src 'none'" in two_sided.client.get("/explain", params={"q": "a", "key": "b"}).headers["content-security-policy"]
    )
    assert two_sided.client.get("/explain", params={"q": "a", "key": "b", "sorce": "c"}).status_code == 422
    assert two_sided.client.get("/explain").status_code == 422
    two_sided.store.active_name = None
    down = two_sided.client.get("/explain", params={"q": "a", "key": "b"})
    assert down.status_code == 503
    assert 'role="alert"' in down.text


def test_the_page_shows_mode_note_both_places_and_copies(two_sided: World, away: TransientError) -> None:
    text = "alpha beta words " + " ".join(f"word{letter}" for letter in LETTERS)
    two_sided.add("r1", "first", text)
    two_sided.add("r1", "second", text)
    page = two_sided.client.get("/", params={"q": "alpha beta words wordak"}).text
    assert "by meaning and words" in page
    assert "<span>meaning no. 1 (" in page
    assert "<span>words no. 1 (" in page
    assert "1 document says the same" in page
    assert page.count('<li class="hit">') == 10
    every = two_sided.client.get("/", params={"q": "alpha beta words wordak", "group": "false"}).text
    assert "says the same" not in every
    assert 'value="false" checked' in every
    assert two_sided.client.get("/", params={"q": "alpha", "group": "perhaps"}).status_code == 422
    two_sided.served["r1"].embedder.failure = away  # type: ignore[attr-defined]
    alone = two_sided.client.get("/", params={"q": "alpha beta gamma"}).text
    assert "the encoder is away, so words alone were searched" in alone
    assert "<span>by words</span>" in alone
    assert "<span>meaning" not in alone
    # A sum of rarities has no upper end, so the bars show shares of the best.
    bars = [float(value) for value in re.findall(r'<meter [^>]*value="([\d.]+)"', alone)]
    assert bars[0] == 1
    assert bars == sorted(bars, reverse=True)
    assert bars[-1] < 1


def test_the_service_of_the_log_is_handed_down(two_sided: World) -> None:
    app = build_app(two_sided.releases, principal=LOCAL_OPERATOR, ask_log=lambda *_: Waiting(3, (0, 9)))
    body = {"question": {"query": "alpha"}, "document": {"key": "d0"}}
    found = TestClient(app, base_url=HERE).post("/v1/explain", json=body).json()
    assert found["waiting"] == {"messages": 3, "newest": [0, 9], "complete": True}
    page = TestClient(app, base_url=HERE).get("/explain", params={"q": "alpha", "key": "d0"}).text
    assert "a newer message of it, 0/9" in page


FOUND = {"state": "stored", "mode": "hybrid", "limit": 10, "reach": 100, "name": "[s, k]", "collection": "c", "chunks": 1}


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"state": "absent", "hit": 1}, "absent"),
        ({"state": "deleted", "chunks": 0}, "deleted"),
        ({"state": "incomplete", "chunks": 0, "expected": 3}, "incomplete"),
        ({"conditions": ["tenant 'x'"], "listed": True}, "filtered"),
        ({"hit": 3}, "hit"),
        ({"under": 3}, "copy"),
        ({"listed": True, "score": 0.25, "last_score": 0.5}, "below"),
        ({"listed": True}, "below"),
        ({"mode": "words"}, "no_word"),
        ({"mode": "words", "listed_exactly": True, "shares_words": True}, "passed_over"),
        ({"mode": "words", "shares_words": True}, "not_listed"),
        ({"listed_exactly": True}, "passed_over"),
        ({"listed_exactly": True, "listed": True}, "below"),
        ({"shares_words": True}, "not_listed"),
        ({}, "not_listed"),
    ],
)
def test_the_first_reason_that_holds_is_the_reason(facts: dict[str, Any], why: str) -> None:
    found, reason, remedy = decide(Facts(**{**FOUND, **facts}))
    assert found == why
    assert "[s, k]" in reason
    assert bool(remedy) is (why != "hit")
    if facts.get("score"):
        assert "lacks 0.25" in reason


def test_a_damaged_head_alone_is_no_stored_document(two_sided: World) -> None:
    points: dict[Any, StoredPoint] = two_sided.served["r1"].collection.points  # type: ignore[attr-defined]
    del points[head_id("notes", "d0")]
    found = asked(two_sided, "alpha", "d0")
    assert (found["state"], found["why"]) == ("absent", "absent")
    assert np.isfinite(found["last"]["score"])
