"""nDCG@10, MRR@10 and recall@10 of one ranking, in plain Python: a machine that only asks questions can score them.

The values are trec_eval's: gains are the grades themselves, discounts the binary logarithm of the rank plus one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

METRICS: Final = ("ndcg_at_10", "mrr_at_10", "recall_at_10")
_CUT: Final = 10


def score_first_ten(ranking: Sequence[str], grades: Mapping[str, int]) -> dict[str, float]:
    """Return the three metrics of a ranking, best document first; all 0 where no document is relevant.

    Args:
        ranking: document ids, each once.
        grades: grade by document id; a document is relevant from 1.
    """
    first = ranking[:_CUT]
    relevant = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    if not relevant:
        return dict.fromkeys(METRICS, 0.0)
    found = [rank for rank, document in enumerate(first, start=1) if grades.get(document, 0) > 0]
    return {
        "ndcg_at_10": _gain([max(0, grades.get(document, 0)) for document in first]) / _gain(relevant[:_CUT]),
        "mrr_at_10": 1 / found[0] if found else 0.0,
        "recall_at_10": len(found) / len(relevant),
    }


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))
