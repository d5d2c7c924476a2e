"""The cost of words is a difference within pairs and rounds, and each figure is judged by its target."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import httpx
import pytest

from bench import words_cost
from bench.query import question
from bench.rounds import Work
from bench.stream import NAME, WITHOUT_WORDS, StreamingPath
from bench.synthetic import fill, made_up_info, mixed_words
from bench.system import Served
from bench.words_cost import ask_by_mode, disk_cost, rate_cost, search_cost
from bench.workspace import Workspace
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.vectors import WORDS, VectorSpec
from twinline.contract.errors import TransientError
from twinline.contract.sparse.vector import Sparse

FIELDS = {"cost", "without_words", "with_words", "compared", "target", "met"}
TERMS = 3_000


def real(seed: int, chunks: int = 60) -> list[Sparse]:
    numbers = random.Random(seed)
    found = []
    for _ in range(chunks):
        ids = sorted({1, *(int(TERMS * numbers.random() ** 3) + 2 for _ in range(90))})
        found.append(Sparse(tuple(ids), tuple(numbers.randint(1, 255) for _ in ids)))
    return found


@pytest.mark.parametrize("seed", range(10))
def test_a_made_up_chunk_has_as_many_words_as_a_real_one_and_each_as_often(seed: int) -> None:
    words = real(seed)
    made = [mixed_words(words, number) for number in range(2_000)]
    assert made == [mixed_words(words, number) for number in range(2_000)]
    known = {identity: {one.weights[one.ids.index(identity)] for one in words if identity in one.ids} for identity in (1, 2, 3)}
    assert mean(len(one.ids) for one in made) == pytest.approx(mean(len(one.ids) for one in words), rel=0.1)
    # A word of every chunk is in three of four, as one of two chances each; a rarer one in its share.
    assert mean(1 in one.ids for one in made) == pytest.approx(0.75, abs=0.04)
    for identity, weights in known.items():
        share = mean(identity in one.ids for one in words)
        assert mean(identity in one.ids for one in made) == pytest.approx(1 - (1 - share / 2) ** 2, abs=0.05)
        assert {one.weights[one.ids.index(identity)] for one in made if identity in one.ids} <= weights


class Clock:
    """A clock that the questions move on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("added", "met"), [(0.0, True), (0.5, True), (1.999, True), (2.5, False), (30.0, False), (-1.0, True)])
def test_hybrid_adds_the_median_of_the_pairs_whatever_the_machine_does_meanwhile(added: float, met: bool) -> None:
    clock, numbers, asked = Clock(), random.Random(3), list[tuple[str, int]]()

    def ask(mode: str, number: int) -> None:
        asked.append((mode, number))
        # Every pair has a slowness of its own, and a few questions are slow by themselves.
        slow = random.Random(number // 2).uniform(5, 50) + (500 if numbers.random() < 0.1 else 0)
        clock.now += (slow + (added if mode == "hybrid" else 0.0)) / 1000

    row = search_cost(ask, 200, clock)
    assert set(row) == FIELDS
    assert row["compared"] == pytest.approx(added, abs=0.01)
    assert row["met"] is met
    assert len({number for _, number in asked}) == len(asked), "a vector may come from the cache"
    # Neither is always first.
    first = [mode for mode, _ in asked[::2]]
    assert first.count("dense") == first.count("hybrid")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (503, {}),
        (200, {"hits": [], "mode": "hybrid"}),
        (200, {"hits": [1], "mode": "words"}),
        (200, {"hits": [1], "mode": "dense"}),
    ],
)
def test_an_answer_by_another_mode_is_no_measurement(status: int, answer: dict[str, Any]) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=answer))
    with httpx.Client(base_url="http://search", transport=transport) as client, pytest.raises(TransientError, match="by hybrid"):
        ask_by_mode(client, question, 7)("hybrid", 0)


def test_questions_are_asked_from_the_first_one_on_by_their_mode() -> None:
    seen: list[bytes] = []

    def answered(request: httpx.Request) -> httpx.Response:
        seen.append(request.content)
        return httpx.Response(200, json={"hits": [1], "mode": "dense" if b'"dense"' in request.content else "hybrid"})

    with httpx.Client(base_url="http://search", transport=httpx.MockTransport(answered)) as client:
        ask = ask_by_mode(client, question, 7)
        ask("dense", 0)
        ask("hybrid", 1)
    assert [question(number).encode() in content for number, content in zip((7, 8), seen, strict=True)] == [True, True]


def info() -> Any:
    made = made_up_info()
    return replace(made, vectors={**made.vectors, WORDS: VectorSpec("sparse", None, "dot")})


def test_words_take_disk_and_the_share_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = disk_cost(tmp_path / "disk", info(), real(1), 400)
    assert set(row) == FIELDS
    assert row["with_words"] > row["without_words"] > 1_000
    assert row["compared"] == pytest.approx(row["with_words"] / row["without_words"] - 1, abs=0.01)
    assert not (tmp_path / "disk").exists()
    for disk, met in (([100.0, 140.0], True), ([100.0, 141.0], False), ([100.0, 100.0], True)):
        sizes: Iterator[float] = iter(disk)
        (tmp_path / "disk").mkdir(exist_ok=True)
        with monkeypatch.context() as other:
            other.setattr(words_cost, "build_index", lambda *_, sizes=sizes: (1.0, 1.0, next(sizes)))
            assert disk_cost(tmp_path / "disk", info(), real(1), 400)["met"] is met


def test_a_collection_with_words_is_filled_with_them(tmp_path: Path) -> None:
    words = real(2)
    collection = EdgeStore(tmp_path).create("documents_alone", info())
    fill(collection, info(), 0, 30, words)
    points, _ = collection.scroll({"kind": "chunk"}, limit=30, with_vectors=True)
    stored = {int(point.payload["key"]): point.vectors[WORDS] for point in points}
    collection.close()
    assert stored == {number: mixed_words(words, number) for number in range(30)}


@pytest.mark.parametrize(("rate", "met"), [(1.0, True), (0.93, True), (0.91, False), (1.1, True)])
def test_the_rates_are_compared_within_each_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, met: bool
) -> None:
    turns: list[str] = []

    def turn(path: StreamingPath) -> Work:
        # The machine becomes slower with every round.
        slow = 1 + len(turns) // 2
        turns.append(path.name)
        assert path.settings.topic == "documents-rate"
        return Work(10, slow / (rate if path.words else 1.0))

    published: list[Any] = []
    monkeypatch.setattr(StreamingPath, "turn", turn)
    monkeypatch.setattr(words_cost, "publish_all", lambda settings, documents: published.append((settings.topic, documents)))
    (tmp_path / "rate").mkdir()
    system = Served(Workspace(tmp_path, {}), Settings(home=tmp_path), "r1")
    documents: Any = ["one", "two"]
    row = rate_cost(system, documents, tmp_path / "rate", 5)
    assert set(row) == FIELDS | {"lowest", "highest"}
    assert row["compared"] == row["lowest"] == row["highest"] == pytest.approx(rate, abs=0.001)
    assert row["met"] is met
    assert published == [("documents-rate", documents)]
    assert (turns.count(NAME), turns.count(WITHOUT_WORDS)) == (5, 5)
    assert {turns[place] for place in range(0, 10, 2)} == {NAME, WITHOUT_WORDS}, "one of them is always first"
