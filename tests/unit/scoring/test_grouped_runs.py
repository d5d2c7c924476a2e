"""A run grouped offline is what search shows: the same groups, the same order, and judgements that follow them."""

import random

import numpy as np
import pytest

from twinline.clients.store.protocol import StoredPoint
from twinline.contract.documents.ids import point_id
from twinline.contract.sparse.fusion import Candidate, Ranked
from twinline.scoring.grouping import ChunkText, GroupedRun, group_run, scored_groups
from twinline.scoring.retrieval import score_queries
from twinline.search.grouping import Grouping

WORDS = [f"{first}{second}" for first in "abcdefghij" for second in "klmnopqr"]
PAGE = " ".join(WORDS[:60])


def chunk(text: str) -> ChunkText:
    return ChunkText(f"hash of {text}", text)


CHUNKS = [chunk(PAGE), chunk("another"), chunk(f"{PAGE} more"), chunk(f"{PAGE} 7"), chunk(PAGE)]


def grouped(**found: dict[str, int]) -> GroupedRun:
    return group_run(found, CHUNKS)


def test_documents_that_say_the_same_are_one_hit_in_their_order() -> None:
    run = grouped(q={"a": 0, "b": 1, "c": 2, "d": 3, "e": 4})
    assert list(run.hits["q"]) == ["a", "b", "d"]
    assert list(run.hits["q"].values()) == [100.0, 99.0, 98.0]
    assert run.copies == {"q": {"a": ["c", "e"]}}
    assert run.joined == 2


def test_a_limit_counts_hits_and_copies_come_on_top() -> None:
    run = group_run({"q": {"a": 0, "b": 1, "d": 3, "e": 4}}, CHUNKS, limit=2)
    assert list(run.hits["q"]) == ["a", "b"]
    assert run.copies == {"q": {"a": ["e"]}}


def test_a_query_without_documents_stays_without() -> None:
    run = grouped(q={})
    assert (run.hits, run.copies, run.joined) == ({"q": {}}, {"q": {}}, 0)


@pytest.mark.parametrize(
    ("grades", "judged"),
    [
        ({"c": 2}, {"a": 2}),  # the copy was judged, the hit shows it
        ({"a": 1, "c": 2, "e": 1}, {"a": 2}),  # the best of the group, once
        ({"a": 1, "b": 1}, {"a": 1, "b": 1}),
        ({"b": 1, "d": 3}, {"b": 1, "d": 3}),
        ({"z": 1}, {"z": 1}),  # not found stays missed
        ({"e": 0}, {"a": 0}),
        ({}, {}),
    ],
)
def test_a_hit_is_as_good_as_the_best_of_its_group(grades: dict[str, int], judged: dict[str, int]) -> None:
    run = grouped(q={"a": 0, "b": 1, "c": 2, "d": 3, "e": 4})
    assert run.judged({"q": grades}) == {"q": judged}
    assert run.judged({"other": {"a": 1}}) == {"other": {"a": 1}}


def test_the_cost_and_the_gain_can_both_be_seen() -> None:
    found = {"q": {"a": 0, "c": 2, "e": 4, "b": 1}}
    judgements = {"q": {"b": 1, "c": 1}}
    plain = {"q": {"a": 4.0, "c": 3.0, "e": 2.0, "b": 1.0}}
    run = group_run(found, CHUNKS)
    before = score_queries(plain, judgements)["ndcg_at_10"]["q"]
    cost = score_queries(run.hits, judgements)["ndcg_at_10"]["q"] - before
    gain = score_queries(run.hits, run.judged(judgements))["ndcg_at_10"]["q"] - before
    assert cost < 0 < gain
    assert score_queries(run.hits, run.judged(judgements))["ndcg_at_10"]["q"] == pytest.approx(1.0)


def test_both_figures_of_a_grouped_run_are_of_its_first_ten_hits() -> None:
    chunks = [chunk(f"text {n}") for n in range(14)]
    found = {"q": {f"d{n}": n for n in range(14)} | {"copy": 2}, "none": {}}
    scored = scored_groups(found, chunks, {"q": {"copy": 1}, "none": {"d1": 1}})
    assert scored.hits == {"q": 0.0, "none": 0.0}
    assert scored.judged == {"q": pytest.approx(0.5), "none": 0.0}  # third place
    assert scored.to_json() == {
        "ndcg_at_10": pytest.approx(0.25), "ndcg_at_10_hits_alone": 0.0, "documents_listed": 1,
    }  # fmt: skip
    # The eleventh hit is in no first ten, whatever says the same as it.
    assert scored_groups({"q": {f"d{n}": n for n in range(14)}}, chunks, {"q": {"d10": 1}}).judged == {"q": 0.0}


@pytest.mark.parametrize("seed", range(12))
def test_search_and_evaluation_form_the_same_groups(seed: int) -> None:
    drawn = random.Random(seed)
    chunks, found, points = [], {}, []
    for number in range(80):
        words = [*WORDS[:60], drawn.choice("xyz") * 9]
        for _ in range(drawn.randrange(4)):
            words[drawn.randrange(len(words))] = drawn.choice(WORDS)
        said = chunk(" ".join(words))
        chunks.append(said)
        found[f"d{number}"] = number
        payload = {"source": "s", "key": f"d{number}", "content_hash": said.content_hash, "text": said.text}
        points.append(StoredPoint(point_id("s", f"d{number}", 0), payload))
    limit = drawn.choice([3, 10, 80])
    live = Grouping(limit, grouped=True)
    for point in points:
        live.place(point, Ranked(Candidate(point.id, 0.0, 0.0), 0.0, None, None))
    offline = group_run({"q": found}, chunks, limit=limit)
    assert [one.point.payload["key"] for one in live.found] == list(offline.hits["q"])
    listed = {one.point.payload["key"]: [copy.payload["key"] for copy in one.copies] for one in live.found if one.copies}
    assert listed == offline.copies["q"]
    assert offline.joined == live.copies
    assert np.all(np.diff(list(offline.hits["q"].values())) == -1)
