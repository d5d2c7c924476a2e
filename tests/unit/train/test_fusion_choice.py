"""The choice of a fusion: by one half of the questions, checked on the other; vectors alone are a legal verdict."""

import json
from typing import Any

import numpy as np
import pytest

from tests.unit.train.factories import evaluate_params
from train.encoder.fusion_choice import CANDIDATES, Choice, _is_in_first_half, choose_fusion
from train.encoder.gate import GATE_METRIC
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.sparse.analyzer import Analyzer
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.statistics import Statistics
from twinline.contract.sparse.weights import Words
from twinline.scoring.hybrid import Chunks, Queries, WordIndex
from twinline.scoring.ranking import rank_by_vectors
from twinline.scoring.retrieval import Judgements, score_queries


def chosen(good_vectors: str, good_words: str, queries: int = 60, *, second_unknown: bool = False, **params: Any) -> Choice:
    """Choose over documents of one rare word each; vectors or words find `all`, none or `wrong` ones."""
    ids = [json.dumps(["s", f"d{number}"]) for number in range(queries)]
    texts = [f"word{number} common" for number in range(queries)]
    numbers = np.random.default_rng(3)
    vectors = numbers.standard_normal((queries, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = {"all": vectors, "none": numbers.standard_normal((queries, 16)).astype(np.float32)}[good_vectors]
    asked = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    statistics = Statistics.count([Analyzer(1, "none").terms(text) for text in texts])
    words = Words(SparseContract(1, "none", 1, 90, 40, "0" * 64), statistics)
    said = {"all": texts, "none": ["unknown"] * queries, "wrong": [*texts[1:], texts[0]]}[good_words]
    if second_unknown:
        said = [text if _is_in_first_half(f"q{number}") else "unknown" for number, text in enumerate(said)]
    side = Queries([f"q{number}" for number in range(queries)], asked, said)
    chunks = Chunks(ids, [1] * queries, vectors, WordIndex(words, texts))
    judgements: Judgements = {query: {document: 1} for query, document in zip(side.ids, ids, strict=True)}
    dense = score_queries(rank_by_vectors(side.ids, asked, ids, [1] * queries, vectors), judgements)[GATE_METRIC]
    return choose_fusion(side, chunks, dense, judgements, evaluate_params(**params))


def test_words_that_find_what_vectors_miss_are_fused() -> None:
    choice = chosen("none", "all")
    assert choice.fusion in CANDIDATES
    assert choice.check.passed
    halves: Any = choice.check.numbers
    assert halves["second_half"][choice.fusion.label] > halves["second_half"]["dense"]
    assert sum(halves["queries"]) == 60
    assert min(halves["queries"]) > 10
    assert halves["first_half"][choice.fusion.label] == max(halves["first_half"].values())
    assert choice.check.numbers["fusion"] == choice.fusion.to_json()


@pytest.mark.parametrize("words", ["none", "wrong"])
def test_words_that_gain_nothing_leave_vectors_alone(words: str) -> None:
    choice = chosen("all", words)
    assert choice.fusion == Fusion("dense")
    assert choice.check.passed, "a legal verdict"
    assert "vectors alone are served, words when asked for" in choice.check.detail
    assert choice.check.numbers["fusion"] == Fusion("dense").to_json()


def test_with_few_questions_the_stated_default_is_taken() -> None:
    for good_words in ("all", "wrong"):
        choice = chosen("none", good_words, queries=4)
        assert choice.fusion == Fusion()
        assert choice.check.passed
        assert "by default: 4 held-out queries, fewer than 5, are too few to choose by" in choice.check.detail


def test_the_choice_does_not_depend_on_the_second_half() -> None:
    """It is looked at once, after the choice."""
    as_asked, other = chosen("none", "all"), chosen("none", "all", second_unknown=True)
    assert as_asked.check.numbers["first_half"] == other.check.numbers["first_half"]
    assert (as_asked.fusion.rule, other.fusion) == ("scores", Fusion("dense")), "the check alone looks at the second half"


def test_the_default_is_the_first_that_is_tried() -> None:
    assert CANDIDATES[0] == Fusion()
    assert len({fusion.label for fusion in CANDIDATES}) == len(CANDIDATES)
    assert Fusion("dense") not in CANDIDATES
