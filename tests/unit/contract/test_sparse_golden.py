"""Golden words: what a release's words gave when it was made is what this process gives, or it does not open."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twinline.contract.canonical import sha256_hex
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.errors import MismatchError
from twinline.contract.sparse.analyzer import Analyzer
from twinline.contract.sparse.golden import (
    GOLDEN_WORDS_FILE,
    check_golden_words,
    golden_words,
    read_sparse,
    read_words,
    write_golden_words,
)
from twinline.contract.sparse.statistics import STATISTICS_FILE, Statistics
from twinline.contract.sparse.weights import Words

TEXTS = ["the red fox runs", "a fox ran over the hill", "running foxes and the hills", "çok güzel bir gün"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the words stage leaves it."""
    statistics = Statistics.count(Analyzer(1, "english").terms(text) for text in TEXTS)
    content = statistics.to_bytes()
    contract = SparseContract(1, "english", 1, 90, 40, sha256_hex(content))
    (tmp_path / STATISTICS_FILE).write_bytes(content)
    facts: dict[str, Any] = {"contract": contract.to_json()}
    write_golden_words(tmp_path, golden_words(Words(contract, statistics), ["fox", "güzel", "AB-12"]), facts)
    return tmp_path


def test_a_folder_is_read_with_the_words_that_it_was_written_with(folder: Path) -> None:
    words = read_words(folder)
    assert words.contract == read_sparse(folder)
    said = json.loads((folder / GOLDEN_WORDS_FILE).read_text())
    assert {"fox", "güzel", "AB-12", "How do I roll back a release?"} <= {entry["text"] for entry in said["golden"]}


@pytest.mark.parametrize(
    "fields",
    [{"language": "german"}, {"language": "none"}, {"k1_percent": 91}, {"b_percent": 41}, {"k1_percent": 0}],
)
def test_words_of_another_contract_are_refused(folder: Path, fields: dict[str, Any]) -> None:
    contract = replace(read_sparse(folder), **fields)
    with pytest.raises(MismatchError, match=r"has the terms .* the release says .* PyStemmer is .*constraints\.txt"):
        check_golden_words(folder, Words.load(folder, contract))


@pytest.mark.parametrize("statistics", [Statistics(), Statistics.count([["fox"]] * 3 + [["hill"]] * 9)])
def test_words_of_another_corpus_are_refused(folder: Path, statistics: Statistics) -> None:
    with pytest.raises(MismatchError, match="words would find less without a sign"):
        check_golden_words(folder, Words(read_sparse(folder), statistics))


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        value = json.loads((folder / GOLDEN_WORDS_FILE).read_text())
        change(value)
        (folder / GOLDEN_WORDS_FILE).write_text(json.dumps(value))

    return edit


def one_weight(value: dict[str, Any]) -> None:
    entry = next(entry for entry in value["golden"] if entry["query"])
    entry["query"][0][1] += 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edited(one_weight), "the query .* has the terms"),
        (edited(lambda value: value["golden"][5]["document"].pop()), "the document .* has the terms"),
        (edited(lambda value: value.update(schema=2)), "schema is 2, this code reads 1"),
        (edited(lambda value: value.pop("golden")), "no golden words of schema 1"),
        (edited(lambda value: value.update(golden=[{"text": "a"}])), "no golden words of schema 1"),
        (edited(lambda value: value.update(golden=[{"text": "a", "document": [["x", "y"]], "query": []}])), "no golden words"),
        (edited(lambda value: value.update(golden=3)), "no golden words of schema 1"),
        (lambda folder: (folder / GOLDEN_WORDS_FILE).write_text("not json"), "no golden words of schema 1"),
        (lambda folder: (folder / GOLDEN_WORDS_FILE).unlink(), "is missing: the contract has words"),
    ],
)
def test_a_file_of_golden_words_that_was_changed_is_refused(folder: Path, change: Callable[[Path], object], said: str) -> None:
    words = read_words(folder)
    change(folder)
    with pytest.raises(MismatchError, match=said):
        check_golden_words(folder, words)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edited(lambda value: value.pop("contract")), "has no sparse contract"),
        (edited(lambda value: value["contract"].pop("language")), "has no sparse contract"),
        (edited(lambda value: value["contract"].update(stemmer="new")), "has no sparse contract"),
        (lambda folder: (folder / GOLDEN_WORDS_FILE).write_text("[]"), "has no sparse contract"),
        (lambda folder: (folder / GOLDEN_WORDS_FILE).unlink(), "does not exist: make it first"),
        (lambda folder: (folder / STATISTICS_FILE).unlink(), "is missing: the contract names corpus statistics"),
        (edited(lambda value: value["contract"].update(language="german")), "has the terms"),
    ],
)
def test_a_folder_that_is_not_whole_gives_no_words(folder: Path, change: Callable[[Path], object], said: str) -> None:
    change(folder)
    with pytest.raises(MismatchError, match=said):
        read_words(folder)
