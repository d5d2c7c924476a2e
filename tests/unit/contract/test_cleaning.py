import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinline.contract.documents.cleaning import DEFAULT_CLEANING, clean
from twinline.contract.errors import MismatchError

AWKWARD = st.text(
    alphabet=st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("\r\n\t \u00a0\u2028\u0301\u0307e\u1100\u1161\u11a8\u09c7\u09be\ufeff\u200bab\x00"),
    )
)


@given(AWKWARD)
def test_composing_stretch_by_stretch_is_composing_the_whole(text: str) -> None:
    assert clean(text, [("nfc", 1)]).text == unicodedata.normalize("NFC", text)


@given(AWKWARD)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean(text, DEFAULT_CLEANING).text
    assert clean(once, DEFAULT_CLEANING).text == once


@given(AWKWARD, st.data())
def test_the_raw_span_of_a_clean_piece_cleans_to_that_piece(text: str, data: st.DataObject) -> None:
    cleaned = clean(text, DEFAULT_CLEANING)
    if not cleaned.text:
        return
    start = data.draw(st.integers(0, len(cleaned.text) - 1))
    end = data.draw(st.integers(start + 1, len(cleaned.text)))
    raw_start, raw_end = cleaned.raw_span(start, end)
    assert 0 <= raw_start < raw_end <= len(text)
    # Ends may lie inside a run of white space or a composition, which the raw span then covers whole.
    assert cleaned.text[start:end].strip() in clean(text[raw_start:raw_end], DEFAULT_CLEANING).text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a\r\nb\rc", "a\nb\nc"),
        ("a \t\u00a0 b", "a b"),
        ("a\n\n\n\nb", "a\n\nb"),  # one empty line is kept: it parts paragraphs
        ("  a  ", "a"),
        ("a\x00b\ufeffc\u200bd", "abcd"),
        ("\u0928\u094d\u200d\u0928", "\u0928\u094d\u200d\u0928"),  # a joiner shapes the word: kept
        ("", ""),
        (" \n ", ""),
    ],
)
def test_default_rules(raw: str, expected: str) -> None:
    assert clean(raw, DEFAULT_CLEANING).text == expected


def test_an_unknown_rule_version_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(MismatchError, match=r"nfc@2.*nfc@1"):
        clean("x", [("nfc", 2)])
