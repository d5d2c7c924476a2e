"""The laws of fusion: order of input never matters, ties have a stated order, absence from a list that was cut is not zero."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinline.contract.errors import SettingsError
from twinline.contract.sparse.fusion import RULES, Candidate, Fusion, fuse, read_fusion, write_fusion

FUSIONS = [Fusion("dense"), Fusion("ranks"), Fusion("ranks", k=1), Fusion("scores"), Fusion("scores", dense_percent=10),
           Fusion("scores", dense_percent=0), Fusion("scores", dense_percent=100), Fusion("ranks", k=0)]  # fmt: skip
SCORES = st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0])
CANDIDATES = st.lists(st.tuples(SCORES, st.sampled_from([0.0, 1.0, 7.0, 512.0])), max_size=12).map(
    lambda pairs: [Candidate(number, cosine, words) for number, (cosine, words) in enumerate(pairs)]
)
CASE = [Candidate("a", 0.9, 0.0), Candidate("b", 0.5, 40.0), Candidate("c", 0.1, 100.0), Candidate("d", 0.5, 40.0)]


def ids(fusion: Fusion, candidates: list[Candidate[Any]]) -> list[Any]:
    return [one.candidate.id for one in fuse(fusion, candidates)]


@given(CANDIDATES, st.sampled_from(FUSIONS), st.integers(0, 1_000))
def test_the_order_of_the_input_never_matters(candidates: list[Candidate[int]], fusion: Fusion, seed: int) -> None:
    shuffled = candidates.copy()
    random.Random(seed).shuffle(shuffled)
    assert fuse(fusion, shuffled) == fuse(fusion, candidates)


@given(CANDIDATES, st.sampled_from(FUSIONS))
def test_every_candidate_comes_once_in_the_stated_order(candidates: list[Candidate[int]], fusion: Fusion) -> None:
    ranked = fuse(fusion, candidates)
    assert sorted(one.candidate.id for one in ranked) == [each.id for each in candidates]
    keys = [(-one.fused, -one.candidate.cosine, -one.candidate.words, one.candidate.id) for one in ranked]
    assert keys == sorted(keys)


@given(CANDIDATES, st.sampled_from(FUSIONS))
def test_ranks_by_either_side_are_from_one_and_whoever_shares_no_word_has_none(
    candidates: list[Candidate[int]], fusion: Fusion
) -> None:
    ranked = fuse(fusion, candidates)
    assert sorted(one.dense_rank or 0 for one in ranked) == list(range(1, len(candidates) + 1))
    sharing = [one for one in ranked if one.candidate.words > 0]
    assert sorted(one.words_rank or 0 for one in sharing) == list(range(1, len(sharing) + 1))
    assert all(one.words_rank is None for one in ranked if one.candidate.words == 0)


@given(CANDIDATES, st.sampled_from(FUSIONS))
def test_whoever_is_better_by_both_sides_is_never_behind(candidates: list[Candidate[int]], fusion: Fusion) -> None:
    places = {identity: place for place, identity in enumerate(ids(fusion, candidates))}
    for one in candidates:
        for other in candidates:
            if one.cosine > other.cosine and one.words > other.words:
                assert places[one.id] < places[other.id], fusion.label


def test_the_rule_dense_ranks_by_the_cosine_alone() -> None:
    assert ids(Fusion("dense"), CASE) == ["a", "b", "d", "c"]
    assert [one.fused for one in fuse(Fusion("dense"), CASE)] == [0.9, 0.5, 0.5, 0.1]


def test_the_rule_ranks_adds_reciprocal_ranks() -> None:
    found = {one.candidate.id: one.fused for one in fuse(Fusion("ranks", k=60), CASE)}
    assert found == {
        # no word shared: the rank after the last of those that do, not nothing
        "a": 1 / 61 + 1 / 64,
        "b": 1 / 62 + 1 / 62,
        "d": 1 / 63 + 1 / 63,
        "c": 1 / 64 + 1 / 61,
    }
    # a and c have the same sum: the higher cosine first
    assert ids(Fusion("ranks", k=60), CASE) == ["b", "a", "c", "d"]


@pytest.mark.parametrize("percent", [0, 10, 50, 90, 100])
def test_the_rule_scores_adds_shares_from_the_least_to_the_greatest(percent: int) -> None:
    found = {one.candidate.id: one.fused for one in fuse(Fusion("scores", dense_percent=percent), CASE)}
    dense, words = percent / 100, 1 - percent / 100
    expected = {"a": dense, "b": dense * 0.5 + words * 0.4, "c": words, "d": dense * 0.5 + words * 0.4}
    assert found == pytest.approx(expected)


def test_ties_are_broken_by_the_score_then_the_cosine_then_the_words_then_the_id() -> None:
    half = Fusion("scores", dense_percent=50)
    assert ids(half, [Candidate("z", 1.0, 0.0), Candidate("a", 0.0, 9.0)]) == ["z", "a"], "the higher cosine"
    assert ids(Fusion("dense"), [Candidate("z", 0.5, 9.0), Candidate("a", 0.5, 1.0)]) == ["z", "a"], "more words"
    assert ids(half, [Candidate("z", 0.5, 1.0), Candidate("a", 0.5, 1.0), Candidate("m", 0.5, 1.0)]) == ["a", "m", "z"]


def test_a_candidate_of_one_side_alone_is_not_worth_zero_there() -> None:
    """Its score there was asked for: a list that was cut says nothing about it."""
    # "both" is in the middle of both lists; "dense" is first by its vector, with the words that it has
    both, dense, last = Candidate("both", 0.6, 60.0), Candidate("dense", 0.9, 55.0), Candidate("last", 0.1, 100.0)
    assert ids(Fusion("scores"), [both, dense, last])[0] == "dense"
    assert ids(Fusion("scores"), [both, replace(dense, words=0.0), last])[0] == "both", "with nothing there it would come later"


def test_equal_scores_on_one_side_leave_the_order_to_the_other() -> None:
    for percent in (1, 50, 99):
        alike = [Candidate("a", 0.5, 1.0), Candidate("b", 0.5, 3.0), Candidate("c", 0.5, 2.0)]
        assert ids(Fusion("scores", dense_percent=percent), alike) == ["b", "c", "a"]


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: fusion.label)
def test_none_and_one_candidate_are_ranked_too(fusion: Fusion) -> None:
    assert fuse(fusion, []) == []
    [only] = fuse(fusion, [Candidate("a", 0.3, 0.0)])
    assert (only.dense_rank, only.words_rank) == (1, None)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rule": "magic"}, "rule is 'magic': must be one of dense, ranks, scores"),
        ({"version": 3}, r"version is 3, this code knows \[1, 2\]"),
        ({"depth": 0}, "depth is 0: must be a whole number from 1 to 1000"),
        ({"depth": 1_001}, "depth is 1001"),
        ({"k": -1}, "k is -1"),
        ({"k": 60.0}, "k is 60.0"),
        ({"k": True}, "k is True"),
        ({"dense_percent": 101}, "dense_percent is 101"),
        ({"dense_percent": "50"}, "dense_percent is '50'"),
    ],
)
def test_a_fusion_that_this_code_cannot_honour_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Fusion(**fields)


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: fusion.label)
def test_a_fusion_survives_its_file(fusion: Fusion, tmp_path: Path) -> None:
    write_fusion(tmp_path / "models" / "fusion.json", fusion)
    assert read_fusion(tmp_path / "models" / "fusion.json") == fusion
    assert Fusion.from_json(json.loads(json.dumps(fusion.to_json()))) == fusion


@pytest.mark.parametrize("content", ["", "[]", '"scores"', '{"rule": "scores", "weight": 3}', '{"rule": "magic"}', "3"])
def test_a_file_that_holds_no_fusion_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist: run the evaluation first"):
        read_fusion(tmp_path / "fusion.json")
    (tmp_path / "fusion.json").write_text(content)
    with pytest.raises(SettingsError, match=r"fusion\.json holds no fusion: "):
        read_fusion(tmp_path / "fusion.json")


def test_every_rule_has_a_label_with_its_numbers() -> None:
    assert [Fusion(rule).label for rule in RULES] == ["dense", "ranks k=60", "scores dense=50%"]
