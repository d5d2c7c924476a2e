"""Natural pairs, splits by cluster, and the leak check: each promise, and each leak planted and found."""

from typing import Any

import pytest

from etl.leaks import find_leaks
from etl.natural import natural_pair, normal_text
from etl.pair import Pair
from etl.params import PairsParams
from etl.splits import Asked, assign_splits
from tests.unit.etl.factories import body
from twinline.contract.errors import ContractError

SHARES = {"test": 0.2, "dev": 0.2}


@pytest.mark.parametrize(
    ("title", "text", "query", "rest_title"),
    [
        # a title that is a phrase
        ("How tides come about", body(1), "How tides come about", ""),
        # a name is no question: the summary paragraph is
        ("torch.nn.Linear", f"Apply a linear\ntransformation.\n\n{body(1)}", "Apply a linear transformation.", "torch.nn.Linear"),
        # no paragraph of its own: the first sentence
        ("", f"The sea rises twice. {body(1)}", "The sea rises twice.", ""),
    ],
)
def test_the_query_of_a_natural_pair_is_taken_out_of_its_document(title: str, text: str, query: str, rest_title: str) -> None:
    pair = natural_pair(title, text, PairsParams())

    assert pair is not None
    assert (pair.query, pair.title, pair.text) == (query, rest_title, body(1))


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("A fine long title", "too little text"),
        ("name", body(1)),  # no sentence
        ("name", f"Two words.\n\n{body(1)}"),
        ("The sea rises twice", f"{body(1)} the SEA rises, twice {body(2)}"),  # repeated word for word further on
    ],
)
def test_a_document_without_a_query_in_it_makes_no_natural_pair(title: str, text: str) -> None:
    assert natural_pair(title, text, PairsParams()) is None


def asked(count: int) -> list[Asked]:
    return [Asked(f"q{n}", f"query {n}", [f"c{n}"]) for n in range(count)]


def test_shares_are_met_and_the_same_seed_gives_the_same_splits() -> None:
    splits = assign_splits(asked(2_000), SHARES, seed=1)

    counts = {split: sum(value == split for value in splits.values()) for split in ("train", "dev", "test")}
    assert counts["train"] == pytest.approx(1_200, abs=100)
    assert counts["test"] == pytest.approx(400, abs=60)
    assert splits == assign_splits(reversed(asked(2_000)), SHARES, seed=1)
    assert splits != assign_splits(asked(2_000), SHARES, seed=2)


def test_queries_that_share_a_cluster_go_to_one_split_also_by_way_of_others() -> None:
    chain = [Asked(f"chain{n}", f"link {n}", [f"x{n}", f"x{n + 1}"]) for n in range(20)]

    splits = assign_splits([*asked(50), *chain], SHARES, seed=1)

    assert len({splits[query.query_id] for query in chain}) == 1


def test_queries_that_read_the_same_go_to_one_split() -> None:
    same = [Asked(f"same{n}", "The  same, WORDS!" if n % 2 else "the same words", [f"y{n}"]) for n in range(20)]

    splits = assign_splits([*asked(50), *same], SHARES, seed=1)

    assert len({splits[query.query_id] for query in same}) == 1


def test_a_query_stays_in_its_split_when_others_come_and_go() -> None:
    before, after = assign_splits(asked(500), SHARES, seed=1), assign_splits(asked(600)[50:], SHARES, seed=1)

    assert all(before[query] == after[query] for query in before.keys() & after.keys())


def test_few_queries_still_fill_every_split() -> None:
    assert set(assign_splits(asked(3), SHARES, seed=1).values()) == {"train", "dev", "test"}


def pair(query_id: str, query: str, key: str, cluster: str) -> Pair:
    return Pair(query_id, query, "judged", "train", 1, "s", key, cluster)


TRAIN = [pair("t1", "How do tides come about?", "a", "A"), pair("t2", "What is wind?", "b", "B")]
HELD_QUERY = {"query_id": "h1", "text": "Why is the sea salty?", "split": "test"}
HELD_JUDGEMENT = {"query_id": "h1", "source": "s", "key": "c", "grade": 1, "split": "test"}


def leaks_in(
    train: list[Pair],
    made: dict[str, list[Pair]] | None = None,
    queries: list[dict[str, Any]] | None = None,
    judgements: list[dict[str, Any]] | None = None,
) -> dict[str, int]:
    report = find_leaks(train, queries or [HELD_QUERY], judgements or [HELD_JUDGEMENT], made or {})
    return {kind: count for kind, count in report.violations.items() if count}


def test_clean_pairs_pass_the_leak_check() -> None:
    assert leaks_in(TRAIN) == {}


@pytest.mark.parametrize(
    ("planted", "kinds"),
    [
        # the text of a test query, in other clothes, for another document
        (pair("t3", "why is the SEA salty", "d", "D"), {"test_query_text"}),
        # the test pair itself
        (pair("t3", "Why is the sea salty?", "c", "C"), {"test_query_text", "test_judgement"}),
        # a test query under its id, reworded
        (pair("h1", "Salt in the sea", "d", "D"), {"test_query_id"}),
    ],
)
def test_a_planted_leak_is_found(planted: Pair, kinds: set[str]) -> None:
    assert leaks_in([*TRAIN, planted]).keys() == kinds


def test_a_cluster_in_two_splits_of_ours_is_found() -> None:
    dev = [pair("d1", "Whence the wind?", "b2", "B")]

    assert leaks_in(TRAIN, {"dev": dev}) == {"cluster_across_splits": 1}
    assert leaks_in(TRAIN, {"dev": [pair("d1", "x", "e", "E")], "test": [pair("e1", "y", "e2", "E")]}) == {
        "cluster_across_splits": 1
    }


def test_a_leak_is_refused_with_its_kind_and_an_example() -> None:
    report = find_leaks([*TRAIN, pair("t3", "why is the sea salty", "d", "D")], [HELD_QUERY], [HELD_JUDGEMENT], {})

    with pytest.raises(ContractError, match=r"test_query_text 1 .*'t3'.*report\.json"):
        report.refuse("data/pairs/report.json")


def test_documents_relevant_on_both_sides_are_counted_and_allowed() -> None:
    report = find_leaks(TRAIN, [HELD_QUERY], [{**HELD_JUDGEMENT, "key": "a"}], {})

    assert report.shared_documents == {"test": 1}
    assert not any(report.violations.values())


def test_texts_that_differ_only_in_form_are_the_same() -> None:
    assert normal_text("  Ｗhy,\u00a0IS the sea — salty?") == normal_text("why is the sea salty")
    assert normal_text("why is the sea salt") != normal_text("why is the sea salty")
