"""Vectors of recent queries."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.unit.search.conftest import FakeEmbedder, World
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.errors import MismatchError, TransientError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.search.query import answer, answer_from
from twinline.search.query_cache import RememberedQueries
from twinline.search.results import Question


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Memory:
    seconds: float = 60.0
    kept: int = 1_000
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.queries = RememberedQueries(self.seconds, self.kept, self.clock)


def test_a_question_asked_again_needs_no_encoder_and_has_the_same_vector() -> None:
    memory, embedder = Memory().queries, FakeEmbedder("a")
    first, again = memory.embed(embedder, "cats"), memory.embed(embedder, "cats")
    assert embedder.texts == ["cats"]
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert memory.hits == 1


def test_another_space_is_another_vector() -> None:
    memory, one, other = Memory().queries, FakeEmbedder("a"), FakeEmbedder("b")
    assert memory.embed(one, "cats").space == "a"
    assert memory.embed(other, "cats").space == "b"
    assert (one.texts, other.texts) == (["cats"], ["cats"])


def test_texts_that_differ_in_case_are_different_questions() -> None:
    memory, embedder = Memory().queries, FakeEmbedder("a")
    memory.embed(embedder, "cats")
    memory.embed(embedder, "Cats")
    assert embedder.texts == ["cats", "Cats"]


def test_after_its_time_a_vector_is_forgotten() -> None:
    memory, embedder = Memory(seconds=60), FakeEmbedder("a")
    memory.queries.embed(embedder, "cats")
    memory.clock.now = 60.0
    memory.queries.embed(embedder, "cats")
    assert embedder.texts == ["cats", "cats"]


def test_nothing_is_remembered_when_that_is_turned_off() -> None:
    memory, embedder = Memory(seconds=0).queries, FakeEmbedder("a")
    memory.embed(embedder, "cats")
    memory.embed(embedder, "cats")
    assert embedder.texts == ["cats", "cats"]


def test_the_question_that_was_not_asked_for_the_longest_goes_first() -> None:
    memory, embedder = Memory(kept=2).queries, FakeEmbedder("a")
    for text in ("one", "two", "one", "three", "one", "two"):
        memory.embed(embedder, text)
    assert embedder.texts == ["one", "two", "three", "two"]


def test_a_failure_is_not_remembered() -> None:
    memory, embedder = Memory().queries, FakeEmbedder("a")
    embedder.failure = TransientError("away")
    with pytest.raises(TransientError):
        memory.embed(embedder, "cats")
    embedder.failure = None
    assert memory.embed(embedder, "cats").space == "a"


def test_a_remembered_vector_cannot_be_changed_by_who_reads_it() -> None:
    found = Memory().queries.embed(FakeEmbedder("a"), "cats")
    with pytest.raises(ValueError, match="read-only"):
        found.vectors[0, 0] = 2.0


class Liar(FakeEmbedder):
    """Answers from another space than it says."""

    def embed(self, texts: list[str], role: str) -> Embeddings:  # type: ignore[override]
        found = super().embed(texts, role)
        return Embeddings(found.vectors, found.token_counts, found.truncated, "elsewhere")


def test_a_vector_of_the_wrong_space_is_refused_each_time_and_never_remembered(world: World) -> None:
    served = world.release("a")
    liar = Liar(served.info.space)
    object.__setattr__(served.release, "embedder", liar)
    object.__setattr__(served, "remembered", Memory().queries)
    world.store.active_name = served.collection.name
    for _ in range(2):
        with pytest.raises(MismatchError):
            answer(world.releases, Question("cats"), LOCAL_OPERATOR)
    assert liar.texts == ["cats", "cats"]


def test_a_trial_always_asks_the_encoder(world: World) -> None:
    """What looks for skew must see what the encoder says now."""
    served = world.release("a")
    object.__setattr__(served, "remembered", Memory().queries)
    world.store.active_name = served.collection.name
    answer(world.releases, Question("cats"), LOCAL_OPERATOR)
    answer(world.releases, Question("cats"), LOCAL_OPERATOR)
    assert served.embedder.texts == ["cats"]  # type: ignore[attr-defined]
    answer_from(served, Question("cats"), LOCAL_OPERATOR)
    assert served.embedder.texts == ["cats", "cats"]  # type: ignore[attr-defined]
