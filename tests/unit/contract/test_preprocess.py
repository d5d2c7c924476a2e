from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.contract.conftest import TEXT
from twinline.contract.documents.cleaning import clean
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import ChunkerSettings, make_contract
from twinline.contract.errors import ContractError, DocumentError


def test_every_chunk_fits_the_encoder_and_its_span_leads_back_to_the_raw_text(preprocessor: Preprocessor) -> None:
    raw = "\r\n".join([TEXT] * 6)
    chunks = preprocessor.chunks(Document("s", "k", raw, "Log and index"))
    assert len(chunks) > 5
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        assert chunk.token_count <= 32
        assert not chunk.truncated
        assert chunk.encoder_text == f"Log and index {chunk.text}"
        assert clean(raw[chunk.start : chunk.end], preprocessor.contract.index.cleaning).text == chunk.text


def test_chunks_overlap_and_together_cover_the_text(preprocessor: Preprocessor) -> None:
    # Without full stops: the splitter overlaps by whole units, and a sentence would be too long a one.
    raw = TEXT.replace(".", "") * 8
    chunks = preprocessor.chunks(Document("s", "k", raw))
    covered = set()
    for chunk in chunks:
        covered |= set(range(chunk.start, chunk.end))
    assert {i for i, character in enumerate(raw) if not character.isspace()} <= covered
    assert any(right.start < left.end for left, right in pairwise(chunks))


def test_none_is_one_chunk_whose_truncation_is_counted(tokenizer_json: bytes) -> None:
    contract, own = make_contract(
        tokenizer_json, max_tokens=32, dimension=8, chunker=ChunkerSettings("none", overlap_tokens=0, title_max_tokens=8)
    )
    (chunk,) = Preprocessor(contract, own).chunks(Document("s", "k", TEXT * 4, "Title"))
    assert (chunk.start, chunk.end) == (0, len((TEXT * 4).rstrip()))
    assert chunk.token_count == 32
    assert chunk.truncated


def test_a_document_that_is_only_a_title_is_one_chunk(preprocessor: Preprocessor) -> None:
    (chunk,) = preprocessor.chunks(Document("s", "k", " \n", "The log"))
    assert (chunk.start, chunk.end, chunk.text, chunk.encoder_text) == (0, 0, "", "The log")


def test_a_document_without_text_after_cleaning_is_refused_by_name(preprocessor: Preprocessor) -> None:
    with pytest.raises(DocumentError, match="'k'") as caught:
        preprocessor.chunks(Document("s", "k", "\x00\ufeff"))
    assert caught.value.reason == "no_text"


def test_a_long_title_is_cut_so_that_text_still_fits(preprocessor: Preprocessor) -> None:
    chunks = preprocessor.chunks(Document("s", "k", TEXT, "index " * 200))
    assert all(not chunk.truncated and chunk.text for chunk in chunks)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400), st.integers(1, 40))
def test_no_text_breaks_the_chunker(preprocessor: Preprocessor, text: str, times: int) -> None:
    document = Document("s", "k", text * times, "t")
    for chunk in preprocessor.chunks(document):
        assert chunk.token_count <= 32
        assert 0 <= chunk.start <= chunk.end <= len(document.text)


def test_unchanged_text_keeps_its_hash_and_a_changed_title_changes_it(preprocessor: Preprocessor) -> None:
    one, same, other = (preprocessor.chunks(Document("s", "k", TEXT, title))[0].content_hash for title in ("log", "log", "index"))
    assert one == same
    assert one != other


def test_role_prefixes_are_put_before_each_text(tokenizer_json: bytes) -> None:
    contract, own = make_contract(
        tokenizer_json,
        max_tokens=32,
        dimension=8,
        query_prefix="the ",
        document_prefix="index ",
        chunker=ChunkerSettings(overlap_tokens=4, title_max_tokens=8),
    )
    with_prefix = Preprocessor(contract, own)
    plain_contract, plain_own = make_contract(
        tokenizer_json, max_tokens=32, dimension=8, chunker=ChunkerSettings(overlap_tokens=4, title_max_tokens=8)
    )
    plain = Preprocessor(plain_contract, plain_own)
    assert with_prefix.encode(["log"], "query").token_ids == plain.encode(["the log"], "query").token_ids
    assert with_prefix.encode(["log"], "document").token_ids == plain.encode(["index log"], "document").token_ids


def test_padding_is_masked_and_too_short_a_length_is_refused(preprocessor: Preprocessor) -> None:
    encoded = preprocessor.encode(["log", TEXT], "document")
    input_ids, mask = encoded.padded(pad_id=preprocessor.pad_id)
    assert input_ids.shape == mask.shape == (2, 32)
    assert mask.sum(axis=1).tolist() == encoded.token_counts.tolist()
    assert encoded.truncated.tolist() == [False, True]
    assert input_ids.dtype == mask.dtype == np.int64
    with pytest.raises(ContractError, match="32 tokens"):
        encoded.padded(16)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [("", "empty_query"), (" \n\x00", "empty_query"), ("a" * 9000, "query_too_long"), ("\ud800", "lone_surrogate")],
)
def test_a_bad_query_is_refused_with_its_reason(preprocessor: Preprocessor, raw: str, reason: str) -> None:
    with pytest.raises(DocumentError) as caught:
        preprocessor.query_text(raw)
    assert caught.value.reason == reason
