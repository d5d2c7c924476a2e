"""The gate's conditions, as functions of numbers: each can say no, and says with what."""

import numpy as np
import pytest

from tests.unit.train.factories import evaluate_params
from train.encoder.gate import Reference, judge_base, judge_champion, judge_exact_names, judge_questions, judge_slices
from train.encoder.heldout import Corpus, HeldOut
from train.encoder.params import EvaluateParams
from train.encoder.slices import query_slices
from twinline.clients.params import load_params
from twinline.contract.errors import SettingsError
from twinline.contract.sparse.fusion import Fusion
from twinline.scoring.exact_names import FORMS, Planted, PlantedQuery
from twinline.scoring.intervals import paired_bootstrap
from twinline.scoring.retrieval import Run

QUERIES = [f"q{number}" for number in range(60)]
BASE = Reference("the base model", dict.fromkeys(QUERIES, 0.5))


def shifted(mean: float, spread: float) -> dict[str, float]:
    """Return scores whose difference to BASE has this mean, every other query above it and below it."""
    return {query: 0.5 + mean + spread * (1 if number % 2 else -1) for number, query in enumerate(QUERIES)}


@pytest.mark.parametrize(
    ("mean", "spread", "passes"),
    [
        (0.03, 0.01, True),  # better
        (-0.01, 0.01, True),  # worse, by less than the margin whatever is drawn
        (0.0, 0.4, False),  # equal in the mean, but 60 queries cannot say so
        (-0.021, 0.0, False),  # worse by more than the margin
        (-0.3, 0.1, False),  # worse
    ],
)
def test_what_may_be_worse_by_the_margin_is_refused(mean: float, spread: float, passes: bool) -> None:
    tuned = shifted(mean, spread)
    params = evaluate_params(margin=0.02)
    check = judge_base(tuned, [BASE], params)
    assert check.passed is judge_champion(tuned, Reference("the champion r1", BASE.scores), params).passed is passes
    (compared,) = check.numbers["comparisons"]
    assert compared["difference"]["mean"] == pytest.approx(mean)
    assert f"{compared['difference']['low']:+.4f}" in check.detail


def test_an_encoder_that_equals_its_reference_passes_a_margin_of_zero() -> None:
    assert judge_base(dict(BASE.scores), [BASE], evaluate_params(margin=0.0)).passed


def test_one_of_several_references_is_enough_to_refuse() -> None:
    better = Reference("the base model under this encoder's contract", dict.fromkeys(QUERIES, 0.9))
    assert not judge_base(shifted(0.1, 0.0), [BASE, better], evaluate_params()).passed


def test_without_a_champion_the_verdict_says_that_there_was_none() -> None:
    check = judge_champion(shifted(-0.4, 0.0), None, evaluate_params())
    assert check.passed
    assert "no release is in production" in check.detail


def test_a_slice_that_pays_for_a_better_mean_is_refused_and_named() -> None:
    scores = dict.fromkeys(QUERIES, 0.9) | dict.fromkeys(QUERIES[:10], 0.2)
    params = evaluate_params(slice_margin=0.1, slice_min_queries=5)
    assert judge_base(scores, [BASE], params).passed
    check = judge_slices(scores, [BASE], {"losers": QUERIES[:10], "winners": QUERIES[10:]}, params)
    assert not check.passed
    assert "losers (10), against the base model" in check.detail
    assert [(row["slice"], row["passed"]) for row in check.numbers["slices"]] == [("losers", False), ("winners", True)]


def test_a_slice_of_too_few_queries_is_reported_and_does_not_decide() -> None:
    scores = dict.fromkeys(QUERIES, 0.9) | dict.fromkeys(QUERIES[:4], 0.2)
    slices = {"few": QUERIES[:4], "many": QUERIES[4:]}
    check = judge_slices(scores, [BASE], slices, evaluate_params(slice_min_queries=5))
    assert check.passed
    assert "too few to judge: few (4)" in check.detail
    assert check.numbers["too_few_to_judge"] == {"few": 4}
    assert not judge_slices(scores, [BASE], slices, evaluate_params(slice_min_queries=4)).passed


def test_queries_are_sliced_by_length_answer_source_and_bm25_and_by_nothing_that_an_encoder_decides() -> None:
    part = HeldOut(
        "dev",
        ["a", "b", "c"],
        ["one", "one two three", "köln hat einen dom"],
        {"a": {'["s","1"]': 1}, "b": {'["s","2"]': 2, '["t","3"]': 1}, "c": {'["t","3"]': 1}},
        3,
    )
    corpus = Corpus(['["s","1"]', '["s","2"]', '["t","3"]'], ["w", "w w w w", "w w"], [], [], 3, {})
    assert query_slices(part, corpus, {"a": 1.0, "b": 0.0, "c": 0.3}) == {
        "queries of at most 3 words": ["a", "b"],
        "queries of more than 3 words": ["c"],
        "queries answered by documents of at most 2 words": ["a", "c"],
        "queries answered by documents of more than 2 words": ["b"],
        "queries that BM25 answers": ["a", "c"],
        "queries that BM25 misses": ["b"],
        "queries with letters beyond ASCII": ["c"],
        "queries answered by source s": ["a", "b"],
        "queries answered by source t": ["c"],
    }


@pytest.mark.parametrize("values", [{"margin": -0.1}, {"slice_margin": -0.1}, {"slice_min_queries": 1}])
def test_a_limit_that_makes_no_sense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="evaluate"):
        evaluate_params(**values)


@pytest.mark.parametrize(("queries", "passes"), [(1, False), (3, False), (29, False), (30, True), (120, True)])
def test_fewer_questions_than_the_stated_number_are_too_few(queries: int, passes: bool) -> None:
    check = judge_questions(queries, 200, evaluate_params(min_queries=30))
    assert check.passed is passes
    assert check.numbers == {"queries": queries, "queries_in_split": 200, "min_queries": 30}


def seen(queries: int, effect: float) -> float:
    """Return how often an interval excludes zero: a third of the questions changes, by 0.25 at a time."""
    draw = np.random.default_rng(0)
    names = [str(number) for number in range(queries)]
    found = 0
    for _ in range(200):
        change = np.where(draw.random(queries) < 0.35, draw.normal(0, 0.25, queries), 0) + effect
        tuned = dict(zip(names, change.tolist(), strict=True))
        found += paired_bootstrap(tuned, dict.fromkeys(names, 0.0), samples=500).low > 0
    return found / 200


def test_the_stated_number_is_the_smallest_at_which_an_effect_is_seen() -> None:
    least = load_params("encoder.evaluate", EvaluateParams).min_queries
    assert seen(least, 0.08) >= 0.8 > seen(least // 2, 0.08)


def test_a_sample_that_could_never_be_enough_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"max_queries = 8 is below .*min_queries = 30"):
        evaluate_params(max_queries=8, min_queries=30)


# --- names and codes ---

PLANTED = Planted([PlantedQuery(str(n), f"E{n:04}", FORMS[n % 2], frozenset({f"d{n}"})) for n in range(200)], 312)


def found(bare: int, in_a_sentence: int) -> Run:
    """Return a run that misses the first so many queries of either form."""
    missed = {*range(0, 2 * bare, 2), *range(1, 2 * in_a_sentence, 2)}
    return {str(n): {"other" if n in missed else f"d{n}": 2.0, "next": 1.0} for n in range(200)}


def runs(bare: int, in_a_sentence: int) -> dict[str, Run]:
    return {"hybrid": found(bare, in_a_sentence), "dense": found(100, 100), "words": found(0, 0)}


@pytest.mark.parametrize(
    ("bare", "in_a_sentence", "passes"),
    [(0, 0, True), (1, 5, True), (2, 0, False), (0, 6, False), (1, 6, False), (100, 100, False)],
)
def test_names_and_codes_that_are_not_found_first_are_refused(bare: int, in_a_sentence: int, passes: bool) -> None:
    check = judge_exact_names(PLANTED, runs(bare, in_a_sentence), Fusion(), evaluate_params())
    assert check.passed is passes
    assert (
        f"200 planted queries, right answer first: {100 - bare}.0% bare, {100 - in_a_sentence}.0% in a sentence" in check.detail
    )
    assert ("wanted 99.0% bare, 95.0% in a sentence" in check.detail) is not passes
    assert check.numbers["first"]["hybrid"] == {"bare": 1 - bare / 100, "in a sentence": 1 - in_a_sentence / 100}
    assert len(check.numbers["missed"]) == min(10, bare + in_a_sentence)
    if not passes:
        assert repr(check.numbers["missed"][0]) in check.detail


def test_the_thresholds_are_parameters() -> None:
    params = evaluate_params(exact_names_bare=0.5, exact_names_in_sentence=0.0)
    assert judge_exact_names(PLANTED, runs(50, 100), Fusion(), params).passed
    assert not judge_exact_names(PLANTED, runs(51, 100), Fusion(), params).passed


def test_vectors_alone_are_a_legal_choice_and_what_words_would_find_is_said() -> None:
    check = judge_exact_names(PLANTED, runs(3, 7), Fusion("dense"), evaluate_params())
    assert check.passed
    assert "vectors alone are served" in check.detail
    assert "97.0% bare, 93.0% in a sentence by scores dense=50%, 0.0% bare, 0.0% in a sentence by vectors" in check.detail


def test_a_corpus_of_few_names_is_not_judged() -> None:
    check = judge_exact_names(Planted((), 12), {}, Fusion(), evaluate_params())
    assert check.passed
    assert "12 names or codes are one document's alone, fewer than 100: too few to judge" in check.detail
    assert (check.numbers["names"], check.numbers["queries"]) == (12, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"exact_names_min": 1},
        {"exact_names_min": 201},
        {"exact_names": 99},
        {"exact_names_bare": 1.01},
        {"exact_names_in_sentence": -0.1},
    ],
)
def test_limits_for_names_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=rf"encoder\.evaluate\.exact_names.* = {next(iter(wrong.values()))}"):
        evaluate_params(**wrong)
