"""Stage pairs, from a source to files: kept splits, made splits, natural pairs, and a stage that fails on a leak."""

import json
from pathlib import Path
from typing import Any

import pytest

from etl.ingest import ingest
from etl.pairs import make_pairs
from etl.params import PairsParams, PrepareParams
from etl.prepare import prepare
from etl.sources import Item, Judgement, Query
from tests.unit.etl.factories import ListSource, body, rows
from twinline.clients.questions import Question, is_asked
from twinline.contract.documents.records import Document
from twinline.contract.errors import ContractError, SettingsError, TooSmallError


def made(items: list[Item], home: Path, params: PairsParams | None = None, out: str = "pairs") -> dict[str, Any]:
    ingest(ListSource(items), home / "snapshot", max_reject_share=1.0)
    prepare(home / "snapshot", home / "prepared", PrepareParams())
    return make_pairs(home / "snapshot", home / "prepared", home / out, params or PairsParams())


def judged(split: str, number: int, key: str | None = None, grade: int = 1, text: str = "") -> list[Item]:
    query = f"{split}{number}"
    return [
        Query(query, text or f"what is said in {query}?", split),
        Judgement(query, "list", key or f"d{number:03}", grade, split),
    ]


def corpus(count: int) -> list[Item]:
    return [Document("list", f"d{n:03}", body(n), title=f"Title number {n}") for n in range(count)]


def queries_of(path: Path) -> set[str]:
    return {row["query_id"] for row in rows(path)}


def test_splits_of_the_data_set_are_kept_and_only_what_is_missing_is_made(tmp_path: Path) -> None:
    items = corpus(100)
    for n in range(100):
        items += judged("train", n)
    items += [*judged("test", 1), *judged("test_unseen", 2), *judged("test", 3, grade=0)]

    report = made(items, tmp_path, PairsParams(dev_share=0.2))

    pairs = tmp_path / "pairs"
    assert report["splits_made_here"] == ["dev"]
    assert set(report["queries"]) == {"dev", "test", "test_unseen"}
    assert queries_of(pairs / "train.parquet") | queries_of(pairs / "dev.parquet") == {f"train{n}" for n in range(100)}
    assert not queries_of(pairs / "train.parquet") & queries_of(pairs / "dev.parquet")
    assert {(row["query_id"], row["split"]) for row in rows(pairs / "queries.parquet") if row["split"] != "dev"} == {
        ("test1", "test"),
        ("test3", "test"),
        ("test_unseen2", "test_unseen"),
    }
    assert {(row["query_id"], row["grade"]) for row in rows(pairs / "judgements.parquet") if row["split"] == "test"} == {
        ("test1", 1),
        ("test3", 0),
    }
    # d001 is relevant both to train1 and to test1: allowed, and counted.
    trained = queries_of(pairs / "train.parquet")
    assert report["leaks"]["shared_documents"]["test"] == ("train1" in trained)
    assert rows(pairs / "withheld.parquet") == []


def test_a_training_query_that_reads_like_a_test_query_is_set_aside(tmp_path: Path) -> None:
    items = corpus(30)
    for n in range(30):
        items += judged("train", n)
    items += judged("train", 40, key="d007", text="Why is the sea salty?") + judged("test", 8, text="why is the SEA salty")

    report = made(items, tmp_path, PairsParams(dev_share=0))

    assert "train40" not in queries_of(tmp_path / "pairs" / "train.parquet")
    aside = {(row["query_id"], row["reason"]) for row in rows(tmp_path / "pairs" / "rejects.parquet")}
    assert ("train40", "query_held_out") in aside
    assert report["set_aside"]["query_held_out"] == 1


def test_near_duplicates_leave_one_training_pair_and_all_evaluation_judgements(tmp_path: Path) -> None:
    items = [*corpus(10), Document("list", "copy", body(1).upper(), title="Another title here")]
    items += [*judged("train", 1), Judgement("train1", "list", "copy", 1, "train"), *judged("train", 2)]
    items += [*judged("test", 3, key="d001"), Judgement("test3", "list", "copy", 1, "test")]

    report = made(items, tmp_path, PairsParams(dev_share=0))

    assert report["train_pairs"] == 2
    assert report["set_aside"] == {"near_duplicate": 1}
    assert report["judgements"] == {"test": 2}


def test_the_text_of_a_pair_is_clean(tmp_path: Path) -> None:
    items: list[Item] = [Document("list", "d000", "One\x00   two\r\nthree"), *corpus(3)[1:]]
    made([*items, *judged("train", 0), *judged("train", 1), *judged("test", 2)], tmp_path, PairsParams(dev_share=0))

    texts = {row["key"]: row["text"] for row in rows(tmp_path / "pairs" / "train.parquet")}
    assert texts["d000"] == "One two\nthree"


def test_judgements_of_documents_that_are_not_there_are_set_aside_and_counted(tmp_path: Path) -> None:
    items = [*corpus(5), *judged("train", 1), *judged("train", 2, key="nowhere"), *judged("test", 3, key="nowhere")]

    report = made([*items, *judged("test", 4)], tmp_path, PairsParams(dev_share=0))

    assert report["set_aside"] == {"no_document": 2}
    assert report["judgements"] == {"test": 1}


def natural_corpus(count: int) -> list[Item]:
    return [Document("list", f"name{n:03}", f"Explain the thing {n} well.\n\n{body(n)}", title=f"name{n}") for n in range(count)]


def test_without_judgements_documents_make_pairs_and_the_splits_are_ours(tmp_path: Path) -> None:
    items = natural_corpus(200)
    # Near-duplicates with other summaries: wherever one goes, the other goes.
    items += [
        Document("list", f"twin{n:03}", f"Say it differently {n} again.\n\n{body(n)}", title="twin") for n in range(0, 200, 2)
    ]

    report = made(items, tmp_path)

    pairs = tmp_path / "pairs"
    assert report["splits_made_here"] == ["test", "dev"]
    assert not any(report["leaks"]["violations"].values())
    assert report["leaks"]["shared_documents"] == {"dev": 0, "test": 0}
    clusters = {name: {row["cluster_id"] for row in rows(pairs / f"{name}.parquet")} for name in ("train", "dev")}
    assert not clusters["train"] & clusters["dev"]
    assert min(report["queries"].values()) > 5
    assert report["train_pairs"] == len(clusters["train"]), "one training pair a cluster"


def test_a_held_out_natural_query_is_withheld_from_its_document(tmp_path: Path) -> None:
    made(natural_corpus(100), tmp_path)

    pairs = tmp_path / "pairs"
    texts = {(row["split"], row["query_id"]): row["text"] for row in rows(pairs / "queries.parquet")}
    withheld = {(row["split"], row["source"], row["key"]): row["text"] for row in rows(pairs / "withheld.parquet")}
    judgements = rows(pairs / "judgements.parquet")
    assert len(judgements) == len(withheld) > 10
    for row in judgements:
        assert texts[row["split"], row["query_id"]] not in withheld[row["split"], row["source"], row["key"]]
    for row in rows(pairs / "train.parquet"):
        assert row["query"] not in row["text"]


def test_a_data_set_with_only_a_test_split_trains_on_natural_pairs(tmp_path: Path) -> None:
    report = made([*natural_corpus(60), *judged("test", 1, key="name001")], tmp_path)

    assert report["splits_made_here"] == ["dev"]
    assert report["train_pairs"] > 30
    assert rows(tmp_path / "pairs" / "judgements.parquet")[-1]["query_id"] == "test1"


def test_making_pairs_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    made(natural_corpus(80), tmp_path, out="one")
    made(natural_corpus(80)[::-1], tmp_path, out="two")

    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_the_same_pairs_come_out_whatever_the_blocks_are_that_documents_pass_by_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = natural_corpus(40)
    for n in range(0, 40, 3):
        items += judged("train", n, key=f"name{n:03}") + judged("train", n + 100, key=f"name{n:03}")
    # Documents that are not there: before all others, between two, behind them.
    for number, key in ((201, "aaa"), (202, "name010x"), (203, "zzz")):
        items += judged("train", number, key=key)
    items += [*judged("test", 5, key="name005"), *judged("test", 6, key="zzz")]

    made(items, tmp_path, PairsParams(natural="always"), out="whole")
    for name, value in (("ROW_GROUP", 3), ("_BLOCK_ROWS", 4), ("_RUN_ROWS", 2)):
        monkeypatch.setattr(f"etl.block_tables.{name}", value)
    made(items, tmp_path, PairsParams(natural="always"), out="pieces")

    for path in (tmp_path / "whole").glob("*.parquet"):
        assert rows(path) == rows(tmp_path / "pieces" / path.name), path.name
    aside = {
        (row["query_id"], row["key"]) for row in rows(tmp_path / "whole" / "rejects.parquet") if row["reason"] == "no_document"
    }
    assert aside == {("train201", "aaa"), ("train202", "name010x"), ("train203", "zzz"), ("test6", "zzz")}


def test_the_stage_fails_on_a_leak_and_writes_the_report_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = corpus(20)
    for n in range(20):
        items += judged("train", n)
    items += [*judged("test", 1, text="why is the sea salty"), *judged("train", 30, key="d003", text="Why is the sea salty?")]
    # A planner that forgets to compare texts.
    monkeypatch.setattr("etl.pairs._asides", lambda rows, texts, splits, held_texts: [None for _ in rows])

    with pytest.raises(ContractError, match="test_query_text 1"):
        made(items, tmp_path)

    assert [path.name for path in (tmp_path / "pairs").iterdir()] == ["report.json"]
    assert json.loads((tmp_path / "pairs" / "report.json").read_text())["leaks"]["violations"]["test_query_text"] == 1


def test_documents_that_give_no_pair_are_an_error_that_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(TooSmallError, match="no training pair"):
        made([Document("list", "a", "short"), Document("list", "b", "short too")], tmp_path)


def test_shares_that_leave_nothing_to_train_on_are_an_error() -> None:
    with pytest.raises(SettingsError, match="nothing to train on"):
        PairsParams(dev_share=0.5, test_share=0.5)


def with_questions(home: Path, items: list[Item], *asked: Question) -> dict[str, Any]:
    ingest(ListSource(items), home / "snapshot", max_reject_share=1.0)
    prepare(home / "snapshot", home / "prepared", PrepareParams())
    return make_pairs(home / "snapshot", home / "prepared", home / "pairs", PairsParams(), asked=asked)


@pytest.mark.parametrize("brings", [(), ("train",), ("train", "dev", "test")])
def test_the_projects_own_questions_join_the_development_split_and_leave_training_alone(
    tmp_path: Path, brings: tuple[str, ...]
) -> None:
    items = corpus(60)
    for split in brings:
        for n in range(60) if split == "train" else range(3):
            items += judged(split, n)
    asked = [Question("where is number seven?", "list", "d007", 2), Question("where is number seven?", "list", "d008")]
    report = with_questions(tmp_path, items, *asked, Question("who has left?", "list", "gone"))

    assert report["asked"] == {"judgements": 3, "without_document": 1}
    assert sum(report["leaks"]["violations"].values()) == 0
    pairs = tmp_path / "pairs"
    [query] = [row for row in rows(pairs / "queries.parquet") if is_asked(row["query_id"])]
    assert (query["text"], query["split"]) == ("where is number seven?", "dev")
    judgements = {row["key"]: row["grade"] for row in rows(pairs / "judgements.parquet") if is_asked(row["query_id"])}
    assert judgements == {"d007": 2, "d008": 1}
    assert not {"d007", "d008"} & {row["key"] for row in rows(pairs / "train.parquet")}
    assert report["train_pairs"] > 30
    # the natural or brought development queries stay
    assert report["queries"]["dev"] > 1


def test_a_training_query_of_the_same_words_is_left_out(tmp_path: Path) -> None:
    items = corpus(20)
    for n in range(20):
        items += judged("train", n, text=f"what about number {n}, please?")
    with_questions(tmp_path, items, Question("What about number 3, please?", "list", "d015"))
    assert not [row for row in rows(tmp_path / "pairs" / "train.parquet") if row["query_id"] in ("train3", "train15")]


def test_without_questions_the_pairs_are_as_before(tmp_path: Path) -> None:
    with_questions(tmp_path / "a", corpus(40))
    made(corpus(40), tmp_path / "b")
    for name in ("train.parquet", "queries.parquet", "judgements.parquet", "withheld.parquet", "rejects.parquet"):
        assert rows(tmp_path / "a" / "pairs" / name) == rows(tmp_path / "b" / "pairs" / name)
