"""The words stage: statistics of chunks as the index cuts them, the language of the corpus, golden words, equal bytes."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from export.encoder.words import WordsParams, write_words
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.encoder.specification import ChunkerSettings, make_contract
from twinline.contract.errors import SettingsError
from twinline.contract.sparse.golden import GOLDEN_WORDS_FILE, MOST_FREQUENT, read_words
from twinline.contract.sparse.ids import term_id
from twinline.contract.sparse.statistics import STATISTICS_FILE, Statistics

ENGLISH = [
    "The index is made from the log and it is built again", "A reader of the log is told where it ends",
    "There is a head for each of the documents", "The documents are cut and they are counted, one by one",
]  # fmt: skip
TURKISH = [
    "Belgeler bir günlükte ve dizin bu günlük ile yapılır",
    "Daha çok belge için de bir yol var",
    "Iğdır ve İstanbul için bir ev",
]


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    """Eight words a chunk."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    chunker = ChunkerSettings(overlap_tokens=0, title="omit", title_max_tokens=0)
    contract, own = make_contract(tokenizer.to_str().encode(), max_tokens=8, dimension=4, chunker=chunker)
    return Preprocessor(contract, own)


def documents(folder: Path, texts: list[str], name: str = "documents.parquet") -> Path:
    rows = [{"source": "s", "key": f"{name}{number}", "title": None, "text": text} for number, text in enumerate(texts)]
    schema = pa.schema([("source", pa.string()), ("key", pa.string()), ("title", pa.string()), ("text", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / name)
    return folder / name


def written(folder: Path) -> tuple[SparseContract, Statistics, dict[str, Any]]:
    words, said = read_words(folder), json.loads((folder / GOLDEN_WORDS_FILE).read_text())
    return words.contract, words.statistics, said


def test_words_are_counted_over_chunks_and_come_back(tmp_path: Path, preprocessor: Preprocessor) -> None:
    said = write_words([documents(tmp_path, ENGLISH)], preprocessor, WordsParams(), tmp_path)
    contract, statistics, facts = written(tmp_path)
    chunks = sum(-(-len(text.replace(",", " ,").split()) // 8) for text in ENGLISH)
    assert (contract.language, statistics.chunks, facts["chunks"], facts["collisions"]) == ("english", chunks, chunks, 0)
    assert f"words: {chunks} chunks" in said
    known = dict(zip(statistics.ids.tolist(), statistics.frequencies.tolist(), strict=True))
    assert known[term_id("log")] == 2
    assert known[term_id("document")] == 2, "stemmed"
    assert term_id("the") not in known, "a stop word"
    assert {"The", "the", "log"} <= {entry["text"] for entry in facts["golden"]}, "as they are written"


def test_the_same_documents_give_the_same_bytes_in_any_order_of_files(tmp_path: Path, preprocessor: Preprocessor) -> None:
    found = []
    for number, texts in enumerate([ENGLISH, ENGLISH, ENGLISH[::-1]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        half = [documents(folder, texts[:2], "documents-1.parquet"), documents(folder, texts[2:], "documents-2.parquet")]
        write_words(half, preprocessor, WordsParams(), folder)
        found.append(tuple((folder / name).read_bytes() for name in (STATISTICS_FILE, GOLDEN_WORDS_FILE)))
    assert found[0] == found[1] == found[2]


def test_the_language_is_that_of_the_corpus_unless_it_is_named(tmp_path: Path, preprocessor: Preprocessor) -> None:
    corpus = documents(tmp_path, TURKISH)
    for language, expected in (("auto", "turkish"), ("none", "none"), ("english", "english")):
        write_words([corpus], preprocessor, WordsParams(language=language), tmp_path)
        contract, _, facts = written(tmp_path)
        assert contract.language == facts["contract"]["language"] == expected


def test_without_a_corpus_all_words_weigh_alike_and_it_is_said(tmp_path: Path, preprocessor: Preprocessor) -> None:
    said = write_words([], preprocessor, WordsParams(), tmp_path)
    contract, statistics, _ = written(tmp_path)
    assert said == "words: no corpus, so all words weigh alike; language none"
    assert (contract.language, statistics.chunks, len(statistics.ids)) == ("none", 0, 0)
    assert len(set(read_words(tmp_path).query("a rare one and the others").weights)) == 1


def test_documents_without_text_are_the_consumers_to_refuse(tmp_path: Path, preprocessor: Preprocessor) -> None:
    write_words([documents(tmp_path, ["", "   ", "\x00", *ENGLISH])], preprocessor, WordsParams(), tmp_path)
    whole = tmp_path / "whole"
    whole.mkdir()
    write_words([documents(whole, ENGLISH)], preprocessor, WordsParams(), whole)
    assert (tmp_path / STATISTICS_FILE).read_bytes() == (whole / STATISTICS_FILE).read_bytes()


def test_settings_are_the_contracts(tmp_path: Path, preprocessor: Preprocessor) -> None:
    write_words([documents(tmp_path, ENGLISH)], preprocessor, WordsParams("none", 150, 75), tmp_path)
    contract, _, _ = written(tmp_path)
    assert (contract.k1_percent, contract.b_percent) == (150, 75)


def test_golden_words_of_a_corpus_are_its_most_frequent(tmp_path: Path, preprocessor: Preprocessor) -> None:
    texts = [f"rare{number} often" for number in range(MOST_FREQUENT + 50)]
    write_words([documents(tmp_path, texts)], preprocessor, WordsParams("none"), tmp_path)
    own = [entry["text"] for entry in written(tmp_path)[2]["golden"] if entry["text"].startswith(("rare", "often"))]
    assert (own[0], len(own)) == ("often", MOST_FREQUENT)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"language": "klingon"}, "encoder.words.language is 'klingon': choose from auto, none, english"),
        ({"language": ""}, "encoder.words.language is ''"),
        ({"k1_percent": -1}, "k1_percent is -1: must be a whole number from 0 to 1000"),
        ({"k1_percent": 0.9}, "k1_percent is 0.9"),
        ({"k1_percent": True}, "k1_percent is True"),
        ({"b_percent": 101}, "b_percent is 101"),
    ],
)
def test_settings_that_no_contract_may_have_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        WordsParams(**fields)
