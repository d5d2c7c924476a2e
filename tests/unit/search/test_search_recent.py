"""Recent queries leave numbers behind, and nothing that they could be read from."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.unit.search.conftest import DIMENSION, World, bag_of_words
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.tokens import Encoded
from twinline.contract.monitor.drift_reference import DriftReference
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.search.query import answer_from
from twinline.search.recent import RecentQueries
from twinline.search.results import Question

REFERENCE = DriftReference({}, bag_of_words("lease")[None, :], ["a"], "space-r1")


def encode(texts: list[str], role: str) -> Encoded:
    ids = [[1 if word == "strange" else 2 for word in text.split()] for text in texts]
    return Encoded(ids, np.array([len(row) for row in ids], np.int32), np.zeros(len(ids), np.bool_))


PREPROCESSOR: Any = SimpleNamespace(
    encode=encode, tokenizer_json=b'{"model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 1}}}'
)


def embeddings(text: str) -> Embeddings:
    return Embeddings(bag_of_words(text)[None, :], np.array([7], np.int32), np.array([True]), "space-r1")


def test_a_query_leaves_its_features_and_only_the_latest_stay() -> None:
    recent = RecentQueries(PREPROCESSOR, REFERENCE, kept=2)
    for text in ("court", "lease", "strange lease"):
        recent.add(text, embeddings(text))
    found = recent.features()
    assert found.count == found.independent == 2
    assert found.token_count.tolist() == [7, 7]
    assert found.truncated.tolist() == [1, 1]
    assert found.similarity[0] == pytest.approx(1)
    assert found.unknown_share is not None
    assert found.unknown_share.tolist() == [0, 0.5]


def test_neither_text_nor_vector_of_a_query_is_kept() -> None:
    recent = RecentQueries(PREPROCESSOR, REFERENCE)
    recent.add("a secret", embeddings("a secret"))
    kept = vars(recent)["_seen"][0]
    assert all(isinstance(getattr(kept, name), float) for name in type(kept).__slots__)


def test_answers_are_counted_and_trials_are_not() -> None:
    world = World()
    served = world.release("r1")
    assert REFERENCE.vectors.shape[1] == DIMENSION
    watched = replace(served, recent=RecentQueries(PREPROCESSOR, REFERENCE))
    world.releases.add(watched)
    world.add("r1", "a", "a lease")
    world.store.active_name = "documents_r1"
    answer_from(watched, Question("lease"), LOCAL_OPERATOR)
    assert watched.recent is not None
    assert watched.recent.features().count == 0
    world.search("lease")
    assert watched.recent.features().count == 1
