"""Chunking: cut a clean text into pieces that fit the encoder, with their spans in the raw text."""

import hashlib
from dataclasses import dataclass
from typing import Final

from tokenizers import Tokenizer

from twinline.contract.documents import cuts_by_offsets
from twinline.contract.documents.cleaning import CleanText
from twinline.contract.documents.cuts_by_splitter import SplitterCuts
from twinline.contract.encoder.specification import Contract

# The least room for text in a chunk, in tokens.
_LEAST_TOKENS: Final = 8


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document that fits the encoder.

    `start` and `end` are code points into the document's raw text. `text` is the clean piece. `encoder_text` goes to `embed` with
    the role `document`; it has the title and a space before the piece, where the contract asks for it. `token_count` counts the
    encoder's tokens, prefix and special tokens included, after truncation. `content_hash` covers everything but the encoder that
    decides the vector: the same hash in the same space means the same vector.
    """

    index: int
    start: int
    end: int
    text: str
    encoder_text: str
    token_count: int
    truncated: bool
    content_hash: str


class Chunker:
    """Cuts texts under one contract, by its version of the chunker."""

    def __init__(self, contract: Contract, tokenizer_json: bytes) -> None:
        self._settings = contract.index.chunker
        self._vector = contract.vector
        # This tokenizer counts, so it must not truncate, or a long piece would seem to fit.
        self._tokenizer = Tokenizer.from_str(tokenizer_json.decode())
        self._tokenizer.no_truncation()
        self._special_tokens = len(self._tokenizer.encode("").ids)
        self._splitters = SplitterCuts(self._tokenizer)

    def lead(self, title: str) -> str:
        """Return the lead of each piece in the encoder's text: the title, cut at its limit, and a space."""
        if self._settings.title == "omit" or not title:
            return ""
        if self._settings.name == "tokens":
            offsets = self._tokenizer.encode(title, add_special_tokens=False).offsets
            if len(offsets) > self._settings.title_max_tokens:
                title = title[: offsets[self._settings.title_max_tokens - 1][1] if self._settings.title_max_tokens else 0]
        return title + " " if title else ""

    def spans(self, text: str, lead: str, spare_tokens: int = 0) -> list[tuple[int, int]]:
        """Return spans of clean text that fit the encoder together with the lead; none where there is no text.

        Args:
            text: the clean text.
            lead: the text before each piece, from `lead()`.
            spare_tokens: number of tokens to leave free. Lead and piece together may have more tokens than each alone, because
                byte-level vocabularies merge across the seam: the caller then asks again with room for that.
        """
        if self._settings.name == "none":
            return [(0, len(text))] if text else []
        capacity = self._vector.max_tokens - self._special_tokens - self.count(self._vector.document_prefix + lead)
        overlap = self._settings.overlap_tokens
        if self._settings.version == 1:
            return list(self._splitters.spans(text, capacity - spare_tokens, overlap))
        # Without room beside the lead nothing fits. Spare tokens leave a least room: a chunk for every token would be useless.
        capacity = capacity if capacity > 0 else _LEAST_TOKENS
        capacity = max(capacity - spare_tokens, min(capacity, _LEAST_TOKENS))
        return list(cuts_by_offsets.spans(self._tokenizer, text, capacity, overlap))

    def count(self, text: str, *, special: bool = False) -> int:
        """Return the number of tokens of a text, without the limit."""
        return len(self._tokenizer.encode(text, add_special_tokens=special).ids)


def raw_span(cleaned: CleanText, start: int, end: int) -> tuple[int, int]:
    """Return the raw span of a clean one; an empty span (a document without text) stays at the start."""
    return (0, 0) if start == end else cleaned.raw_span(start, end)


def encoder_text_hash(encoder_text: str) -> str:
    """Return the hash of an encoder text, 64 hexadecimal digits."""
    return hashlib.sha256(encoder_text.encode()).hexdigest()
