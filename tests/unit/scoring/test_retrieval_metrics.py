"""Metrics against values worked out by hand, and the order that ties are broken in."""

import math

import numpy as np
import pytest

from twinline.scoring.intervals import paired_bootstrap
from twinline.scoring.ranking import best_documents, rank_by_bm25, rank_by_vectors
from twinline.scoring.retrieval import METRICS, means, score_queries, trec_order


def run_of(*documents: str) -> dict[str, float]:
    """Return scores that rank the documents in this order."""
    return {document: float(len(documents) - place) for place, document in enumerate(documents)}


@pytest.mark.parametrize(
    ("ranking", "grades", "ndcg", "reciprocal", "recall"),
    [
        # first place: everything is perfect
        (("a", "b", "c"), {"a": 1}, 1.0, 1.0, 1.0),
        # third place: 1 / log2(4), 1 / 3
        (("b", "c", "a"), {"a": 1}, 0.5, 1 / 3, 1.0),
        # two relevant ones at places 1 and 3: (1 + 1/2) / (1 + 1/log2(3))
        (("a", "x", "b"), {"a": 1, "b": 1}, 1.5 / (1 + 1 / math.log2(3)), 1.0, 1.0),
        # grades count linearly: (1 + 2/log2(3)) / (2 + 1/log2(3))
        (("b", "a"), {"a": 2, "b": 1}, (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)), 1.0, 1.0),
        # a judgement of 0 is not relevant
        (("b", "a"), {"a": 1, "b": 0}, 1 / math.log2(3), 0.5, 1.0),
        # half of the relevant ones found
        (("a", "x"), {"a": 1, "b": 1}, 1 / (1 + 1 / math.log2(3)), 1.0, 0.5),
        # eleventh place: beyond nDCG@10 and MRR@10, within recall@100
        ((*"bcdefghijk", "a"), {"a": 1}, 0.0, 0.0, 1.0),
        # hundred-and-first place
        ((*[f"x{n:03}" for n in range(100)], "a"), {"a": 1}, 0.0, 0.0, 0.0),
    ],
)
def test_metrics_have_the_values_that_one_works_out_by_hand(
    ranking: tuple[str, ...], grades: dict[str, int], ndcg: float, reciprocal: float, recall: float
) -> None:
    found = score_queries({"q": run_of(*ranking)}, {"q": grades})
    assert {metric: found[metric]["q"] for metric in METRICS} == pytest.approx(
        {"ndcg_at_10": ndcg, "mrr_at_10": reciprocal, "recall_at_100": recall}
    )


def test_a_judged_query_without_an_answer_counts_as_zero() -> None:
    found = score_queries({"q": run_of("a"), "r": {}}, {"q": {"a": 1}, "r": {"a": 1}, "s": {"b": 1}})
    assert means(found)["ndcg_at_10"] == pytest.approx(1 / 3)


def test_a_query_that_was_not_judged_does_not_count() -> None:
    assert set(score_queries({"q": run_of("a"), "other": run_of("a")}, {"q": {"a": 1}})["mrr_at_10"]) == {"q"}


def test_equal_scores_are_ordered_by_id_descending_as_trec_eval_does() -> None:
    scores = {"a": 1.0, "c": 1.0, "b": 1.0, "z": 0.5}
    assert trec_order(scores) == ["c", "b", "a", "z"]
    # trec_eval itself agrees: the relevant one is at place 3.
    assert score_queries({"q": scores}, {"q": {"a": 1}})["ndcg_at_10"]["q"] == pytest.approx(0.5)


def test_a_tie_at_the_cut_keeps_the_higher_id() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.5], dtype=np.float32)
    assert list(best_documents(["top", "a", "b", "c"], scores, limit=2)) == ["top", "c"]


def test_the_bootstrap_interval_holds_the_mean_and_is_the_same_each_time() -> None:
    generator = np.random.default_rng(3)
    base = {f"q{n}": float(value) for n, value in enumerate(generator.random(200))}
    tuned = {query: value + 0.1 for query, value in base.items()}
    shifted = paired_bootstrap(tuned, base, samples=2_000)
    assert shifted.low == pytest.approx(0.1)
    assert shifted.high == pytest.approx(0.1)
    noisy = {query: float(value) for query, value in zip(base, generator.random(200), strict=True)}
    first, second = paired_bootstrap(noisy, base, seed=5), paired_bootstrap(noisy, base, seed=5)
    assert first == second
    assert first.low < first.mean < first.high
    # Theory: two independent uniform variables differ with variance 1/6.
    assert (first.high - first.low) == pytest.approx(2 * 1.96 * math.sqrt(1 / 6 / 200), rel=0.15)


def test_the_bootstrap_refuses_queries_that_are_not_the_same() -> None:
    with pytest.raises(ValueError, match="not paired"):
        paired_bootstrap({"a": 1.0}, {"b": 1.0})


def test_a_document_is_ranked_by_its_best_chunk() -> None:
    chunks = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    run = rank_by_vectors(["q"], np.array([[0, 1]], dtype=np.float32), ["two chunks", "one chunk"], [2, 1], chunks)
    assert run["q"] == pytest.approx({"two chunks": 1.0, "one chunk": 0.8})
    assert list(run["q"]) == ["two chunks", "one chunk"]


def test_bm25_finds_the_document_with_the_rare_word_and_none_without_any() -> None:
    run = rank_by_bm25(["q", "none"], ["rare zebra", "xylophone"], ["a", "b"], ["common zebra words", "common other words"])
    assert list(run["q"]) == ["a"]
    assert run["none"] == {}
