"""A release of three words and all that serves it, in dicts: every piece of a measurement, to be exchanged one at a time."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from streaming.decode import Message
from streaming.indexer import Indexer
from streaming.limits import ConsumerLimits
from tests.adapter_suites.memory_store import MemoryCollection
from tests.fixtures_streaming import ListSink, NothingErased
from twinline.clients.release import Release
from twinline.clients.store.protocol import CollectionInfo, Head, StoredPoint, nearest
from twinline.contract.canonical import sha256_hex
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Document, encode_key, encode_value
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.encoder_record import encoder_identity
from twinline.contract.encoder.golden import PARITY_LIMITS, GoldenSet, GoldenVector, write_golden
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.space import hash_safetensors, space_id
from twinline.contract.encoder.sparse_settings import WEIGHT_VERSIONS, SparseContract
from twinline.contract.encoder.specification import ChunkerSettings, Role, make_contract
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.release.manifest import (
    Fingerprints,
    Format,
    Manifest,
    Parity,
    Serving,
    collection_name,
    hash_files,
    release_id,
)
from twinline.contract.sparse.analyzer import Analyzer
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.golden import golden_words, write_golden_words
from twinline.contract.sparse.statistics import STATISTICS_FILE, Statistics
from twinline.contract.sparse.weights import Words
from twinline.search.query import answer_from
from twinline.search.releases import Served
from twinline.search.results import Mode, Question
from twinline.upkeep.skew.opening import answered, scored
from twinline.upkeep.skew.pieces import Answered, Live, LiveWords, Offline, Place, SamplePlan, StableModel, Subject

DIMENSION = 8
_WORDS = ("[UNK]", "[PAD]", "query", "document", "cats", "sleep", "all", "day", "bees", "make", "honey")
_TEXTS: tuple[tuple[str, Role, str], ...] = (
    ("short", "query", "cats"),
    ("unknown", "document", "zebra"),
    ("long", "document", "cats sleep all day bees make honey cats sleep all day"),
)
# What the words of a release are counted on: `cats`, `honey` and `day` are of unequal rarity.
CORPUS = ["the cats sleep all day", "cats make honey", "The bees sleep", "bees make honey all day", "day after day", "a day"]
DOCUMENTS = {
    "cats": "cats sleep all day",
    "bees": "bees make honey all day cats sleep honey bees make bees",
    "tea": "honey honey honey",
}


def vectors_of(token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Return vectors that depend on the ids and their order."""
    raw = [
        np.random.default_rng([len(ids), *(int(token) for token in ids)]).standard_normal(DIMENSION) for ids in token_ids
    ]  # fmt: skip
    vectors = np.array(raw, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def run_format(input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Run the exported graph."""
    return vectors_of([ids[mask == 1] for ids, mask in zip(input_ids, attention_mask, strict=True)])


@dataclass
class LocalEmbedder:
    """What Triton does, done here."""

    preprocessor: Preprocessor
    space: str
    change: Callable[[Embeddings], Embeddings] = lambda answer: answer

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        encoded = self.preprocessor.encode(texts, role)
        answer = Embeddings(vectors_of(encoded.token_ids), encoded.token_counts, encoded.truncated, self.space)
        return self.change(answer)


@dataclass
class MemoryDocuments:
    """`StoredDocuments` of a collection in a dict."""

    collection: MemoryCollection
    before: Callable[[str], None] = lambda call: None

    def choose(self, count: int, seed: int) -> list[Head]:
        page, _ = self.collection.scroll({"kind": "head"}, 1_000)
        heads = [Head.from_payload(point.payload) for point in page]
        return [head for head in heads if not head.deleted][:count]

    def head(self, source: str, key: str) -> Head | None:
        self.before("head")
        return self.collection.read_heads([head_id(source, key)]).get(head_id(source, key))

    def chunks(self, source: str, key: str) -> list[StoredPoint]:
        return self.collection.scroll({"kind": "chunk", "source": source, "key": key}, 1_000, with_vectors=True)[0]


@dataclass
class MemoryLog:
    """`Log` in a dict."""

    held: dict[Place, Message] = field(default_factory=dict)

    def messages(self, places: Sequence[Place]) -> Mapping[Place, Message]:
        return {place: self.held[place] for place in places if place in self.held}

    def append(self, document: Document) -> Message:
        offset = len(self.held)
        value = encode_value(document)
        message = Message(0, offset, 1_763_800_000_000 + offset, encode_key(document.source, document.key), value)
        self.held[0, offset] = message
        return message


@dataclass
class Pieces:
    """Everything that `measure_skew` takes."""

    subject: Subject
    offline: Offline
    live: Live
    plan: SamplePlan
    collection: MemoryCollection
    log: MemoryLog
    preprocessor: Preprocessor
    index: Callable[[Document], object]
    release: Release

    def embedder(self, change: Callable[[Embeddings], Embeddings]) -> LocalEmbedder:
        """Return a live encoder whose answers are changed."""
        return LocalEmbedder(self.preprocessor, self.subject.manifest.space, change)


def write_words(folder: Path, language: str = "english") -> SparseContract:
    """Write the words of `DOCUMENTS` into a release folder, and return the sparse contract."""
    statistics = Statistics.count([Analyzer(1, language).terms(text) for text in CORPUS])
    content = statistics.to_bytes()
    sparse = SparseContract(1, language, WEIGHT_VERSIONS[-1], 90, 40, sha256_hex(content))
    (folder / STATISTICS_FILE).write_bytes(content)
    write_golden_words(folder, golden_words(Words(sparse, statistics), ["the cats", "Honey"]), {"contract": sparse.to_json()})
    return sparse


def make_pieces(folder: Path, training: Mapping[str, Any] | None = None, fusion: Fusion | None = None) -> Pieces:
    """Build a release in `folder`, and serve it with three documents; `training` is added to its training.json.

    Args:
        fusion: of a release with words; None: without.
    """
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    chunker = ChunkerSettings(overlap_tokens=0, title="omit", title_max_tokens=0)
    contract, own = make_contract(
        tokenizer.to_str().encode(), max_tokens=9, dimension=DIMENSION, query_prefix="query ", document_prefix="document ",
        chunker=chunker,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    if fusion is not None:
        contract = replace(contract, index=replace(contract.index, sparse=write_words(folder)))
    contract.save(folder, own)
    (folder / "encoder").mkdir()
    save_file({"weights": np.arange(8, dtype=np.float32)}, folder / "encoder" / "model.safetensors")
    preprocessor = Preprocessor(contract, own)
    entries = []
    for name, role, text in _TEXTS:
        encoded = preprocessor.encode([text], role)
        ids, cut = tuple(encoded.token_ids[0]), bool(encoded.truncated[0])
        entries.append(GoldenVector(name, role, text, ids, cut, vectors_of([ids])[0]))
    write_golden(folder, entries)
    weights = hash_safetensors(folder / "encoder" / "model.safetensors")
    (folder / "encoder" / "config.json").write_text("{}")
    (folder / "encoder" / "training.json").write_text(
        json.dumps({**encoder_identity(folder / "encoder", contract, weights), **(training or {})})
    )
    space, files = space_id(contract.vector_fingerprint, weights), hash_files(folder)
    serving = Serving("onnx_fp32", (4, 9), 8)
    parity = Parity(0.0, 0.0, "", PARITY_LIMITS["fp32"])
    formats = (
        Format("onnx_fp32", "onnxruntime", "fp32", "onnx/model.onnx", parity),
        Format("tensorrt_fp16", "tensorrt", "fp16", "tensorrt/model.plan", parity),
    )
    release = release_id(space, contract.fingerprint, serving, files, fusion=fusion)
    manifest = Manifest(
        release, space, Fingerprints.of(contract), weights, DIMENSION, "base", formats, (), serving, files, fusion=fusion,
    )  # fmt: skip
    manifest.save(folder)
    golden = GoldenSet(tuple(entries), PARITY_LIMITS["fp32"])

    collection, log = MemoryCollection(collection_name(release), CollectionInfo.of(manifest)), MemoryLog()
    embedder = LocalEmbedder(preprocessor, space)
    sparse = contract.index.sparse
    words = None if sparse is None else Words.load(folder, sparse)
    release_parts = Release(collection.info, preprocessor, embedder, golden, words, fusion or Fusion("dense"))
    indexer = Indexer(collection, release_parts, ListSink(), NothingErased(), ConsumerLimits())

    def index(document: Document) -> object:
        return indexer.handle([log.append(document)])

    for key, text in DOCUMENTS.items():
        index(Document("src", key, text))
    return Pieces(
        subject=Subject(folder, manifest, golden),
        offline=Offline(
            preprocessor.encode,
            preprocessor.chunks,
            preprocessor.query_text,
            vectors_of,
            lambda entry: run_format,
            preprocessor.pad_id,
            words=None if sparse is None else partial(Words.load, folder, sparse),
        ),
        live=Live(
            token_ids=lambda texts, role: preprocessor.encode(texts, role).token_ids,
            embedders={"triton grpc": embedder, "triton http": embedder},
            stable=StableModel(embedder, golden),
            read_golden=lambda: {entry.name: entry.vector for entry in entries},
            search=lambda text: _search(collection, embedder.embed([text], "query").vectors[0]),
            words=None if words is None else live_words(release_parts, collection),
        ),
        release=release_parts,
        plan=SamplePlan(MemoryDocuments(collection), log, pause_seconds=0),
        collection=collection,
        log=log,
        preprocessor=preprocessor,
        index=index,
    )


def live_words(release: Release, collection: MemoryCollection) -> LiveWords:
    """Return the real search over a collection in a dict."""
    served = Served(release, collection)

    def answer(text: str, mode: Mode) -> Answered:
        return answered(answer_from(served, Question(text, exact=True, mode=mode, group=False), LOCAL_OPERATOR))

    return LiveWords(answer, collection.query)


def _search(collection: MemoryCollection, query: NDArray[np.float32]) -> list[tuple[float, NDArray[np.float32]]]:
    hits = nearest(collection, query, 10)
    stored = collection.read_points([hit.id for hit in hits], with_vectors=True)
    return scored(((hit.id, hit.score or 0.0) for hit in hits), stored)


def turned(answer: Embeddings) -> Embeddings:
    """Return an answer whose vectors are rolled by one."""
    return replace(answer, vectors=np.roll(answer.vectors, 1, axis=1))
