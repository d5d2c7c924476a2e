"""Span maps: a chunk's words lead to the same code points of the document as cleaning itself says, and survive storage."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinline.contract.documents.cleaning import DEFAULT_CLEANING, clean
from twinline.contract.documents.span_map import SpanMap, raw_edges
from twinline.contract.errors import MismatchError

RAW = st.text(
    st.sampled_from("ab \t\r\n\u0301\u0308eiIıİ\u0307\u1100\u1161\u11a8\x00\x07\u200b\ufeff\u0958\u212b文🎉👩\u200d\"'.0"),
    max_size=60,
)


@settings(deadline=None)
@given(RAW, st.data())
def test_every_span_of_a_chunk_leads_where_cleaning_leads(raw: str, data: st.DataObject) -> None:
    cleaned = clean(raw, DEFAULT_CLEANING)
    if not cleaned.text:
        return
    start = data.draw(st.integers(0, len(cleaned.text) - 1))
    end = data.draw(st.integers(start + 1, len(cleaned.text)))
    spans = SpanMap.of(cleaned, start, end)
    assert (spans.start, spans.end) == cleaned.raw_span(start, end)
    first = data.draw(st.integers(start, end - 1))
    last = data.draw(st.integers(first + 1, end))
    assert spans.raw_span(first - start, last - start) == cleaned.raw_span(first, last)
    stored = json.loads(json.dumps(spans.to_json()))
    assert SpanMap.from_json(spans.start, spans.end, stored, "point") == spans


@settings(deadline=None)
@given(RAW, st.data())
def test_a_map_is_found_again_from_the_document(raw: str, data: st.DataObject) -> None:
    cleaned = clean(raw, DEFAULT_CLEANING)
    start = data.draw(st.integers(0, len(cleaned.text)))
    end = data.draw(st.integers(start, len(cleaned.text)))
    stored = SpanMap.of(cleaned, start, end)
    found = SpanMap.in_document(raw, DEFAULT_CLEANING, stored.start, stored.end, cleaned.text[start:end], "chunk")
    # Characters that cleaning makes out of one may give equal chunks at one place.
    assert (found.start, found.end) == (stored.start, stored.end)
    for first in range(end - start):
        span = found.raw_span(first, first + 1)
        assert (
            cleaned.text[start + first] in clean(raw[slice(*span)], DEFAULT_CLEANING).text
            or cleaned.text[start + first].isspace()
        )


@pytest.mark.parametrize(
    ("raw", "start", "end", "text"),
    [
        ("The tower is 43 m tall.", 0, 23, "The tower is 42 m tall."),
        ("x The tower", 0, 9, "The tower"),
        ("The tower", 0, 8, "The tower"),
        ("", 0, 9, "The tower"),
        ("The tower", 40, 49, "The tower"),
    ],
)
def test_another_version_of_the_document_is_refused(raw: str, start: int, end: int, text: str) -> None:
    with pytest.raises(MismatchError, match=r"the chunk: the document has another text at \d+ to \d+"):
        SpanMap.in_document(raw, DEFAULT_CLEANING, start, end, text, "the chunk")


@settings(deadline=None)
@given(RAW, st.integers(0, 40), st.integers(1, 40))
def test_edges_are_the_spans_of_single_characters(raw: str, start: int, length: int) -> None:
    cleaned = clean(raw, DEFAULT_CLEANING)
    end = min(start + length, len(cleaned.text))
    if start >= end:
        return
    starts, ends = raw_edges(cleaned, start, end)
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [cleaned.raw_span(i, i + 1) for i in range(start, end)]


def test_text_that_cleaning_leaves_alone_is_one_run() -> None:
    text = "nothing to clean here. " * 40
    assert SpanMap.of(clean(text, DEFAULT_CLEANING), 9, 100) == SpanMap(9, 100, ((0, 9, 9),))


def test_a_chunk_without_text_stays_at_the_start() -> None:
    assert SpanMap.of(clean("", DEFAULT_CLEANING), 0, 0) == SpanMap(0, 0, ())


def test_a_chunk_that_was_stored_without_a_map_is_cited_whole() -> None:
    assert SpanMap.from_json(10, 90, None, "point").raw_span(3, 7) == (10, 90)


@pytest.mark.parametrize(
    "runs", [[[1, 0, 0]], [[0, 0, 0], [0, 1, 1]], [[0, 0, 0], [5, 1, 1], [3, 1, 1]], [[0, 0]], [["a", 0, 0]], 3, "x"]
)
def test_a_broken_map_is_refused(runs: list[list[int]]) -> None:
    with pytest.raises(MismatchError, match=r"the point: the span map .*index the document again"):
        SpanMap.from_json(0, 9, runs, "the point")
