"""Faults of code: rules changed under an old version number, and a search service with wrong query vectors."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final
from unittest.mock import patch
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from proofs.skew.faults import Fault, Plant, Planting, code
from proofs.skew.faults_consumer import EncoderOf, Wrong
from proofs.skew.system import System
from twinline.clients.release import Release, open_release
from twinline.clients.settings import Settings
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.contract.canonical import JSON
from twinline.contract.documents.cuts_by_offsets import spans
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.specification import Role
from twinline.contract.encoder.tokens import Encoded, TokenEncoder

_START: Final = ("process start",)
_RULES: Final = "rules in code"
_SEARCH: Final = "search"


class _Shorter:
    """Stands in for the splitter's class, like another version of the library."""

    @staticmethod
    def from_huggingface_tokenizer(tokenizer: Tokenizer, capacity: int, overlap: int) -> TextSplitter:
        return TextSplitter.from_huggingface_tokenizer(tokenizer, capacity - 1, overlap)


def _token_earlier(tokenizer: Tokenizer, text: str, capacity: int, overlap: int) -> Iterator[tuple[int, int]]:
    return spans(tokenizer, text, capacity - 1, overlap)


def _json_with_spaces(value: JSON) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _without_special_tokens(self: TokenEncoder, texts: Sequence[str], role: Role) -> Encoded:
    encodings = self._tokenizer.encode_batch([self._vector.prefix(role) + text for text in texts], add_special_tokens=False)
    counts = np.array([len(encoding.ids) for encoding in encodings], dtype=np.int32)
    return Encoded([encoding.ids for encoding in encodings], counts, np.zeros(len(counts), dtype=np.bool_))


def _largest(hidden: NDArray[np.float32], mask: NDArray[np.int64], pooling: str) -> NDArray[np.float32]:
    return np.asarray(hidden.max(axis=1))


def _rule_changed(name: str) -> Plant:
    return lambda _: patch.dict("twinline.contract.documents.cleaning._RULES", {(name, 1): lambda text: ()})


def _searching_with(make: Callable[[System, Embedder], Embedder]) -> Plant:
    """Return a planting of a search service with other query vectors."""

    def plant(system: System) -> Planting:
        def open_otherwise(settings: Settings, release: str, query_seconds: float | None = None) -> Release:
            opened = open_release(settings, release, query_seconds)
            return replace(opened, embedder=make(system, opened.embedder))

        return patch("twinline.search.opening.open_release", open_otherwise)

    return plant


def _b(system: System) -> Embedder:
    return TritonEmbedder(system.settings.triton_grpc_address, system.b.release, system.b.space)


FAULTS: Final = (
    Fault("rule_nfc", "the cleaning rule nfc@1 does nothing any more", _RULES, _START, _rule_changed("nfc"), short=True),
    Fault("rule_spaces", "the cleaning rule spaces@1 does nothing any more", _RULES, _START, _rule_changed("spaces")),
    Fault("rule_point_id", "point ids are made in another namespace", _RULES, _START,
          code("twinline.contract.documents.ids._NAMESPACE", UUID(int=7))),
    Fault("rule_splitter", "the library of chunker@1 cuts a token earlier", _RULES, _START,
          code("twinline.contract.documents.cuts_by_splitter.TextSplitter", _Shorter)),
    Fault("rule_sections", "chunker@1 cuts long texts into shorter sections first", _RULES, _START,
          code("twinline.contract.documents.cuts_by_splitter.SECTION_CHARS", 2_048)),
    Fault("rule_offsets", "chunker@2 cuts a token earlier", _RULES, _START,
          code("twinline.contract.documents.cuts_by_offsets.spans", _token_earlier)),
    Fault("rule_long_words", "chunker@2 cuts long words into shorter pieces", _RULES, _START,
          code("twinline.contract.documents.cuts_by_offsets.LEAST_CHARS", 2_048)),
    Fault("rule_sentences", "chunker@2 knows no sentence that no space follows", _RULES, _START,
          code("twinline.contract.documents.boundaries.BREAK", re.compile(r"\n\s*|[.!?]+(?=\s)"))),
    Fault("rule_clusters", "chunker@2 cuts joined emoji apart", _RULES, _START,
          code("twinline.contract.documents.cuts_by_offsets.splits_cluster", lambda text, position: False)),
    Fault("rule_canonical_form", "fingerprints are made of JSON with spaces", _RULES, _START,
          code("twinline.contract.canonical.canonical_json", _json_with_spaces)),
    Fault("code_special_tokens", "the tokenizers' library adds no special tokens", _RULES, ("consumer start", "tokens"),
          code("twinline.contract.encoder.tokens.TokenEncoder.encode", _without_special_tokens)),
    Fault("code_pooling", "the framework side pools by the largest value", _RULES, ("training framework",),
          code("export.encoder.reference.pool", _largest)),
    Fault("search_as_document", "search embeds queries under the role `document`", _SEARCH, ("search",),
          _searching_with(lambda _, right: Wrong(right, role="document")), short=True),
    Fault("search_prefix_twice", "search puts the role prefix before queries, too", _SEARCH, ("search",),
          _searching_with(lambda _, right: Wrong(right, text=lambda text: "query: " + text))),
    Fault("search_cut", "search asks by the first two words of a query", _SEARCH, ("search",),
          _searching_with(lambda _, right: Wrong(right, text=lambda text: " ".join(text.split(" ")[:2])))),
    Fault("search_encoder_of_b", "search asks A's collection with the encoder of B", _SEARCH, ("query",),
          _searching_with(lambda system, _: _b(system))),
    Fault("search_encoder_of_b_unsaid", "the same, and the answers say that they are of A's space", _SEARCH, ("search",),
          _searching_with(lambda system, right: EncoderOf(_b(system), right.space))),
)  # fmt: skip
