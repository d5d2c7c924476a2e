"""Faults of a consumer with wrong code: it indexes a few documents by the consumer's own `handle()`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final, cast
from unittest.mock import patch

from tokenizers import Tokenizer

from bench.stored import CollectionDocuments
from proofs.skew.faults import Fault, Plant
from proofs.skew.faults_index import damaged, longest_documents
from proofs.skew.system import NothingErased, System
from streaming.dead_letters import DeadLetter
from streaming.indexer import Indexer
from twinline.clients.release import open_release
from twinline.clients.store.protocol import Collection
from twinline.clients.store.vectors import DENSE, WORDS, Dense, Vector
from twinline.contract.documents.cleaning import CleanText
from twinline.contract.documents.cuts_by_offsets import spans
from twinline.contract.encoder.chunking import Chunk
from twinline.contract.encoder.embedding import Embedder, Embeddings
from twinline.contract.encoder.specification import Role
from twinline.contract.sparse.vector import Sparse
from twinline.contract.sparse.weights import Words

_CONSUMER: Final = "consumer"
_SAMPLE: Final = ("live sample",)
# A wrong consumer writes the longest documents, so that titles, cuts and overlaps show.
_WRITTEN: Final = 3


@dataclass(frozen=True)
class Wrong:
    """An embedder that calls the right one wrongly."""

    right: Embedder
    role: Role | None = None
    text: Callable[[str], str] = str

    @property
    def space(self) -> str:
        return self.right.space

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        return self.right.embed([self.text(text) for text in texts], self.role or role)


@dataclass(frozen=True)
class EncoderOf:
    """The encoder of one release, passed off as another's."""

    right: Embedder
    space: str

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        return replace(self.right.embed(texts, role, token_counts), space=self.space)


@dataclass(frozen=True)
class WordsUnder:
    """Words that are made under other code, by dotted name."""

    right: Words
    target: str
    replacement: object

    def document(self, text: str) -> Sparse:
        with patch(self.target, self.replacement):
            return Words(self.right.contract, self.right.statistics).document(text)

    def query(self, text: str) -> Sparse:
        with patch(self.target, self.replacement):
            return Words(self.right.contract, self.right.statistics).query(text)


def words_under(target: str, replacement: object) -> Callable[[Words], Words]:
    """Return a change of words to those of other code."""
    return lambda right: cast(Words, WordsUnder(right, target, replacement))


def words_of(contract: Mapping[str, Any] | None = None, statistics: Mapping[str, Any] | None = None) -> Callable[[Words], Words]:
    """Return a change of words to those of another contract or of other statistics, by field."""
    return lambda right: Words(replace(right.contract, **(contract or {})), replace(right.statistics, **(statistics or {})))


def case_kept(word: str, *, dotless_i: bool) -> str:
    """Stand in for the lower case."""
    return word


# Another language's stemmer, and none of the right one's stop words.
OTHER_STEMMER: Final = words_of({"language": "portuguese"})


class _Sink:
    def put(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            raise RuntimeError(f"a wrong consumer set {len(letters)} messages aside: {letters[0].error}")


def _written_by(
    embedder: Callable[[System, Embedder], Embedder] = lambda _, right: right,
    code: Mapping[str, object] | None = None,
    words: Callable[[Words], Words] = lambda right: right,
) -> Plant:
    """Return a planting of a few documents, indexed again by a consumer with another embedder, other words, or other code."""

    def damage(system: System, collection: Collection) -> None:
        release = open_release(system.settings, system.a.release)
        documents = CollectionDocuments(collection)
        heads = longest_documents(collection, _WRITTEN)
        places = [documents.chunks(head.source, head.key)[0].payload for head in heads]
        messages = [system.messages[int(place["partition"]), int(place["offset"])] for place in places]
        # An unchanged text would keep its stored vector.
        collection.delete_surplus([replace(head, chunk_count=0) for head in heads])
        with ExitStack() as patched:
            for target, new in (code or {}).items():
                patched.enter_context(patch(target, new))
            wrong = replace(release, embedder=embedder(system, release.embedder), words=release.words and words(release.words))
            Indexer(collection, wrong, _Sink(), NothingErased()).handle(messages)

    return damaged(damage)


def _other_overlap(tokenizer: Tokenizer, text: str, capacity: int, overlap: int) -> Iterator[tuple[int, int]]:
    return spans(tokenizer, text, capacity, overlap // 4)


def _words_of_text_alone(chunk: Chunk, dense: Dense, words: Words) -> dict[str, Vector]:
    return {DENSE: dense, WORDS: words.document(chunk.text)}


def _embedder_of_b(system: System, right: Embedder) -> Embedder:
    return EncoderOf(open_release(system.settings, system.b.release).embedder, right.space)


FAULTS: Final = (
    Fault("consumer_role", "a consumer embedded documents under the role `query`", _CONSUMER, _SAMPLE,
          _written_by(lambda _, right: Wrong(right, role="query")), short=True),
    Fault("consumer_prefix_twice", "a consumer put the role prefix before texts, too", _CONSUMER, _SAMPLE,
          _written_by(lambda _, right: Wrong(right, text=lambda text: "passage: " + text))),
    Fault("consumer_encoder_of_b", "a consumer took the encoder of B for A's", _CONSUMER, _SAMPLE, _written_by(_embedder_of_b)),
    Fault("consumer_no_title", "a consumer did not put the title before the text", _CONSUMER, _SAMPLE,
          _written_by(code={"twinline.contract.encoder.chunking.Chunker.lead": lambda self, title: ""})),
    Fault("consumer_not_cleaned", "a consumer did not clean texts", _CONSUMER, _SAMPLE,
          _written_by(code={"twinline.contract.encoder.preprocess.clean": lambda text, rules: CleanText(text, ())})),
    Fault("consumer_lower_case", "a consumer lower-cased texts before it cut them", _CONSUMER, _SAMPLE,
          _written_by(code={"twinline.contract.encoder.preprocess.clean": lambda text, rules: CleanText(text.lower(), ())})),
    Fault("consumer_other_overlap", "a consumer cut documents with another overlap", _CONSUMER, _SAMPLE,
          _written_by(code={"twinline.contract.documents.cuts_by_offsets.spans": _other_overlap})),
    Fault("consumer_other_spans", "a consumer counted spans in clean text, not in raw", _CONSUMER, _SAMPLE,
          _written_by(code={"twinline.contract.encoder.preprocess.raw_span": lambda cleaned, start, end: (start, end)})),
    Fault("consumer_words_case", "a consumer did not lower-case words", _CONSUMER, _SAMPLE,
          _written_by(words=words_under("twinline.contract.sparse.analyzer._lower", case_kept))),
    Fault("consumer_words_stemmer", "a consumer stemmed words as another language's", _CONSUMER, _SAMPLE,
          _written_by(words=OTHER_STEMMER)),
    Fault("consumer_words_length", "a consumer weighed words by another mean length", _CONSUMER, _SAMPLE,
          _written_by(words=words_of(statistics={"mean_length": 100}))),
    Fault("consumer_words_title", "a consumer took words from the text alone, without the title", _CONSUMER, _SAMPLE,
          _written_by(code={"streaming.points.chunk_vectors": _words_of_text_alone})),
)  # fmt: skip
