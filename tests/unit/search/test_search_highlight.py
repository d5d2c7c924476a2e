"""Highlighting: whole words, in any script, as ranges of the text itself."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twinline.search.highlight import highlights, segments


@pytest.mark.parametrize(
    ("text", "question", "marked"),
    [
        ("List the files", "list FILES", ["List", "files"]),
        ("recategorise cat", "cat", ["cat"]),  # whole words only
        ("call read_csv(path)", "read csv", ["read", "csv"]),  # identifiers fall apart at underscores
        ("un Café noir", "cafe", ["Café"]),  # accents do not matter
        ("un Cafe\u0301 noir", "café", ["Cafe\u0301"]),  # nor does how they are written
        ("die STRASSE", "straße", ["STRASSE"]),
        ("यह हिन्दी है", "हिन्दी", ["हिन्दी"]),  # vowel signs do not split a word
        ("機械学習は楽しい", "学習", ["学習"]),  # no spaces to go by
        ("how to do it", "how do I sort", []),  # common words say nothing
        ("to be or not to be", "to be", ["to", "be", "to", "be"]),  # unless there is nothing else
        ("anything", "", []),
        ("", "anything", []),
    ],
)
def test_the_words_of_the_question_are_marked(text: str, question: str, marked: list[str]) -> None:
    assert [text[start:end] for start, end in highlights(text, question)] == marked


@given(text=st.text(st.characters(max_codepoint=127), max_size=80), question=st.text(max_size=20))
@example(text="", question="\u094d")  # an accent alone
def test_a_text_has_the_same_words_whatever_script_stands_beside_it(text: str, question: str) -> None:
    assert highlights(text, question) == highlights(text + " \u00b7", question)


@given(text=st.text(max_size=80), question=st.text(max_size=20))
def test_ranges_are_in_order_and_apart_and_the_pieces_make_the_text(text: str, question: str) -> None:
    ranges = highlights(text, question)
    edges = [edge for span in ranges for edge in span]
    assert edges == sorted(set(edges))
    assert "".join(piece for piece, _ in segments(text, ranges)) == text
    assert [piece for piece, marked in segments(text, ranges) if marked] == [text[a:b] for a, b in ranges]
