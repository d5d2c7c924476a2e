"""The source `beir`: folder, zip file, splits, and what can be broken in a data set."""

import shutil
from pathlib import Path

import pytest

from etl.sources import Judgement, Query
from tests.unit.etl.factories import documents, read, reject_reasons, write_beir
from twinline.contract.errors import SettingsError

CORPUS = {"d1": ("One", "First text."), "d2": ("", "Second text."), "d3": ("Title only", "")}
QUERIES = {"q1": "first?", "q2": "second?", "q3": "never judged?"}


def data_set(folder: Path) -> Path:
    qrels = {"train": [("q1", "d1", 1)], "test": [("q2", "d2", 2), ("q2", "d1", 0)], "test_unseen": [("q2", "d2", 2)]}
    return write_beir(folder / "tiny", CORPUS, QUERIES, qrels)


def test_documents_queries_and_judgements_keep_their_splits(tmp_path: Path) -> None:
    items = read(f"beir:{data_set(tmp_path)}", tmp_path)

    assert {key: document.title for key, document in documents(items).items()} == {"d1": "One", "d2": "", "d3": "Title only"}
    assert {(item.query_id, item.split) for item in items if isinstance(item, Query)} == {
        ("q1", "train"),
        ("q2", "test"),
        ("q2", "test_unseen"),
    }
    judged = {(item.query_id, item.key, item.grade, item.split) for item in items if isinstance(item, Judgement)}
    assert judged == {
        ("q1", "d1", 1, "train"),
        ("q2", "d2", 2, "test"),
        ("q2", "d1", 0, "test"),
        ("q2", "d2", 2, "test_unseen"),
    }
    assert {item.source for item in items if isinstance(item, Judgement)} == {"tiny"}


def test_a_zip_file_with_the_folder_in_it_is_the_same_data_set(tmp_path: Path) -> None:
    folder = data_set(tmp_path)
    archive = shutil.make_archive(str(tmp_path / "zipped" / "tiny"), "zip", tmp_path, folder.name)

    assert read(f"beir:{archive}", tmp_path) == read(f"beir:{folder}", tmp_path)


def test_the_zip_file_at_an_address_is_fetched_and_read(tmp_path: Path) -> None:
    import fsspec

    archive = shutil.make_archive(str(tmp_path / "zipped" / "tiny"), "zip", tmp_path, data_set(tmp_path).name)
    fsspec.filesystem("memory").pipe("/sets/tiny.zip", Path(archive).read_bytes())

    assert list(documents(read("beir:memory://sets/tiny.zip", tmp_path))) == ["d1", "d2", "d3"]


def test_a_split_under_another_usual_name_is_the_development_split(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "tiny", CORPUS, QUERIES, {"validation": [("q1", "d1", 1)]})

    assert {item.split for item in read(f"beir:{folder}", tmp_path) if isinstance(item, Query)} == {"dev"}


def test_broken_lines_are_rejects_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = data_set(tmp_path)
    with (folder / "corpus.jsonl").open("a") as stream:
        stream.write('{"_id": "d4"}\n{"_id": "d5", "text": [1]}\nnot json\n')
    with (folder / "queries.jsonl").open("a") as stream:
        stream.write('{"_id": "q4"}\n')
    with (folder / "qrels" / "test.tsv").open("a") as stream:
        stream.write("q9\td1\t1\nq2\td1\nq2\td1\tmuch\n")

    items = read(f"beir:{folder}", tmp_path)

    assert list(documents(items)) == ["d1", "d2", "d3"]
    assert reject_reasons(items) == [
        ("corpus.jsonl", 4, "missing_field"),
        ("corpus.jsonl", 5, "wrong_type"),
        ("corpus.jsonl", 6, "invalid_json"),
        ("queries.jsonl", 4, "missing_field"),
        ("qrels/test.tsv", None, "unknown_query"),
        ("qrels/test.tsv", 5, "invalid_judgement"),
        ("qrels/test.tsv", 6, "invalid_judgement"),
    ]


def test_rows_of_four_columns_are_read_as_trec_writes_them(tmp_path: Path) -> None:
    folder = data_set(tmp_path)
    (folder / "qrels" / "test.tsv").write_text("q2\t0\td2\t1\n")

    judged = [item for item in read(f"beir:{folder}", tmp_path) if isinstance(item, Judgement) and item.split == "test"]

    assert [(item.query_id, item.key, item.grade) for item in judged] == [("q2", "d2", 1)]


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl"])
def test_a_folder_that_is_no_data_set_is_an_error_that_names_what_is_missing(tmp_path: Path, missing: str) -> None:
    folder = data_set(tmp_path)
    (folder / missing).unlink()

    with pytest.raises(SettingsError, match=missing):
        read(f"beir:{folder}", tmp_path)
