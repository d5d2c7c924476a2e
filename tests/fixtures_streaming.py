"""A release small enough to think about: words as tokens, a fake encoder, a store in a dict."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from streaming.building.vector_reuse import VectorSource
from streaming.dead_letters import DeadLetter
from streaming.decode import Message
from streaming.erased import KnowsErasures
from streaming.indexer import Handled, Indexer
from streaming.limits import ConsumerLimits
from tests.adapter_suites.memory_store import MemoryCollection
from twinline.clients.erasure_list import Erasures
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import CollectionInfo
from twinline.clients.store.vectors import one_dense
from twinline.contract.documents.records import Deletion, Document, encode_key, encode_value, version_header
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.golden import GoldenSet, GoldenVector
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import ROLES, ChunkerSettings, Role, make_contract
from twinline.contract.errors import ContractError
from twinline.contract.release.manifest import collection_name

RELEASE = "r0123456789ab"
SPACE = "space-of-the-tests"
DIMENSION = 8


@pytest.fixture(scope="session")
def preprocessor() -> Preprocessor:
    """Eight words a chunk, no overlap."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    contract, own = make_contract(
        tokenizer.to_str().encode(),
        max_tokens=8,
        dimension=DIMENSION,
        chunker=ChunkerSettings(overlap_tokens=0, title="omit", title_max_tokens=0),
    )
    return Preprocessor(contract, own)


@dataclass
class FakeEmbedder:
    """The vector of a text is its hash. `failures` are raised first, one a call."""

    space: str = SPACE
    calls: list[list[str]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    poison: str | None = None
    answers_from: str | None = None

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        if self.failures:
            raise self.failures.pop(0)
        self.calls.append(list(texts))
        if self.poison is not None and any(self.poison in text for text in texts):
            raise ContractError("the encoder refuses a text")
        vectors = np.stack([vector_of(text) for text in texts])
        counts = np.array([len(text.split()) for text in texts], np.int32)
        return Embeddings(vectors, counts, counts > 8, self.answers_from or self.space)

    @property
    def texts(self) -> list[str]:
        return [text for call in self.calls for text in call]


def vector_of(text: str) -> NDArray[np.float32]:
    raw = np.frombuffer(hashlib.sha256(text.encode()).digest()[:DIMENSION], np.uint8).astype(np.float32) + 1
    return raw / np.linalg.norm(raw)


GOLDEN = GoldenSet(
    tuple(
        GoldenVector(text, role, text, (0,), False, vector_of(text))
        for role in ROLES
        for text in (f"a {role}", f"a somewhat longer {role}")
    ),
    limit=1e-6,
)


class NothingErased:
    """Stands for the topic of erased documents, where there is no broker."""

    def __init__(self, _: Settings | None = None) -> None: ...

    def current(self) -> Erasures:
        return Erasures()

    def close(self) -> None: ...


class Counted:
    """A build's progress, handed on; what an attempt before had done counts too."""

    def __init__(self, count: Callable[[int], object] = lambda handled: None) -> None:
        self._count = count

    def enter(self, phase: str, already_done: int = 0) -> None:
        self._count(already_done)

    def __call__(self, handled: int) -> None:
        self._count(handled)


@dataclass
class ListSink:
    letters: list[DeadLetter] = field(default_factory=list)

    def put(self, letters: Sequence[DeadLetter]) -> None:
        self.letters += letters


@dataclass
class Log:
    """Makes messages with offsets and times that go up, as the log does."""

    offset: int = 0

    def append(self, item: Document | Deletion) -> Message:
        value = encode_value(item) if isinstance(item, Document) else None
        headers = [] if isinstance(item, Document) else version_header(item)
        return self.raw(encode_key(item.source, item.key), value, headers)

    def raw(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> Message:
        self.offset += 1
        return Message(0, self.offset, 1_763_800_000_000 + self.offset // 3, key, value, headers)


@dataclass
class World:
    collection: MemoryCollection
    embedder: FakeEmbedder
    sink: ListSink
    log: Log
    preprocessor: Preprocessor

    @property
    def release(self) -> Release:
        return Release(self.collection.info, self.preprocessor, self.embedder, GOLDEN)

    def indexer(self, erasures: KnowsErasures | None = None, reuse: VectorSource | None = None) -> Indexer:
        erasures, limits = erasures or NothingErased(), ConsumerLimits(texts_per_request=2)
        return Indexer(self.collection, self.release, self.sink, erasures, limits, reuse=reuse)

    def handle(self, *messages: Message) -> Handled:
        return self.indexer().handle(messages)

    def texts(self, key: str) -> list[str]:
        """Return the stored chunks of a document, in order, after checking that each has its own vector."""
        chunks = [p for p in self.collection.points.values() if p.payload["kind"] == "chunk" and p.payload["key"] == key]
        chunks.sort(key=lambda point: point.payload["chunk_index"])
        for point in chunks:
            assert point.dense is not None
            np.testing.assert_allclose(point.dense, vector_of(point.payload["text"]), atol=1e-6)
        return [point.payload["text"] for point in chunks]

    def snapshot(self) -> dict[object, object]:
        """Return all that is stored, without where it came from: what must not depend on how often it was delivered."""
        places = ("partition", "offset", "timestamp_ms")
        return {
            id_: {name: value for name, value in point.payload.items() if name not in places}
            for id_, point in self.collection.points.items()
        }


def info_of(preprocessor: Preprocessor, release: str = RELEASE) -> CollectionInfo:
    contract = preprocessor.contract
    prints = (contract.fingerprint, contract.vector_fingerprint, contract.index_fingerprint)
    return CollectionInfo(release, SPACE, *prints, one_dense(DIMENSION))


@pytest.fixture
def world(preprocessor: Preprocessor) -> World:
    collection = MemoryCollection(collection_name(RELEASE), info_of(preprocessor))
    return World(collection, FakeEmbedder(), ListSink(), Log(), preprocessor)
