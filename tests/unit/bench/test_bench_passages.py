"""A set of questions with answers becomes a BEIR folder whose test shares no article with training."""

import gzip
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.__main__ import app
from bench.passages import is_passages, write_beir
from etl.sources.beir import Beir
from etl.sources.items import Judgement, Query, Reject
from twinline.contract.documents.records import Document
from twinline.contract.errors import SettingsError

SPLITS = ("train", "dev", "test")


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def passage(number: int, article: str, text: str = "") -> dict[str, Any]:
    return {"id": f"p{number}", "title": article, "text": text or f"What the {number}th passage says."}


def question(identity: str, *passages: int, text: str = "") -> dict[str, Any]:
    own = [f"p{number}" for number in passages]
    return {
        "id": identity, "question": text or f"What says {identity}?", "passage_ids": own, "context_ids": own or ["p0"],
        "answerable": bool(own), "answers": ["it"] if own else [],
    }  # fmt: skip


def make_set(folder: Path, passages: list[dict[str, Any]], ending: str = "jsonl.gz", **parts: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    write(folder / f"passages.{ending}", passages)
    for part, questions in parts.items():
        write(folder / f"questions_{part}.{ending}", questions)
    return folder


def judged(out: Path, split: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    path = out / "qrels" / f"{split}.tsv"
    for line in path.read_text("utf-8").splitlines()[1:] if path.is_file() else []:
        query, document, grade = line.split("\t")
        assert grade == "1"
        found.setdefault(query, set()).add(document)
    return found


def drawn(seed: int, *, has_train: bool) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """A set with equal passages in two articles, equal questions, questions of several passages, and unanswerable ones."""
    numbers = random.Random(seed)
    passages = [passage(n, f"Article {n // 3}" if n % 11 else "") for n in range(120)]
    for _ in range(3):
        one, other = numbers.sample(passages, 2)
        other["text"] = one["text"].upper()
    questions = [question(f"q{n}", *numbers.sample(range(120), 2 if n % 9 == 0 else 1)) for n in range(150)]
    questions += [question(f"u{n}") for n in range(7)]
    questions += [question(f"e{n}", numbers.randrange(120), text="The same question?") for n in range(2)]
    numbers.shuffle(questions)
    parts = {"train": questions[:120], "dev": questions[120:]} if has_train else {"dev": questions}
    return passages, parts


@pytest.mark.parametrize("has_train", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_no_article_text_or_passage_of_the_test_is_in_train_and_every_question_is_accounted_for(
    tmp_path: Path, seed: int, has_train: bool
) -> None:
    passages, parts = drawn(seed, has_train=has_train)
    report: Any = write_beir(make_set(tmp_path / "set", passages, **parts), tmp_path / "out")
    found = {split: judged(tmp_path / "out", split) for split in SPLITS}
    by_id = {row["id"]: row for row in passages}
    texts = {row["id"]: row["question"] for own in parts.values() for row in own}

    def touched(split: str) -> set[tuple[str, str]]:
        used = {key for own in found[split].values() for key in own}
        return (
            {("passage", key) for key in used}
            | {("article", by_id[key]["title"]) for key in used if by_id[key]["title"]}
            | {("text", by_id[key]["text"].casefold()) for key in used}
            | {("question", texts[query]) for query in found[split]}
        )

    assert touched("test") & (touched("train") | touched("dev")) == set()
    assert touched("dev") & touched("train") == set()
    asked = {row["id"]: set(row["passage_ids"]) for own in parts.values() for row in own}
    for own in found.values():
        assert all(asked[query] == keys for query, keys in own.items())
    assert report["questions"] == {split: len(own) for split, own in found.items()}
    assert report["left_out"]["unanswerable"] == 7
    assert sum(report["questions"].values()) + sum(report["left_out"].values()) == len(asked)
    if has_train:  # its other part is the test, whole
        assert set(found["test"]) == {row["id"] for row in parts["dev"] if row["passage_ids"]}


def test_a_set_without_a_training_part_is_divided_and_each_split_has_questions(tmp_path: Path) -> None:
    passages = [passage(n, f"Article {n}") for n in range(200)]
    out = tmp_path / "out"
    report: Any = write_beir(make_set(tmp_path / "set", passages, dev=[question(f"q{n}", n) for n in range(200)]), out)
    assert "left_out" in report
    assert report["left_out"] == {}
    assert 75 <= report["questions"]["test"] <= 125
    assert 20 <= report["questions"]["dev"] <= 60
    assert 40 <= report["questions"]["train"] <= 85


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_the_platforms_own_reader_reads_what_was_written(tmp_path: Path, ending: str) -> None:
    passages, parts = drawn(1, has_train=True)
    passages[0] |= {"title": "İstanbul'un fethi", "text": 'Fatih\'in ışığı\u2028ve "tırnak" ve\tsekme.'}
    data = make_set(tmp_path / "set", passages, ending, **parts)
    assert is_passages(data)
    write_beir(data, tmp_path / "set-beir")
    assert not is_passages(tmp_path / "set-beir")
    source = Beir("set", str(tmp_path / "set-beir"))
    items = list(source.items())
    assert [one for one in items if isinstance(one, Reject)] == []
    documents = {one.key: one for one in items if isinstance(one, Document)}
    assert len(documents) == len(passages)
    assert (documents["p0"].title, documents["p0"].text) == (passages[0]["title"], passages[0]["text"])
    for split in SPLITS:
        own = judged(tmp_path / "set-beir", split)
        assert {one.query_id for one in items if isinstance(one, Query) and one.split == split} == set(own)
        read = [(one.query_id, one.key) for one in items if isinstance(one, Judgement) and one.split == split]
        assert sorted(read) == sorted((query, key) for query, keys in own.items() for key in keys)
    assert source.provenance()["counts"] == {"judgements_without_document": 0, "queries_without_judgement": 0}


def test_the_same_questions_in_another_order_are_the_same_bytes(tmp_path: Path) -> None:
    passages, parts = drawn(2, has_train=False)
    write_beir(make_set(tmp_path / "a", passages, **parts), tmp_path / "out-a")
    write_beir(make_set(tmp_path / "b", passages[::-1], dev=parts["dev"][::-1]), tmp_path / "out-b")
    write_beir(tmp_path / "a", tmp_path / "out-b2")
    one, *others = (
        {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
        for out in (tmp_path / "out-a", tmp_path / "out-b", tmp_path / "out-b2")
    )
    assert others == [one, one]


def test_a_question_keeps_its_split_when_questions_about_other_articles_come(tmp_path: Path) -> None:
    passages = [passage(n, f"Article {n}") for n in range(80)]
    make_set(tmp_path / "few", passages, dev=[question(f"q{n}", n) for n in range(40)])
    make_set(tmp_path / "many", passages, dev=[question(f"q{n}", n) for n in range(80)])
    write_beir(tmp_path / "few", tmp_path / "few-out")
    write_beir(tmp_path / "many", tmp_path / "many-out")
    for split in SPLITS:
        assert judged(tmp_path / "few-out", split).items() <= judged(tmp_path / "many-out", split).items()


def test_a_large_training_part_is_sampled_and_what_was_left_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.passages._MOST", {"train": 30, "dev": 4})
    passages = [passage(n, f"Article {n}") for n in range(110)]
    parts = {"train": [question(f"q{n}", n) for n in range(100)], "dev": [question(f"t{n}", n) for n in range(100, 110)]}
    report: Any = write_beir(make_set(tmp_path / "set", passages, **parts), tmp_path / "out")
    assert report["questions"] == {"train": 30, "dev": 4, "test": 10}
    assert set(report["left_out"]) == {"beyond_30_of_train", "beyond_4_of_dev"}
    assert sum(report["left_out"].values()) == 66


@pytest.mark.parametrize(
    ("passages", "questions", "said"),
    [
        ([passage(0, "A")], [question("q", 9)], "names the passage p9"),
        ([passage(0, "A"), passage(0, "B")], [question("q", 0)], "passage p0 is there twice"),
        ([passage(0, "A")], [question("q", 0), question("q", 0)], "question q is there twice"),
        ([{"id": "p0", "text": "x"}], [question("q", 0)], "no 'title'"),
        ([passage(0, "A")], [{"id": "q", "question": "x"}], "no 'passage_ids'"),
    ],
)
def test_a_damaged_set_is_refused_by_name(
    tmp_path: Path, passages: list[dict[str, Any]], questions: list[dict[str, Any]], said: str
) -> None:
    data = make_set(tmp_path / "set", passages, dev=questions)
    with pytest.raises(SettingsError, match=said):
        write_beir(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_beir_folder_is_none_of_these_sets(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text("")
    (tmp_path / "questions_dev.jsonl").write_text("")
    assert not is_passages(tmp_path)
    assert not is_passages(tmp_path / "data.zip")


def test_the_command_writes_the_folder_and_prints_its_counts(tmp_path: Path) -> None:
    passages, parts = drawn(5, has_train=True)
    data = make_set(tmp_path / "set", passages, **parts)
    done = CliRunner().invoke(app, ["beir", "--data", str(data), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == write_beir(data, tmp_path / "again")
    assert (tmp_path / "out" / "queries.jsonl").read_bytes() == (tmp_path / "again" / "queries.jsonl").read_bytes()
    refused = CliRunner().invoke(app, ["beir", "--data", str(tmp_path / "out"), "--out", str(tmp_path / "never")])
    assert refused.exit_code == 2
    assert "passages.jsonl" in refused.output
    assert not (tmp_path / "never").exists()
