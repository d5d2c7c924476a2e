"""Faults of code: rules changed under an old version number, and a search service with wrong query vectors."""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from proofs.skew.faults import Fault, Plant, Planting, code
from proofs.skew.faults_consumer import OTHER_STEMMER, EncoderOf, Wrong, case_kept, words_of, words_under
from proofs.skew.system import System
from twinline.clients.release import Release, open_release
from twinline.clients.settings import Settings
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.contract.canonical import JSON
from twinline.contract.documents.cuts_by_offsets import spans
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.specification import Role
from twinline.contract.encoder.tokens import Encoded, TokenEncoder
from twinline.contract.sparse.analyzer import _IS_UNSPACED, _PIECES, _parts
from twinline.contract.sparse.languages import LANGUAGES
from twinline.contract.sparse.weights import Words

_START: Final = ("process start",)
_RULES: Final = "rules in code"
_SEARCH: Final = "search"
_WORDS: Final = "rules of words"
_CONSUMER: Final = ("consumer start",)
_QUERY_WORDS: Final = ("query words",)
_FUSION: Final = ("fusion",)


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


def _searching_from(change: Callable[[System, Release], Release]) -> Plant:
    """Return a planting of a search service that opens the release otherwise."""

    def plant(system: System) -> Planting:
        def open_otherwise(settings: Settings, release: str, query_seconds: float | None = None) -> Release:
            return change(system, open_release(settings, release, query_seconds))

        return patch("twinline.search.opening.open_release", open_otherwise)

    return plant


def _searching_with(make: Callable[[System, Embedder], Embedder]) -> Plant:
    """Return a planting of a search service with other query vectors."""
    return _searching_from(lambda system, opened: replace(opened, embedder=make(system, opened.embedder)))


def _searching_by(change: Callable[[Words], Words]) -> Plant:
    """Return a planting of a search service with other words."""
    return _searching_from(lambda _, opened: replace(opened, words=opened.words and change(opened.words)))


def _language(name: str, **fields: Any) -> Plant:
    """Return a planting of a language with other fields."""
    return lambda _: patch.dict(LANGUAGES, {name: replace(LANGUAGES[name], **fields)})


def _fused_by(**fields: Any) -> Plant:
    """Return a planting of a search service with another fusion."""
    return _searching_from(lambda _, opened: replace(opened, fusion=replace(opened.fusion, **fields)))


def _single_characters(piece: str) -> tuple[list[str], str]:
    return (list(piece), "") if _IS_UNSPACED.match(piece) else _parts(piece)


def _pieces_as_written(text: str) -> list[str]:
    return _PIECES.findall(text)


def _other_id(term: str) -> int:
    return zlib.crc32(term.encode())


def _older_rarity(frequency: int, chunks: int) -> int:
    return round(64 * math.log((chunks + 1) / frequency))


# Without a stop word in any language.
_NO_STOP_WORDS: Final = {name: replace(language, stop_words=frozenset()) for name, language in LANGUAGES.items()}


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
    Fault("words_stop_word", "one English stop word fewer", _WORDS, _CONSUMER,
          _language("english", stop_words=LANGUAGES["english"].stop_words - {"the"})),
    Fault("words_stemmer", "English is stemmed by an older algorithm", _WORDS, _CONSUMER, _language("english", stemmer="porter")),
    Fault("words_dotless_i", "the capital I of Turkish becomes a dotted i", _WORDS, _CONSUMER,
          _language("turkish", dotless_i=False)),
    Fault("words_marks", "marks stay on Latin letters", _WORDS, _CONSUMER,
          code("twinline.contract.sparse.analyzer._fold", lambda word: word)),
    Fault("words_case", "words keep their case", _WORDS, _CONSUMER, code("twinline.contract.sparse.analyzer._lower", case_kept)),
    Fault("words_pairs", "scripts without spaces are cut into single characters", _WORDS, _CONSUMER,
          code("twinline.contract.sparse.analyzer._parts", _single_characters)),
    Fault("words_joined", "joined words have no term of their own", _WORDS, _CONSUMER,
          code("twinline.contract.sparse.analyzer._LONGEST_JOINED", 0)),
    Fault("words_normal_form", "full-width letters and ligatures stay as they are", _WORDS, _CONSUMER,
          code("twinline.contract.sparse.analyzer.pieces", _pieces_as_written)),
    Fault("words_ids", "ids of terms are made by another hash", _WORDS, _CONSUMER,
          code("twinline.contract.sparse.weights.term_id", _other_id)),
    Fault("words_saturation", "weights of terms have a step fewer", _WORDS, _CONSUMER,
          code("twinline.contract.sparse.weights.SATURATION_STEPS", 254)),
    Fault("words_rarity", "rarity is the older formula", _WORDS, _CONSUMER,
          code("twinline.contract.sparse.weights._rarity", _older_rarity)),
    Fault("words_names", "rare names and codes weigh as other words do", _WORDS, _CONSUMER,
          code("twinline.contract.sparse.weights.names", lambda text: [])),
    Fault("search_words_case", "search does not lower-case words", _SEARCH, _QUERY_WORDS,
          _searching_by(words_under("twinline.contract.sparse.analyzer._lower", case_kept))),
    Fault("search_words_stop_words", "search keeps stop words", _SEARCH, _QUERY_WORDS,
          _searching_by(words_under("twinline.contract.sparse.analyzer.LANGUAGES", _NO_STOP_WORDS))),
    Fault("search_words_stemmer", "search stems words as another language's", _SEARCH, _QUERY_WORDS,
          _searching_by(OTHER_STEMMER)),
    Fault("search_words_rarity", "search weighs words by another corpus", _SEARCH, _QUERY_WORDS,
          _searching_by(words_of(statistics={"chunks": 1_000_000})), short=True),
    Fault("search_words_none", "search has no words", _SEARCH, _QUERY_WORDS,
          _searching_from(lambda _, opened: replace(opened, words=None))),
    Fault("fusion_rule", "search fuses by ranks where the release says scores", _SEARCH, _FUSION, _fused_by(rule="ranks")),
    Fault("fusion_weight", "search gives the vectors a fifth of the weight", _SEARCH, _FUSION, _fused_by(dense_percent=20)),
    Fault("fusion_version", "search fuses by the version that knows no names", _SEARCH, _FUSION, _fused_by(version=1)),
    Fault("fusion_dense", "search ranks by vectors alone", _SEARCH, _FUSION, _fused_by(rule="dense")),
    Fault("fusion_depth", "search fuses the first five chunks of either side", _SEARCH, _FUSION, _fused_by(depth=5)),
    Fault("fusion_one_side", "a chunk that one side listed has nothing on the other", _SEARCH, _FUSION,
          code("twinline.search.candidates._complete", lambda collection, asks, lists: None)),
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
