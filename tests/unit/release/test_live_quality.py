"""A release that answers worse than the active one is refused, and what was not measured says so."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twinline.contract.documents.records import Deletion, Document, Version
from twinline.release.verify import live_quality
from twinline.release.verify.live_quality import Sides, quality_checks
from twinline.release.verify.log_sample import LogState

QUERIES = 40


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in names}), stream)
    return stream.getvalue()


class Commit:
    """The files of a version: a query a document, and one query of another split."""

    name = "commit 1"

    def __init__(self, withheld: bool = False, text: str = "text") -> None:
        queries = [{"query_id": f"q{n}", "text": f"find {n}", "split": "dev"} for n in range(QUERIES)]
        queries.append({"query_id": "qt", "text": "test", "split": "test"})
        grades = [{**query, "source": "s", "key": query["query_id"][1:], "grade": 1} for query in queries]
        rows = [{"source": "s", "key": str(n), "title": None, "text": f"{text} {n}"} for n in range(QUERIES)]
        aside = [{"split": "dev", "source": "s", "key": "1", "title": "", "text": "x"}] if withheld else []
        self._files = {
            "data/pairs/queries.parquet": table(queries, ("query_id", "text", "split")),
            "data/pairs/judgements.parquet": table(grades, ("query_id", "source", "key", "grade", "split")),
            "data/pairs/withheld.parquet": table(aside, ("split", "source", "key", "title", "text")),
            "data/snapshot/documents-00000.parquet": table(rows, ("source", "key", "title", "text")),
            "data/snapshot/rejects.parquet": b"",
        }

    def read_bytes(self, path: str) -> bytes:
        return self._files[path]

    def names(self, folder: str) -> list[str]:
        below = [path.removeprefix(f"{folder}/") for path in self._files if path.startswith(f"{folder}/")]
        return sorted({path.partition("/")[0] for path in below})


class Collections:
    """Each collection finds the document of a query at a rank of its own; rank 0: not at all."""

    def __init__(self, **ranks: Sequence[int]) -> None:
        self._ranks = {name: list(found) for name, found in ranks.items()}
        self.asked: list[str] = []

    def search(self, name: str, query: str, limit: int = 10, exact: bool = False) -> Mapping[str, Any]:
        self.asked.append(query)
        number = int(query.split()[1])
        rank = self._ranks[name][number]
        keys = [f"other{position}" for position in range(limit)]
        if rank:
            keys[rank - 1] = str(number)
        return {"hits": [{"source": "s", "key": key, "score": 1 - position / 100} for position, key in enumerate(keys)]}


def log(documents: int = QUERIES, text: str = "text") -> LogState:
    state = LogState()
    for number in range(documents):
        state.take(Document("s", str(number), f"{text} {number}"), Version("log", 1, number), is_sampled=False)
    return state


def figures(ndcg: float, queries: int = QUERIES, sampled: bool = False) -> dict[str, Any]:
    corpus = {"documents": QUERIES - sampled, "documents_in_total": QUERIES, "set_aside": {}}
    return {"corpus": corpus, "dev": {"queries": queries, "tuned": {"ndcg_at_10": ndcg}}}


SAME = [1] * QUERIES


@pytest.mark.parametrize(
    ("candidate", "margin", "passes"),
    [
        (SAME, 0.02, True),
        # exactly as good passes a margin of nothing
        (SAME, 0.0, True),
        # one query in forty lost: the mean is within the margin of 0.1, and so is the interval
        ([0, *SAME[1:]], 0.1, True),
        # the mean is within the margin, the interval is not
        ([0, *SAME[1:]], 0.03, False),
        ([0] * QUERIES, 0.02, False),
        # found by nobody is the worst there is, and an empty answer is not left out
        ([2] * QUERIES, 0.02, False),
    ],
)
def test_a_release_that_may_answer_worse_by_more_than_the_margin_is_refused(
    candidate: list[int], margin: float, passes: bool
) -> None:
    check, _ = quality_checks(Collections(b=candidate, a=SAME), Sides("b", "a"), Commit(), log(), margin)
    assert check.passed is passes
    assert check.numbers["queries"] == QUERIES
    assert check.numbers["active"] == 1.0
    assert "95% interval" in check.detail


def test_without_another_active_release_the_figure_stands_alone() -> None:
    check, _ = quality_checks(Collections(b=[2] * QUERIES), Sides("b"), Commit(), log())
    assert check.passed
    assert check.numbers["candidate"] == pytest.approx(0.6309, abs=1e-4)
    assert "no other release is active" in check.detail


def test_only_queries_whose_documents_are_in_the_log_are_asked() -> None:
    state = log()
    state.take(Deletion("s", "3"), Version("log", 2, 99), is_sampled=False)
    asks = Collections(b=SAME)
    check, offline = quality_checks(asks, Sides("b", metrics=figures(1.0)), Commit(), state)
    assert check.numbers["queries"] == QUERIES - 1
    assert "find 3" not in asks.asked
    assert "test" not in asks.asked
    assert "39 are asked here" in offline.detail


def test_too_few_queries_are_said_to_be_too_few() -> None:
    (check,) = quality_checks(Collections(b=SAME), Sides("b"), Commit(), log(live_quality.FEWEST_QUERIES - 1))
    assert check.passed
    assert check.numbers == {"measured": False}
    assert "not measured: 19 of 40" in check.detail


def test_many_queries_are_drawn_by_a_fixed_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_quality, "MOST_QUERIES", 25)
    drawn = [Collections(b=SAME), Collections(b=SAME)]
    for asks in drawn:
        quality_checks(asks, Sides("b"), Commit(), log())
    assert drawn[0].asked == drawn[1].asked
    assert len(set(drawn[0].asked)) == 25


@pytest.mark.parametrize(
    ("metrics", "commit", "state", "compared", "passes"),
    [
        (figures(1.0), Commit(), log(), True, True),
        # the same corpus, and another figure: something between training and serving differs
        (figures(0.9), Commit(), log(), True, False),
        (figures(float("nan")), Commit(), log(), True, False),
        # other texts, sampled documents, other queries, documents without their query: two figures of two things
        (figures(0.9), Commit(text="older"), log(), False, True),
        (figures(0.9, sampled=True), Commit(), log(), False, True),
        (figures(0.9, queries=7), Commit(), log(), False, True),
        (figures(0.9), Commit(withheld=True), log(), False, True),
        ({}, Commit(), log(), False, True),
    ],
)
def test_the_figure_of_the_evaluation_must_come_out_again_where_the_corpus_is_the_same(
    metrics: dict[str, Any], commit: Commit, state: LogState, compared: bool, passes: bool
) -> None:
    check = quality_checks(Collections(b=SAME), Sides("b", metrics=metrics), commit, state)[1]
    assert (check.numbers["measured"], check.passed) == (compared, passes)
    assert compared or "not compared" in check.detail


def test_a_commit_without_pairs_is_not_measured_and_says_so() -> None:
    class Bare(Commit):
        def names(self, folder: str) -> list[str]:
            return []

    collections = Collections(new=SAME, old=SAME)
    (check,) = quality_checks(collections, Sides("new", "old"), Bare(), log())
    assert (check.passed, check.numbers) == (True, {"measured": False})
    assert "commit 1 was not made by this pipeline" in check.detail
    assert collections.asked == []


@pytest.mark.parametrize(
    ("evaluated", "passes"), [({"hybrid": {"ndcg_at_10": 1.0}}, True), ({"hybrid": {"ndcg_at_10": 0.5}}, False), ({}, False)]
)
def test_search_is_compared_with_the_offline_figure_of_its_fusion(evaluated: dict[str, Any], passes: bool) -> None:
    """Vectors alone found half of it; an evaluation from before there were words has no other figure."""
    metrics = figures(0.5)
    metrics["dev"] |= evaluated
    _, offline = quality_checks(Collections(b=SAME), Sides("b", metrics=metrics), Commit(), log())
    assert offline.passed is passes
    assert offline.numbers["offline"] == evaluated.get("hybrid", {"ndcg_at_10": 0.5})["ndcg_at_10"]


def test_hits_of_a_fused_answer_count_by_their_place() -> None:
    """Their scores tie, and a further look begins again."""

    class Fused(Collections):
        def search(self, name: str, query: str, limit: int = 10, exact: bool = False) -> dict[str, Any]:
            answer = super().search(name, query, limit)
            return {"mode": "hybrid", "hits": [{**hit, "score": 0.5} for hit in answer["hits"]]}

    check, _ = quality_checks(Fused(b=[2] * QUERIES), Sides("b"), Commit(), log())
    assert check.numbers["candidate"] == pytest.approx(0.6309, abs=1e-4)
