"""Version 1 of the chunker: `semantic-text-splitter` calls the contract's own tokenizer about fifteen times a chunk.

It stays unchanged for releases whose contract names it.
"""

from collections.abc import Iterator

from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

# The splitter's search is quadratic in texts without structure, and a tokenizer may give one token to a word of any length.
# Sections bound both. They end at a paragraph, a line or a space, if there is any.
SECTION_CHARS = 8_192


class SplitterCuts:
    """Splitters of one tokenizer. Thread-safe: two threads that make the same splitter get equal ones."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._splitters: dict[tuple[int, int], TextSplitter] = {}

    def spans(self, text: str, capacity: int, overlap: int) -> Iterator[tuple[int, int]]:
        """Yield the spans of a text, each of at most `capacity` tokens, rounded down to a multiple of eight."""
        splitter = self._splitter(capacity, overlap)
        for start, end in _sections(text):
            for offset, piece in splitter.chunk_indices(text[start:end]):
                yield start + offset, start + offset + len(piece)

    def _splitter(self, capacity: int, overlap: int) -> TextSplitter:
        # Each splitter holds a copy of the vocabulary, and titles have all lengths: steps of eight limit their number.
        capacity = max(capacity - capacity % 8, 8)
        overlap = min(overlap, capacity // 2)
        if (capacity, overlap) not in self._splitters:
            self._splitters[capacity, overlap] = TextSplitter.from_huggingface_tokenizer(self._tokenizer, capacity, overlap)
        return self._splitters[capacity, overlap]


def _sections(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while len(text) - start > SECTION_CHARS:
        end = start + SECTION_CHARS
        for separator in ("\n\n", "\n", " "):
            # Not in the first half: sections must stay large enough to split well.
            found = text.rfind(separator, start + SECTION_CHARS // 2, end)
            if found > 0:
                end = found + len(separator)
                break
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)
