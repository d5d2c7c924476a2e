"""Names and codes: told from words, weighed above every sentence where they are rare, and fused so that they come first."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.sparse.analyzer import Analyzer
from twinline.contract.sparse.fusion import NAMED_DENSE_PERCENT, RULES, Candidate, Fusion, fuse
from twinline.contract.sparse.ids import term_id
from twinline.contract.sparse.names import names
from twinline.contract.sparse.statistics import Statistics
from twinline.contract.sparse.vector import LARGEST_WEIGHT, NAME_WEIGHT, Sparse
from twinline.contract.sparse.weights import (
    HIGHEST_RARITY,
    MOST_NAMED_CHUNKS,
    MOST_QUERY_WEIGHT,
    SATURATION_STEPS,
    Words,
    score,
)

OLD = SparseContract(1, "english", 1, 90, 40, "0" * 64)
NEW = replace(OLD, weights=2)
# 40 chunks of prose; `E4711` in one, `common_name` in all but the last, `in_ten` in ten and `in_eleven` in eleven.
CORPUS = [
    f"people ask what it means number{number} common_name " + "in_ten " * (number < 10) + "in_eleven " * (number < 11)
    for number in range(39)
] + ["the pump stops with E4711 and a light"]


def words_of(contract: SparseContract = NEW, corpus: list[str] = CORPUS) -> Words:
    analyzer = Analyzer(1, contract.language)
    return Words(contract, Statistics.count(analyzer.terms(text) for text in corpus))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("error E4711 at once", ["E4711"]),
        ("AB-1234 and ORA-00942, SQLSTATE 42P01", ["AB-1234", "ORA-00942", "SQLSTATE", "42P01"]),
        ("set max_tokens in __init__", ["max_tokens"]),
        ("maxTokens, TypeError and iPhone", ["maxTokens", "TypeError", "iPhone"]),
        ("call np.linalg.norm", ["np.linalg.norm"]),
        ("version 3.10.2 of v1.2", ["3.10.2", "v1.2"]),
        ("error 10054 in 1998", ["10054"]),  # a year is none
        ("part 4711-0815 or 12-345-6, 12-34", ["4711-0815", "12-345-6"]),
        ("between 0.92-0.99 and 3.5, 10-20", []),
        ("connect: ECONNREFUSED", ["ECONNREFUSED"]),
        ("ECONNREFUSED", ["ECONNREFUSED"]),
        ("CONNECTION REFUSED BY XJ-900", ["XJ-900"]),  # all in capitals: only the code stands out
        ("HIF-1α und IL-6", ["HIF-1α", "IL-6"]),
        ("İSTANBUL34 ve ıspartaKodu", ["İSTANBUL34", "ıspartaKodu"]),
        ("the 20th of May, 10mg, 5-year, 3.5 %", []),
        ("e.g. i.e. follow-up and/or don't", []),
        ("the end.The next", []),
        ("東京都 2020", []),
        ("", []),
        ("a" * 40 + "_" + "b" * 40, []),  # too long for a joined form
    ],
)
def test_names_and_codes_are_told_from_words(text: str, found: list[str]) -> None:
    assert names(text) == found


@given(st.text(max_size=80))
def test_any_text_has_names_only_among_its_pieces(text: str) -> None:
    assert all(3 <= len(name) <= 64 for name in names(text))


@pytest.mark.parametrize("query", ["E4711", "what does it mean when people ask about E4711", "e4711 means that people ask"])
def test_the_chunk_with_a_rare_name_comes_first_by_words_whatever_the_sentence_says(query: str) -> None:
    words = words_of()
    asked = words.query(query)
    assert asked.has_rare_name
    scores = [score(asked, words.document(text)) for text in CORPUS]
    assert max(range(len(CORPUS)), key=lambda row: scores[row]) == len(CORPUS) - 1


@pytest.mark.parametrize(
    ("query", "rare"),
    [
        ("in_ten", True),
        ("in_eleven", False),  # as frequent as a word
        ("common_name", False),
        ("never_seen", True),  # a document of tomorrow may have it
        ("people ask what it means", False),
        ("the", False),
        ("", False),
    ],
)
def test_a_name_is_rare_in_ten_chunks_at_most(query: str, rare: bool) -> None:
    assert MOST_NAMED_CHUNKS == 10
    assert words_of().query(query).has_rare_name is rare
    assert not words_of(OLD).query(query).has_rare_name, "an older release weighs as it always did"


def test_only_the_whole_name_weighs_more_and_not_its_parts() -> None:
    old, new = words_of(OLD).query("pump part AB-1234"), words_of().query("pump part AB-1234")
    assert old.ids == new.ids
    more = {id_: after - before for id_, before, after in zip(old.ids, old.weights, new.weights, strict=True)}
    assert {id_ for id_, by in more.items() if by} == {term_id("ab1234")}
    assert more[term_id("ab1234")] == NAME_WEIGHT == HIGHEST_RARITY + 1


def test_documents_and_queries_without_a_name_are_what_they_were() -> None:
    old, new = words_of(OLD), words_of()
    assert [old.document(text) for text in CORPUS] == [new.document(text) for text in CORPUS]
    for query in ("people ask", "the pump stops", "what it means", "common_name", "20th of 1998"):
        assert old.query(query) == new.query(query)


@given(st.lists(st.sampled_from([f"code_{number}" for number in range(90)] + ["pump", "light"]), max_size=120))
def test_many_names_stay_within_what_float32_holds(terms: list[str]) -> None:
    words = words_of()
    asked = words.query(" ".join(terms))
    assert sum(asked.weights) <= MOST_QUERY_WEIGHT
    highest = SATURATION_STEPS * sum(asked.weights)
    assert highest < LARGEST_WEIGHT
    assert highest == int(np.float32(highest))
    assert bool(asked.ids) == bool(terms)


def test_without_a_corpus_a_name_is_rare() -> None:
    words = Words(NEW, Statistics())
    assert words.query("the pump stops with E4711").has_rare_name
    assert not words.query("the pump stops").has_rare_name


# --- fusion ---

NAMED, PLAIN = Sparse((1, 2), (300, NAME_WEIGHT + 300)), Sparse((1, 2), (300, HIGHEST_RARITY))
# The chunk with the code is the last one by its vector.
CASE = [Candidate("near", 0.9, 0.0), Candidate("middle", 0.6, 20.0), Candidate("code", 0.1, 100.0)]


@pytest.mark.parametrize(
    ("fusion", "percent"),
    [
        (Fusion("scores", dense_percent=50), NAMED_DENSE_PERCENT),
        (Fusion("scores", dense_percent=100), NAMED_DENSE_PERCENT),
        (Fusion("scores", dense_percent=20), 20),
        (Fusion("ranks", k=60), NAMED_DENSE_PERCENT),
        (Fusion("ranks", k=0, depth=7), NAMED_DENSE_PERCENT),
    ],
)
def test_a_query_with_a_rare_name_is_fused_by_scores_with_little_of_the_cosine(fusion: Fusion, percent: int) -> None:
    assert fusion.of(NAMED) == replace(fusion, rule="scores", dense_percent=percent)
    assert fusion.of(PLAIN) == fusion
    assert fusion.of(Sparse((), ())) == fusion
    assert fuse(fusion.of(NAMED), CASE)[0].candidate.id == "code"


@pytest.mark.parametrize("rule", RULES)
def test_version_1_and_vectors_alone_know_no_names(rule: str) -> None:
    old = Fusion(rule, version=1)  # type: ignore[arg-type]
    assert old.of(NAMED) == old
    assert Fusion("dense").of(NAMED) == Fusion("dense")


def test_half_and_half_a_code_would_tie_with_the_nearest_chunk_and_lose() -> None:
    """The code's share of words is 1 and of the cosine 0, the nearest chunk's the other way round."""
    assert fuse(Fusion(version=1).of(NAMED), CASE)[0].candidate.id == "near"
