"""Search by vectors and words: modes, both sides of a hit, an encoder that is away, and ties that never change."""

import random
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest

from tests.adapter_suites.memory_store import MemoryCollection
from tests.unit.search.conftest import DIMENSION, FakeEmbedder, FakePreprocessor, bag_of_words
from twinline.clients.release import Release
from twinline.clients.store.protocol import CollectionInfo, Query, StoredPoint
from twinline.clients.store.vectors import DENSE, WORDS, VectorSpec, one_dense
from twinline.contract.canonical import sha256_hex
from twinline.contract.documents.ids import point_id
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.errors import DocumentError, TransientError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.sparse.analyzer import Analyzer
from twinline.contract.sparse.fusion import Candidate, Fusion, fuse
from twinline.contract.sparse.statistics import Statistics
from twinline.contract.sparse.weights import Words, score
from twinline.search.candidates import Sides, rank_candidates
from twinline.search.query import answer_from
from twinline.search.releases import Served
from twinline.search.results import Mode, Question, SearchResult

TEXTS = {
    "cats": "cats sleep all day", "dogs": "dogs run all day", "fish": "fish swim in water", "code": "the part AB-1234 is blue",
    "near": "the part AB-1235 is blue", "sea": "water and water and fish", "night": "owls fly all night",
}  # fmt: skip


@dataclass
class Shuffled(MemoryCollection):
    """A store that gives equal scores in another order at every call, as the engines may."""

    numbers: random.Random = field(default_factory=lambda: random.Random(7))
    calls: list[Query] = field(default_factory=list)

    def query(self, query: Query) -> list[list[StoredPoint]]:
        self.calls.append(query)
        items = list(self.points.items())
        self.numbers.shuffle(items)
        self.points = dict(items)
        return super().query(query)


def words_of(*texts: str, weights: int = 1) -> Words:
    statistics = Statistics.count(Analyzer(1, "none").terms(text) for text in texts)
    return Words(SparseContract(1, "none", weights, 90, 40, "0" * 64), statistics)


def make_served(
    texts: dict[str, list[str]],
    fusion: Fusion | None = None,
    *,
    has_words: bool = True,
    vectors: dict[str, Any] | None = None,
    weights: int = 1,
) -> Served:
    info = CollectionInfo("r1", "space", "contract", "vector", "index", {
        **one_dense(DIMENSION), **({WORDS: VectorSpec("sparse", None, "dot")} if has_words else {})
    })  # fmt: skip
    words = words_of(*(text for chunks in texts.values() for text in chunks), weights=weights)
    collection = Shuffled("documents_r1", info)
    for key, chunks in texts.items():
        for index, text in enumerate(chunks):
            payload = {
                "kind": "chunk", "source": "s", "key": key, "version": 1, "version_kind": "explicit", "version_offset": 0,
                "chunk_index": index, "start": 0, "end": len(text), "text": text, "title": key, "metadata": {}, "tenant": None,
                "content_hash": sha256_hex(f"{key} {text}".encode()), "token_count": 3, "truncated": False, "space": "space",
                "release": "r1", "contract": "contract", "partition": 0, "offset": 1, "timestamp_ms": 1, "headers": {},
            }  # fmt: skip
            dense = (vectors or {}).get(text, bag_of_words(text))
            both = {DENSE: dense, **({WORDS: words.document(text)} if has_words else {})}
            collection.put_points([StoredPoint(point_id("s", key, index), payload, both)])
    release = Release(
        info, FakePreprocessor(), FakeEmbedder("space"), GoldenSet((), 0.0), words if has_words else None,  # type: ignore[arg-type]
        (fusion or Fusion()) if has_words else Fusion("dense"),
    )  # fmt: skip
    return Served(release, collection)


def ask(served: Served, query: str, mode: Mode = "hybrid", **fields: Any) -> SearchResult:
    return answer_from(served, Question(query, mode=mode, **fields), LOCAL_OPERATOR)


def keys(result: SearchResult) -> list[str]:
    return [hit.key for hit in result.hits]


@pytest.fixture
def served() -> Served:
    return make_served({key: [text] for key, text in TEXTS.items()})


def test_a_code_is_first_by_words_and_in_both(served: Served) -> None:
    assert keys(ask(served, "AB-1234", "words"))[0] == "code"
    hit = ask(served, "AB-1234").hits[0]
    assert hit.key == "code"
    assert hit.words is not None
    assert hit.words.rank == 1


@pytest.mark.parametrize("query", ["AB-1234", "what does it mean that the light says AB-1234 all day long"])
@pytest.mark.parametrize("fusion", [Fusion(), Fusion("scores", dense_percent=70), Fusion("ranks"), Fusion("ranks", k=0)])
def test_the_one_chunk_with_a_rare_code_is_first_though_its_vector_is_the_farthest(query: str, fusion: Fusion) -> None:
    texts = {f"near{number}": [f"it does mean that the light is on, day {'x' * number}"] for number in range(30)}
    texts["code"] = ["replace part AB-1234"]
    asked = bag_of_words(query)
    vectors = {chunks[0]: (-asked if key == "code" else asked) for key, chunks in texts.items()}
    new = make_served(texts, fusion, vectors=vectors, weights=2)
    assert keys(ask(new, query))[0] == keys(ask(new, query, "words"))[0] == "code"
    assert keys(ask(new, "what does it mean"))[0] != "code"
    old = make_served(texts, replace(fusion, version=1), vectors=vectors)
    assert keys(ask(old, query))[0] != "code", "which is why there is a version 2"


def test_a_hit_says_both_ranks_and_scores(served: Served) -> None:
    result = ask(served, "fish in water", limit=7)
    assert (result.mode, result.note) == ("hybrid", "")
    query = bag_of_words("fish in water")
    words = served.words
    assert words is not None
    asked = words.query("fish in water")
    assert sorted(hit.dense.rank for hit in result.hits if hit.dense and hit.dense.rank) == list(range(1, 8))
    for hit in result.hits:
        assert hit.dense is not None
        assert hit.dense.score == pytest.approx(float(query @ bag_of_words(TEXTS[hit.key])), abs=1e-6)
        shared = score(asked, words.document(TEXTS[hit.key]))
        assert (hit.words.score if hit.words else 0) == shared
        assert (hit.words is None) == (shared == 0)
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= one <= 1 for one in scores)


@pytest.mark.parametrize("fusion", [Fusion(), Fusion("ranks"), Fusion("scores", dense_percent=20), Fusion("ranks", k=1)])
@pytest.mark.parametrize("query", ["fish in water", "AB-1234", "all day", "the blue owls", "cats", "zebra"])
def test_the_order_is_that_of_the_contracts_fusion_over_all_chunks(fusion: Fusion, query: str) -> None:
    served = make_served({key: [text] for key, text in TEXTS.items()}, fusion)
    words = served.words
    assert words is not None
    asked, hits = words.query(query), ask(served, query, limit=7).hits
    shared = {hit.key: float(score(asked, words.document(TEXTS[hit.key]))) for hit in hits}
    candidates = [Candidate(hit.point, hit.dense.score, shared[hit.key]) for hit in hits if hit.dense]
    assert len(candidates) == len(TEXTS)
    ranked = fuse(fusion if asked.ids else Fusion("dense"), candidates)
    assert [(hit.point, hit.score) for hit in hits] == [(one.candidate.id, one.fused) for one in ranked]


def test_a_chunk_that_one_side_alone_lists_has_the_others_score() -> None:
    """Each side lists two of many: whoever is third there is not worth nothing."""
    served = make_served({key: [text] for key, text in TEXTS.items()}, Fusion(depth=2))
    for hit in ask(served, "water all day", limit=3).hits:
        assert hit.dense is not None
        assert hit.dense.score > 0
        words = served.words
        assert words is not None
        shared = score(words.query("water all day"), words.document(TEXTS[hit.key]))
        assert (hit.words.score if hit.words else 0) == shared
    collection = served.collection
    assert isinstance(collection, Shuffled)
    assert all(not call.with_payload for call in collection.calls), "payloads are read of the best alone"
    assert any(call.among for call in collection.calls)


def test_modes(served: Served) -> None:
    dense, words, hybrid = (ask(served, "fish in water", mode) for mode in ("dense", "words", "hybrid"))  # type: ignore[arg-type]
    assert [result.mode for result in (dense, words, hybrid)] == ["dense", "words", "hybrid"]
    assert all(hit.words is None and hit.dense and hit.score == hit.dense.score for hit in dense.hits)
    assert all(hit.dense is None and hit.words and hit.score == hit.words.score for hit in words.hits)
    assert keys(words) == ["fish", "sea"], "nothing without a word of the question"
    assert len(dense.hits) == len(hybrid.hits) == len(TEXTS)


def test_words_alone_ask_no_encoder(served: Served) -> None:
    ask(served, "fish", "words")
    embedder: Any = served.embedder
    assert embedder.texts == []


def test_a_question_without_a_term_is_answered_by_its_vector(served: Served) -> None:
    assert ask(served, "?!", "words").hits == []
    result = ask(served, "?!")
    assert len(result.hits) == len(TEXTS)
    assert all(hit.words is None for hit in result.hits)


@pytest.mark.parametrize("fusion", [Fusion(), Fusion("dense")])
def test_where_the_encoder_is_away_words_answer_alone_and_it_is_said(fusion: Fusion) -> None:
    served = make_served({key: [text] for key, text in TEXTS.items()}, fusion)
    embedder: Any = served.embedder
    embedder.failure = TransientError("Triton does not answer")
    result = ask(served, "fish in water")
    assert (result.mode, keys(result)) == ("words", ["fish", "sea"])
    assert "the encoder is away, so words alone were searched: Triton does not answer" in result.note
    assert ask(served, "fish", "words").note == ""
    with pytest.raises(TransientError, match="Triton does not answer"):
        ask(served, "fish in water", "dense")


def test_a_release_without_words_is_served_as_it_is() -> None:
    served = make_served({key: [text] for key, text in TEXTS.items()}, has_words=False)
    for mode in ("hybrid", "dense"):
        result = ask(served, "fish in water", mode)  # type: ignore[arg-type]
        assert (result.mode, result.hits[0].key) == ("dense", "fish")
        assert result.hits[0].dense is not None
        assert result.hits[0].score == result.hits[0].dense.score
    with pytest.raises(DocumentError, match="made without words: ask with mode `dense`"):
        ask(served, "fish", "words")
    embedder: Any = served.embedder
    embedder.failure = TransientError("Triton does not answer")
    with pytest.raises(TransientError):
        ask(served, "fish in water")


def test_a_release_whose_gate_chose_vectors_alone_answers_by_them_and_by_words_when_asked() -> None:
    served = make_served({key: [text] for key, text in TEXTS.items()}, Fusion("dense"))
    assert ask(served, "AB-1234").mode == "dense"
    assert keys(ask(served, "AB-1234", "words"))[0] == "code"


# --- ties ---


def tied(fusion: Fusion, count: int = 40) -> Served:
    """Many documents that say the same, in a store that shuffles them."""
    texts = {f"k{number:03}": ["the same for all"] for number in range(count)}
    return make_served({**texts, "other": ["the other one"]}, fusion)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "words"])
@pytest.mark.parametrize("fusion", [Fusion(), Fusion("ranks"), Fusion("dense"), Fusion(depth=5), Fusion("ranks", depth=3)])
def test_ties_never_change_between_100_calls(fusion: Fusion, mode: Mode) -> None:
    served = tied(fusion)
    first = ask(served, "the same", mode)
    found = {tuple((hit.key, hit.score, hit.dense, hit.words) for hit in ask(served, "the same", mode).hits) for _ in range(100)}
    assert found == {tuple((hit.key, hit.score, hit.dense, hit.words) for hit in first.hits)}
    assert len(first.hits) == 10
    assert [hit.point for hit in first.hits] == sorted(hit.point for hit in first.hits), "the stated order: by id"


@pytest.mark.parametrize("depth", [1, 2, 7, 39, 40])
def test_a_list_that_is_cut_inside_a_tie_has_the_first_by_id(depth: int) -> None:
    served = tied(Fusion())
    query, words = bag_of_words("the same"), served.words
    assert words is not None
    expected = sorted(point_id("s", f"k{number:03}", 0) for number in range(40))[:depth]
    for sides in (Sides(query, None), Sides(None, words.query("same")), Sides(query, words.query("same"))):
        ranked, more = rank_candidates(served.collection, sides, Fusion(), depth, None, exact=False)
        assert [one.candidate.id for one in ranked][:depth] == expected[: len(ranked)]
        assert more is (depth < (40 if sides.dense is None else 41))


@pytest.mark.parametrize("mode", ["hybrid", "dense", "words"])
def test_a_longer_answer_begins_with_the_shorter_one(mode: Mode) -> None:
    texts = {f"k{number:02}": [f"fish {'water ' * (number % 7)}{chunk}" for chunk in range(5)] for number in range(12)}
    served = make_served(texts, Fusion(depth=4))
    whole = keys(ask(served, "fish water", mode, limit=12))
    assert sorted(whole) == sorted(texts)
    for limit in range(1, 12):
        assert keys(ask(served, "fish water", mode, limit=limit)) == whole[:limit]


def test_one_document_may_own_all_candidates() -> None:
    served = make_served({"long": [f"fish water {number}" for number in range(60)], "short": ["fish"]}, Fusion(depth=3))
    assert keys(ask(served, "fish water", limit=2)) == ["long", "short"]


def test_a_chunk_that_is_removed_between_two_reads_is_left_out(served: Served) -> None:
    collection: Any = served.collection
    read = collection.read_points
    gone: list[UUID] = [point_id("s", "fish", 0)]
    collection.read_points = lambda ids, with_vectors=False: {
        id_: point for id_, point in read(ids, with_vectors).items() if id_ not in gone
    }
    assert "fish" not in keys(ask(served, "fish in water", limit=7))


def test_a_filter_holds_for_both_sides(served: Served) -> None:
    collection: Any = served.collection
    other = collection.points[point_id("s", "sea", 0)]
    collection.points[other.id] = StoredPoint(other.id, {**other.payload, "tenant": "acme"}, other.vectors)
    for mode in ("hybrid", "dense", "words"):
        assert keys(ask(served, "fish in water", mode, tenant="acme")) == ["sea"]  # type: ignore[arg-type]
