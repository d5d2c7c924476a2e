"""Text to terms: the terms of texts in many scripts, written out by hand, and the laws that hold for every text."""

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinline.contract.encoder.golden_texts import GOLDEN_TEXTS
from twinline.contract.encoder.sparse_settings import ANALYZER_VERSIONS, LANGUAGE_NAMES, NO_LANGUAGE
from twinline.contract.errors import MismatchError
from twinline.contract.sparse import analyzer, golden
from twinline.contract.sparse.analyzer import Analyzer, pieces, words
from twinline.contract.sparse.golden import check_terms_in_code, terms_fingerprint
from twinline.contract.sparse.languages import LANGUAGES, find_language

TERMS = [
    # Latin: codes, names and addresses are terms by part and as a whole
    ("none", "AB-1234 and max_tokens", "ab 1234 ab1234 and max tokens maxtokens"),
    ("none", "max-tokens", "max tokens maxtokens"),
    ("none", "maxTokens", "maxtokens"),
    ("none", "np.linalg.norm", "np linalg norm nplinalgnorm"),
    ("none", "user@example.com", "user example com userexamplecom"),
    ("none", "c++ f# C c", "c c++ f f# c c"),
    ("none", "1,000,000 and 3.14", "1 000 000 1000000 and 3 14 314"),
    ("none", "one, two", "one two"),
    ("none", "a- --b ?!...", "a b"),
    ("none", "Zażółć Ångström", "zazołc angstrom"),
    ("none", "Ａｂｃ１２３ eﬃcient", "abc123 efficient"),
    ("english", "The cats were running quickly, flies", "cat run quick fli"),
    ("english", "running2 e-mail", "running2 e mail email"),
    (
        "english",
        "json.loads json.load KafkaConsumer consumers",
        "json load jsonloads json load jsonload kafkaconsum kafkaconsumer consum",
    ),
    ("german", "Größe GRÖSSE Straße Häuser", "gross gross strass haus"),
    ("french", "L’œuvre a été déposée", "œuvr lœuvre depos"),
    # Turkish: dotted and dotless i, capital and small, with accents and without
    ("turkish", "IŞIK ışık Işık isik ISIK", "isik isik isik isik isik"),
    ("turkish", "İstanbul istanbul ISTANBUL ıstanbul", "istanbul istanbul istanbul istanbul"),
    ("turkish", "kitaplar kitapları ve bir ev", "kitap kitap ev"),
    ("none", "İstanbul ISTANBUL ıstanbul", "istanbul istanbul istanbul"),
    # Greek, Cyrillic
    ("none", "Η αναζήτηση είναι ΓΡΉΓΟΡΗ", "η αναζητηση ειναι γρηγορη"),
    ("none", "Индекс ОБНОВЛЯЕТСЯ, ёлка й", "индекс обновляется ёлка й"),
    # Arabic, Hebrew, Devanagari: whole words, marks kept
    ("none", "البحث في الوثائق", "البحث في الوثائق"),
    ("none", "שלום עולם", "שלום עולם"),
    ("none", "दस्तावेज़ खोजें", "दस्तावेज़ खोजें"),
    # without spaces: pairs of characters
    ("none", "向量数据库", "向量 量数 数据 据库"),
    ("none", "字", "字"),
    ("none", "中a文", "中 a 文"),
    ("none", "検索エンジン", "検索 索エ エン ンジ ジン"),
    ("none", "문서 검색", "문서 검색"),
    ("none", "ค้นหา", "ค้ ้น นห หา"),
    ("none", "", ""),
]


@pytest.mark.parametrize(("language", "text", "terms"), TERMS)
def test_the_terms_of_a_text_are_these(language: str, text: str, terms: str) -> None:
    # Composed, as the analyzer gives them, whatever an editor made of this file.
    assert Analyzer(1, language).terms(text) == [unicodedata.normalize("NFC", term) for term in terms.split()]


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=60))
def test_the_short_way_for_ascii_gives_the_pieces_of_the_general_one(text: str) -> None:
    assert pieces(text) == analyzer._PIECES.findall(text)


@given(
    st.lists(
        st.sampled_from(["a", "B7", ",", ".", "-", "_", "/", "'", "+", "#", " ", "12", "::", "\n", "@", "~", "=", "&", "\\"])
    )
)
def test_the_short_way_agrees_where_words_are_joined(parts: list[str]) -> None:
    text = "".join(parts)
    assert pieces(text) == analyzer._PIECES.findall(text)


@given(st.text(max_size=80), st.sampled_from(LANGUAGE_NAMES))
def test_every_text_has_terms_and_none_is_empty(text: str, language: str) -> None:
    terms = Analyzer(1, language).terms(text)
    assert all(terms)
    assert terms == Analyzer(1, language).terms(text)


@given(st.text(max_size=40), st.text(max_size=40))
def test_the_terms_of_two_texts_are_those_of_both(first: str, second: str) -> None:
    found = Analyzer(1, "english")
    assert found.terms(f"{first}\n{second}") == found.terms(first) + found.terms(second)


@given(st.text(alphabet=string.ascii_letters + "ıİşŞğĞ ", max_size=30))
def test_turkish_capitals_and_small_letters_share_their_terms(text: str) -> None:
    capitals = text.replace("i", "İ").upper()
    small = text.replace("I", "ı").replace("İ", "i").lower()
    assert Analyzer(1, "turkish").terms(capitals) == Analyzer(1, "turkish").terms(small)


@given(
    st.text(alphabet=string.ascii_lowercase + " ", max_size=30),
    st.sampled_from([name for name in LANGUAGE_NAMES if name != "turkish"]),
)
def test_capitals_change_nothing(text: str, language: str) -> None:
    assert Analyzer(1, language).terms(text.upper()) == Analyzer(1, language).terms(text)


def test_a_long_word_is_cut_and_a_long_chain_has_no_joined_form() -> None:
    found = Analyzer(1, NO_LANGUAGE)
    assert [len(term) for term in found.terms("x" * 300)] == [128]
    chain = "-".join(["word"] * 20)
    assert found.terms(chain) == ["word"] * 20
    short = "-".join(["word"] * 3)
    assert found.terms(short) == ["word", "word", "word", "wordwordword"]


def test_the_words_for_the_detection_of_a_language_are_neither_stemmed_nor_folded() -> None:
    assert words("Die Häuser, AB-12") == ["die", "häuser", "ab", "12"]


@pytest.mark.parametrize("name", LANGUAGES)
def test_stop_words_are_as_the_analyzer_writes_words(name: str) -> None:
    """Or they would never be met."""
    language = LANGUAGES[name]
    assert all(language.stop_words)
    assert {analyzer._lower(word, dotless_i=language.dotless_i) for word in language.stop_words} == language.stop_words
    assert Analyzer(1, name).terms(" ".join(sorted(language.stop_words))) == []


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
def test_every_language_of_the_contract_has_its_rules_and_its_golden_terms(name: str) -> None:
    assert name == NO_LANGUAGE or name in LANGUAGES
    assert terms_fingerprint(name) == golden._TERMS[name]
    # all scripts of the golden texts are met
    assert len({term for text in GOLDEN_TEXTS for term in Analyzer(1, name).terms(text.text)}) > 150


def test_the_languages_of_the_contract_and_of_the_rules_are_the_same() -> None:
    assert {NO_LANGUAGE, *LANGUAGES} == set(LANGUAGE_NAMES) == set(golden._TERMS)


PROSE = {
    "english": "The index is made from the log, and it is built again when there are more documents than before.",
    "german": "Der Index wird aus dem Log gemacht, und er ist neu, wenn es mehr Dokumente gibt als vorher.",
    "french": "Les documents sont dans le journal et l'index est fait avec ce que le journal a.",
    "spanish": "Los documentos están en el registro y el índice se hace con lo que hay en él.",
    "italian": "I documenti sono nel registro e l'indice è fatto con quello che c'è nel registro.",
    "portuguese": "Os documentos estão no registo e o índice é feito com o que há no registo.",
    "dutch": "De documenten staan in het log en de index wordt gemaakt van wat er in het log is.",
    "turkish": "Belgeler bir günlükte ve dizin bu günlük ile yapılır, daha çok belge için de bir yol var.",
    "none": "Индекс обновляется без остановки и никогда не бывает старым.",
}


@pytest.mark.parametrize("name", PROSE)
def test_the_language_of_a_corpus_is_found_by_its_stop_words(name: str) -> None:
    counts: dict[str, int] = {}
    for word in words(PROSE[name]):
        counts[word] = counts.get(word, 0) + 1
    assert find_language(counts) == name


def test_no_words_are_in_no_language() -> None:
    assert find_language({}) == NO_LANGUAGE
    assert find_language({"ab1234": 50, "the": 1}) == NO_LANGUAGE


@pytest.mark.parametrize(("version", "language", "said"), [
    (2, "none", r"version is 2, this code knows \[1\]"),
    (0, "english", "version is 0"),
    (ANALYZER_VERSIONS[-1], "klingon", "language is 'klingon', this code knows"),
    (1, "English", "language is 'English'"),
    (1, "", "language is ''"),
])  # fmt: skip
def test_an_unknown_version_or_language_is_refused(version: int, language: str, said: str) -> None:
    with pytest.raises(MismatchError, match=said):
        Analyzer(version, language)


def test_a_process_whose_terms_differ_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_terms_in_code()
    monkeypatch.setitem(golden._TERMS, "dutch", "0" * 64)
    with pytest.raises(MismatchError, match=r"golden check of words in dutch: .*PyStemmer is .*constraints\.txt"):
        check_terms_in_code()
