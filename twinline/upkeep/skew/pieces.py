"""The pieces of a measurement. Each is a function or a small protocol, so that tests can exchange any of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from streaming.decode import Message
from twinline.clients.store.protocol import Head, Query, StoredPoint
from twinline.contract.documents.records import Document
from twinline.contract.encoder.chunking import Chunk
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.runtime import Runtime
from twinline.contract.encoder.selfcheck import check_process
from twinline.contract.encoder.specification import Role
from twinline.contract.encoder.tokens import Encoded
from twinline.contract.release.manifest import Format, Manifest
from twinline.contract.sparse.weights import Words
from twinline.search.results import Mode

Vector: TypeAlias = NDArray[np.float32]
# One hit of an answer: its cosine, and the stored vector of that cosine.
Scored: TypeAlias = tuple[float, Vector]
# A message's place in the log: partition and offset.
Place: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Subject:
    """The measured release: its folder and its own statements."""

    folder: Path
    manifest: Manifest
    golden: GoldenSet


@dataclass(frozen=True, slots=True)
class Offline:
    """The offline path in this process, from the release's own files.

    Attributes:
        encode: texts and role to token ids.
        chunks: cuts a document.
        query_text: cleans a query.
        vectors: token ids of n texts to `(n, dim)`, by the training framework.
        open_format: makes an exported format runnable; CannotRunError where its runtime is missing.
        pad_id: the token id that fills a padded row.
        check_rules: raises MismatchError when this process's rules in code are not the platform's.
        words: reads the release's words; None in a release without them.
    """

    encode: Callable[[Sequence[str], Role], Encoded]
    chunks: Callable[[Document], list[Chunk]]
    query_text: Callable[[str], str]
    vectors: Callable[[Sequence[Sequence[int]]], Vector]
    open_format: Callable[[Format], Runtime]
    pad_id: int
    check_rules: Callable[[], None] = check_process
    words: Callable[[], Words] | None = None


@dataclass(frozen=True, slots=True)
class StableModel:
    """The stable name `embed`, and the golden texts of the active release, which it must point to."""

    embedder: Embedder
    golden: GoldenSet


@dataclass(frozen=True, slots=True)
class AnsweredHit:
    """One hit of a live answer: its chunk, the score that orders it, and both sides' scores, None where the answer has none."""

    id: UUID
    score: float
    cosine: float | None
    words: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A live answer to a question with `exact`: how it was found, and its hits in their order."""

    mode: Mode
    hits: Sequence[AnsweredHit]


@dataclass(frozen=True, slots=True)
class LiveWords:
    """The live search by words, and the store below it.

    Attributes:
        answer: the first hits of a question in a mode, by every stored vector.
        query: the store's own lists, for a comparison with those of search.
    """

    answer: Callable[[str, Mode], Answered]
    query: Callable[[Query], list[list[StoredPoint]]]


@dataclass(frozen=True, slots=True)
class Live:
    """The services of the release.

    Attributes:
        token_ids: texts and role to token ids, by the tokenizer model.
        embedders: the ensemble by each protocol, by the name of the hop.
        stable: None where no release is active.
        read_golden: the collection's golden vectors, by the text's name.
        search: the first hits of a query, by the usual path: each one's cosine and stored vector.
        words: None where they are not asked.
    """

    token_ids: Callable[[Sequence[str], Role], list[list[int]]]
    embedders: Mapping[str, Embedder]
    stable: StableModel | None
    read_golden: Callable[[], Mapping[str, Vector]]
    search: Callable[[str], Sequence[Scored]]
    words: LiveWords | None = None


class StoredDocuments(Protocol):
    """The documents of one collection."""

    def choose(self, count: int, seed: int) -> list[Head]:
        """Return the heads of up to `count` documents that are not deleted, at random; fewer where there are fewer."""

    def head(self, source: str, key: str) -> Head | None:
        """Return the head of one document."""

    def chunks(self, source: str, key: str) -> list[StoredPoint]:
        """Return the chunk points of one document, with vectors."""


class Log(Protocol):
    """The topic of documents."""

    def messages(self, places: Sequence[Place]) -> Mapping[Place, Message]:
        """Return the messages at these places that the log still has."""


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """The inputs of the live sample: its readers, its size and its seed."""

    stored: StoredDocuments
    log: Log
    size: int = 100
    seed: int = 0
    # A document looks wrong while it is written: it is read again after this pause.
    pause_seconds: float = 1.0
