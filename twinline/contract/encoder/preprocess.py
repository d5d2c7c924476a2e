"""The one entry into pre-processing: documents to chunks, queries to clean text, texts to token ids.

Training, export, Triton's tokenizer model, the consumer and search all come through here:

    document ──clean──> clean text ──chunk──> chunks ──encode(role document)──> token ids
    query    ──clean──> clean text ─────────────────────encode(role query)────> token ids
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from twinline.contract.documents.cleaning import clean
from twinline.contract.documents.records import Document
from twinline.contract.encoder.chunking import Chunk, Chunker, encoder_text_hash, raw_span
from twinline.contract.encoder.limits import MAX_QUERY_CHARS
from twinline.contract.encoder.selfcheck import check_process
from twinline.contract.encoder.specification import Contract, Role
from twinline.contract.encoder.tokens import Encoded, TokenEncoder
from twinline.contract.errors import DocumentError

# Room for tokens that appear only where lead and piece meet, tried in turn. Text still cut off after the last try (a limit of a
# few tokens, a piece that cannot be split) is flagged on its chunk.
_SPARE_TOKENS = (0, 8, 16)


class Preprocessor:
    """A contract made runnable. Thread-safe: nothing is changed after construction but caches of equal values."""

    def __init__(self, contract: Contract, tokenizer_json: bytes) -> None:
        check_process()
        self.contract = contract
        self.tokenizer_json = tokenizer_json
        self._chunker = Chunker(contract, tokenizer_json)
        self._tokens = TokenEncoder(contract.vector, tokenizer_json)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `contract.json` and `tokenizer.json` of an encoder or a release.

        Raises:
            MismatchError: a file is missing or is not what the contract says.
        """
        return cls(*Contract.load(folder))

    @property
    def pad_id(self) -> int:
        """Return the token id that fills a padded row."""
        return self._tokens.pad_id

    def chunks(self, document: Document) -> list[Chunk]:
        """Cut a document; at least one chunk, and a document that is only a title is a chunk of its title.

        Raises:
            DocumentError: nothing is left after cleaning (`no_text`).
        """
        rules = self.contract.index.cleaning
        cleaned, title = clean(document.text, rules), clean(document.title, rules).text
        lead = self._chunker.lead(title)
        for spare_tokens in _SPARE_TOKENS:
            spans = self._chunker.spans(cleaned.text, lead, spare_tokens)
            if not spans:
                if not lead:
                    raise DocumentError("no_text", f"{document.place}: no text is left after cleaning: nothing to index")
                spans = [(0, 0)]
            encoder_texts = [(lead + cleaned.text[start:end]).rstrip() for start, end in spans]
            encoded = self.encode(encoder_texts, "document")
            if self.contract.index.chunker.name == "none" or not encoded.truncated.any():
                break
        return [
            Chunk(
                index=index,
                start=raw[0],
                end=raw[1],
                text=cleaned.text[start:end],
                encoder_text=encoder_text,
                token_count=int(encoded.token_counts[index]),
                truncated=bool(encoded.truncated[index]),
                content_hash=encoder_text_hash(encoder_text),
            )
            for index, ((start, end), encoder_text) in enumerate(zip(spans, encoder_texts, strict=True))
            for raw in [raw_span(cleaned, start, end)]
        ]

    def query_text(self, raw: str) -> str:
        """Return a query's text for `embed`: cleaned by the same rules as documents.

        Raises:
            DocumentError: the query is empty (`empty_query`) or too long (`query_too_long`).
        """
        if len(raw) > MAX_QUERY_CHARS:
            raise DocumentError("query_too_long", f"the query has {len(raw)} characters, the limit is {MAX_QUERY_CHARS}")
        try:
            raw.encode()
        except UnicodeEncodeError as exc:
            raise DocumentError("lone_surrogate", f"the query has half a surrogate pair at {exc.start}") from exc
        text = clean(raw, self.contract.index.cleaning).text
        if not text:
            raise DocumentError("empty_query", "the query is empty: type at least one word")
        return text

    def encode(self, texts: Sequence[str], role: Role) -> Encoded:
        """Tokenise texts under a role; see `TokenEncoder.encode`."""
        return self._tokens.encode(texts, role)

    def count_tokens(self, text: str, role: Role) -> int:
        """Return how many tokens a text has under a role, prefix and special tokens included, the limit left out."""
        return self._chunker.count(self.contract.vector.prefix(role) + text, special=True)
