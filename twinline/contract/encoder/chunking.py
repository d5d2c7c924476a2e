"""Chunking: a clean text is cut into pieces that fit the encoder, with their spans in the raw text."""

import hashlib
from dataclasses import dataclass
from typing import Final

from tokenizers import Tokenizer

from twinline.contract.documents import cuts_by_offsets
from twinline.contract.documents.cleaning import CleanText
from twinline.contract.documents.cuts_by_splitter import SplitterCuts
from twinline.contract.encoder.specification import Contract

# The fewest tokens for which room is made in a chunk.
_LEAST_TOKENS: Final = 8


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document that fits the encoder.

    `start` and `end` are code points into the document's raw text. `text` is the clean piece; `encoder_text` is what is sent to
    `embed` with the role `document`: the title and a space before it, where the contract says so. `token_count` counts what the
    encoder reads, prefix and special tokens included, after truncation. `content_hash` covers all that decides the vector
    besides the encoder: the same hash in the same space is the same vector.
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
    """Cuts texts under one contract, by the version of the rule that it names."""

    def __init__(self, contract: Contract, tokenizer_json: bytes) -> None:
        self._settings = contract.index.chunker
        self._vector = contract.vector
        # A counting tokenizer: no truncation, or a long piece would look like one that fits.
        self._tokenizer = Tokenizer.from_str(tokenizer_json.decode())
        self._tokenizer.no_truncation()
        self._special_tokens = len(self._tokenizer.encode("").ids)
        self._splitters = SplitterCuts(self._tokenizer)

    def lead(self, title: str) -> str:
        """Return what stands before each piece in the encoder's text: the title, cut at its limit, and a space."""
        if self._settings.title == "omit" or not title:
            return ""
        if self._settings.name == "tokens":
            offsets = self._tokenizer.encode(title, add_special_tokens=False).offsets
            if len(offsets) > self._settings.title_max_tokens:
                title = title[: offsets[self._settings.title_max_tokens - 1][1] if self._settings.title_max_tokens else 0]
        return title + " " if title else ""

    def spans(self, text: str, lead: str, spare_tokens: int = 0) -> list[tuple[int, int]]:
        """Return spans of clean text that, with the lead before them, fit the encoder; none where there is no text.

        Args:
            text: the clean text.
            lead: what stands before each piece, from `lead()`.
            spare_tokens: how many tokens to leave free. Lead and piece together may have more tokens than each alone
                (byte-level vocabularies merge across the seam): the caller asks again with room for that.
        """
        if self._settings.name == "none":
            return [(0, len(text))] if text else []
        capacity = self._vector.max_tokens - self._special_tokens - self.count(self._vector.document_prefix + lead)
        overlap = self._settings.overlap_tokens
        if self._settings.version == 1:
            return list(self._splitters.spans(text, capacity - spare_tokens, overlap))
        # Where the lead leaves no room nothing fits, and where spare tokens would leave none they take less: a chunk for every
        # token would help nobody.
        capacity = capacity if capacity > 0 else _LEAST_TOKENS
        capacity = max(capacity - spare_tokens, min(capacity, _LEAST_TOKENS))
        return list(cuts_by_offsets.spans(self._tokenizer, text, capacity, overlap))

    def count(self, text: str, *, special: bool = False) -> int:
        """Return the number of tokens of a text, without the limit."""
        return len(self._tokenizer.encode(text, add_special_tokens=special).ids)


def raw_span(cleaned: CleanText, start: int, end: int) -> tuple[int, int]:
    """Return the raw span of a clean one; an empty one (a document that is only a title) stays at the start."""
    return (0, 0) if start == end else cleaned.raw_span(start, end)


def encoder_text_hash(encoder_text: str) -> str:
    """Return the hash of what the encoder reads, 64 hexadecimal digits."""
    return hashlib.sha256(encoder_text.encode()).hexdigest()
