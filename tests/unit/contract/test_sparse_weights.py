"""Weights: the order of a plain BM25, in whole numbers that every engine adds up alike; statistics that come back whole."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinline.contract.canonical import sha256_hex
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.errors import ContractError, MismatchError
from twinline.contract.sparse.analyzer import Analyzer
from twinline.contract.sparse.ids import term_id
from twinline.contract.sparse.statistics import LENGTH_UNIT, STATISTICS_FILE, Statistics
from twinline.contract.sparse.vector import LARGEST_ID, LARGEST_WEIGHT, Sparse
from twinline.contract.sparse.weights import HIGHEST_RARITY, MOST_QUERY_TERMS, SATURATION_STEPS, Words, score

CONTRACT = SparseContract(1, "none", 1, 90, 40, "0" * 64)
CORPUS = [
    "red fox", "red fox jumps over red fox", "a lazy dog", "dog and fox", "green tea", "tea tea tea tea", "the fox drinks tea",
    "one long text about a dog that drinks green tea with a red fox and a very lazy cat in the rain", "rain", "rain and snow",
]  # fmt: skip
QUERIES = ["fox", "red fox", "lazy dog", "green tea", "rain snow", "fox drinks", "the cat", "nothing here", "tea tea dog"]


def statistics_of(texts: Sequence[str]) -> Statistics:
    return Statistics.count(Analyzer(1, "none").terms(text) for text in texts)


def words_of(texts: Sequence[str] = CORPUS, **fields: Any) -> Words:
    return Words(replace(CONTRACT, **fields), statistics_of(texts))


def plain_bm25(query: str, texts: Sequence[str], k1: float, b: float) -> list[float]:
    """Return BM25 as Lucene has it, by floats and strings."""
    split = [text.split() for text in texts]
    mean = sum(map(len, split)) / len(split)
    found = []
    for terms in split:
        total = 0.0
        for term in sorted(set(query.split())):
            frequency = sum(term in other for other in split)
            rarity = math.log(1 + (len(split) - max(frequency, 1) + 0.5) / (max(frequency, 1) + 0.5))
            occurrences = Counter(terms)[term]
            total += rarity * occurrences / (occurrences + k1 * (1 - b + b * len(terms) / mean)) if occurrences else 0.0
        found.append(total)
    return found


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(("k1", "b"), [(90, 40), (120, 75), (200, 0), (50, 100), (0, 40)])
def test_the_order_is_that_of_a_plain_bm25(query: str, k1: int, b: int) -> None:
    words = words_of(k1_percent=k1, b_percent=b)
    asked = words.query(query)
    found = [score(asked, words.document(text)) for text in CORPUS]
    expected = plain_bm25(query, CORPUS, k1 / 100, b / 100)
    for at, here in enumerate(CORPUS):
        assert found[at] == pytest.approx(64 * 255 * expected[at], rel=0.02, abs=64), here
        for other in range(at):
            # Half a step of rounding apart, the order may be either.
            if abs(expected[at] - expected[other]) > 0.02 * max(expected[at], expected[other]):
                assert (found[at] > found[other]) == (expected[at] > expected[other]), (here, CORPUS[other])


@given(st.lists(st.lists(st.sampled_from(["ab", "cd", "ef", "gh", "ij", "kl"]), max_size=30), min_size=1, max_size=12))
def test_every_sum_is_a_whole_number_that_float32_holds(texts: list[list[str]]) -> None:
    words = words_of([" ".join(terms) for terms in texts])
    for query in ("ab", "ab cd ef gh ij kl", "zz ab"):
        asked = words.query(query)
        for terms in texts:
            document = words.document(" ".join(terms))
            total = score(asked, document)
            assert 0 <= total < LARGEST_WEIGHT
            assert all(1 <= weight <= SATURATION_STEPS for weight in document.weights)
            assert all(1 <= weight <= HIGHEST_RARITY for weight in asked.weights)
            assert total == int(np.float32(total))


def test_the_highest_sum_that_can_be_is_below_what_float32_holds() -> None:
    assert MOST_QUERY_TERMS * SATURATION_STEPS * HIGHEST_RARITY < LARGEST_WEIGHT == 2**24


def test_a_query_keeps_its_rarest_terms() -> None:
    common = [f"common{number}" for number in range(80)]
    words = words_of([" ".join(common), " ".join([*common, "pair"]), "pair", *["other"] * 40])
    asked = words.query(" ".join([*common, "pair", "unknown"]))
    assert len(asked.ids) == MOST_QUERY_TERMS
    assert {term_id("pair"), term_id("unknown")} <= set(asked.ids)
    assert asked == words.query(" ".join(["unknown", "pair", *common[::-1]])), "the order of the words never matters"


def test_an_unknown_word_weighs_as_the_rarest() -> None:
    words = words_of()
    weights = {term: words.query(term).weights for term in ("jumps", "snow", "never", "fox", "tea")}
    assert weights["never"] == weights["jumps"] == weights["snow"], "in no chunk, and in one"
    assert weights["never"] > weights["tea"]
    assert max(max(found) for found in weights.values()) == weights["never"][0]


def test_without_a_corpus_all_words_weigh_alike() -> None:
    words = Words(CONTRACT, Statistics())
    asked = words.query("the rare fox and a code AB-12")
    assert len(set(asked.weights)) == 1
    long, short = words.document("fox " + "rain " * 50), words.document("fox")
    assert long.weights[long.ids.index(term_id("fox"))] == short.weights[0], "no length is long"
    assert Statistics.count([]).chunks == 0


def test_a_word_of_every_chunk_says_nothing_and_is_left_out() -> None:
    assert words_of([f"every{''} word{number}" for number in range(200)]).query("every").ids == ()


def test_texts_without_a_term_have_empty_vectors() -> None:
    for text in ("", "  ", "?!...", "\n\t"):
        assert words_of().document(text) == words_of().query(text) == Sparse((), ())


def test_a_vector_does_not_depend_on_what_was_asked_before() -> None:
    words, fresh = words_of(), words_of()
    for text in CORPUS:
        words.document(text)
        words.query(text)
    assert [words.document(text) for text in CORPUS] == [fresh.document(text) for text in CORPUS]


# --- statistics ---


def test_statistics_count_chunks_not_occurrences() -> None:
    found = statistics_of(CORPUS)
    known = dict(zip(found.ids.tolist(), found.frequencies.tolist(), strict=True))
    for term in ("fox", "tea", "dog", "rain", "a", "red"):
        assert known[term_id(term)] == sum(term in text.split() for text in CORPUS), term
    assert term_id("jumps") not in known, "one chunk alone is as rare as none"
    assert (found.chunks, found.collisions) == (len(CORPUS), 0)
    assert found.mean_length == sum(len(text.split()) for text in CORPUS) * LENGTH_UNIT // len(CORPUS)


def test_terms_that_share_an_id_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinline.contract.sparse.statistics.term_id", len)
    found = Statistics.count([["ab", "cd", "e"], ["ab", "fgh"], ["cd", "xyz"]])
    assert found.collisions == 2
    # both of two letters are in the first chunk: never more than there are chunks
    assert dict(zip(found.ids.tolist(), found.frequencies.tolist(), strict=True)) == {2: 3, 3: 2}


def test_ids_are_32_bits_and_rarely_shared() -> None:
    ids = {term_id(f"term{number}") for number in range(100_000)}
    assert all(0 <= identity <= LARGEST_ID for identity in ids)
    assert 100_000 - len(ids) <= 10, "n^2 / 2^33 is 1.2"
    assert term_id("fox") == 0xE1B8DD8B


@pytest.mark.parametrize("texts", [CORPUS, [], ["one"], ["same same", "same"]])
def test_statistics_come_back_and_are_the_same_bytes(texts: list[str], tmp_path: Path) -> None:
    first = statistics_of(texts).to_bytes()
    assert statistics_of(texts[::-1]).to_bytes() == first, "the order of the corpus never matters"
    (tmp_path / STATISTICS_FILE).write_bytes(first)
    loaded = Statistics.load(tmp_path / STATISTICS_FILE, sha256_hex(first))
    assert loaded.to_bytes() == first
    assert (loaded.ids == statistics_of(texts).ids).all()


def other_schema(content: bytes) -> bytes:
    return content.replace(b'\\"schema\\": 1', b'\\"schema\\": 7')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: b"not tensors", "no corpus statistics of schema 1"),
        (lambda content: content[:40], "no corpus statistics"),
        (lambda content: b"", "no corpus statistics"),
        (other_schema, "schema is 7, this code reads 1"),
        (lambda content: content.replace(b"frequencies", b"frequencyes"), "no corpus statistics"),
    ],
)
def test_a_file_that_holds_no_statistics_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    content = change(statistics_of(CORPUS).to_bytes())
    (tmp_path / STATISTICS_FILE).write_bytes(content)
    with pytest.raises(MismatchError, match=said):
        Statistics.load(tmp_path / STATISTICS_FILE, sha256_hex(content))


def test_other_statistics_than_the_contract_names_are_refused(tmp_path: Path) -> None:
    contract = replace(CONTRACT, statistics_sha256=sha256_hex(statistics_of(CORPUS).to_bytes()))
    with pytest.raises(MismatchError, match="is missing: the contract names corpus statistics"):
        Words.load(tmp_path, contract)
    (tmp_path / STATISTICS_FILE).write_bytes(statistics_of(CORPUS[1:]).to_bytes())
    with pytest.raises(MismatchError, match=r"the contract says .* weigh otherwise"):
        Words.load(tmp_path, contract)
    (tmp_path / STATISTICS_FILE).write_bytes(statistics_of(CORPUS).to_bytes())
    assert Words.load(tmp_path, contract).document("red fox") == words_of().document("red fox")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"analyzer": 2}, r"sparse analyzer is 2, this code knows \[1\]"),
        ({"language": "elvish"}, "sparse language is 'elvish'"),
        ({"weights": 3}, "sparse weights is 3"),
        ({"k1_percent": 1_001}, "k1_percent is 1001: must be a whole number from 0 to 1000"),
        ({"k1_percent": 0.9}, "k1_percent is 0.9"),
        ({"k1_percent": True}, "k1_percent is True"),
        ({"b_percent": -1}, "b_percent is -1"),
        ({"b_percent": 101}, "b_percent is 101"),
    ],
)
def test_a_contract_of_words_that_this_code_cannot_honour_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(MismatchError, match=said):
        Words(replace(CONTRACT, **fields), Statistics())


@pytest.mark.parametrize(
    ("ids", "weights", "said"),
    [
        ((1, 2), (1,), "2 ids and 1 weights"),
        ((2, 1), (1, 1), "not in ascending order"),
        ((1, 1), (1, 1), "not in ascending order"),
        ((-1,), (1,), "only 0 to"),
        ((LARGEST_ID + 1,), (1,), "only 0 to"),
        ((1,), (0,), "the weight 0"),
        ((1,), (1.5,), "the weight 1.5"),
        ((1,), (LARGEST_WEIGHT + 1,), "give integers from 1"),
    ],
)
def test_a_sparse_vector_that_no_store_could_keep_is_refused(ids: Any, weights: Any, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        Sparse(ids, weights)
