"""The metrics in plain Python are those of trec_eval, on rankings that nobody chose."""

import math
import random

import pytest
import pytrec_eval

from twinline.scoring.first_ten import METRICS, score_first_ten


def trec_eval(ranking: list[str], grades: dict[str, int]) -> dict[str, float]:
    """Return the same metrics by pytrec_eval; its reciprocal rank has no cut-off, so the run ends after ten."""
    run = {document: float(len(ranking) - place) for place, document in enumerate(ranking)}
    if not run:
        return dict.fromkeys(METRICS, 0.0)
    first = dict(list(run.items())[:10])
    deep = pytrec_eval.RelevanceEvaluator({"q": grades}, {"ndcg_cut_10", "recall_10"}).evaluate({"q": run})["q"]
    shallow = pytrec_eval.RelevanceEvaluator({"q": grades}, {"recip_rank"}).evaluate({"q": first})["q"]
    return {"ndcg_at_10": deep["ndcg_cut_10"], "mrr_at_10": shallow["recip_rank"], "recall_at_10": deep["recall_10"]}


@pytest.mark.parametrize("seed", range(40))
def test_any_ranking_scores_as_trec_eval_scores_it(seed: int) -> None:
    chance = random.Random(seed)
    documents = [f"d{number}" for number in range(chance.randint(1, 40))]
    grades = {document: chance.randint(0, 3) for document in chance.sample(documents, chance.randint(1, len(documents)))}
    # judged documents that no ranking can find
    grades |= {f"missing{number}": chance.randint(0, 3) for number in range(chance.randint(0, 14))}
    ranking = chance.sample(documents, chance.randint(0, len(documents)))
    assert score_first_ten(ranking, grades) == pytest.approx(trec_eval(ranking, grades), abs=1e-12)


@pytest.mark.parametrize(
    ("ranking", "grades", "ndcg", "reciprocal", "recall"),
    [
        (["a"], {"a": 3}, 1.0, 1.0, 1.0),
        (["x", "a"], {"a": 1}, 1 / math.log2(3), 0.5, 1.0),
        ([], {"a": 1}, 0.0, 0.0, 0.0),
        # rank eleven is beyond all three
        ([*"bcdefghijk", "a"], {"a": 1}, 0.0, 0.0, 0.0),
        # nothing relevant: no division by zero
        (["a"], {"a": 0}, 0.0, 0.0, 0.0),
        (["a"], {}, 0.0, 0.0, 0.0),
        # twelve relevant documents, ten found: the ideal ranking is cut at ten too, recall is not
        ([f"d{n}" for n in range(12)], {f"d{n}": 1 for n in range(12)}, 1.0, 1.0, 10 / 12),
    ],
)
def test_values_that_one_works_out_by_hand(
    ranking: list[str], grades: dict[str, int], ndcg: float, reciprocal: float, recall: float
) -> None:
    assert list(score_first_ten(ranking, grades).values()) == pytest.approx([ndcg, reciprocal, recall])
