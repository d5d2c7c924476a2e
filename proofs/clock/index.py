"""A real collection of the embedded store, filled by the consumer's own `handle()`, and looked at without it."""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from prometheus_client import CollectorRegistry
from tokenizers import Tokenizer, models, pre_tokenizers

from streaming.dead_letters import DeadLetter
from streaming.decode import Message
from streaming.indexer import Indexer
from streaming.limits import ConsumerLimits
from streaming.metrics import StreamingMetrics
from twinline.clients.erasure_list import Erasures
from twinline.clients.log_record import LogRecord
from twinline.clients.release import Release
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import CollectionInfo
from twinline.clients.store.vectors import one_dense
from twinline.contract.canonical import sha256_hex
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import ChunkerSettings, Role, make_contract

_DIMENSION: Final = 8
_SPACE: Final = "space-of-a-hash"
_NAME: Final = "documents_r000000000001"
# One poll of the consumer.
_MOST: Final = 40


class HashEmbedder:
    """The vector of a text is its hash: the order of states is looked at here, not their meaning."""

    space = _SPACE

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        """Return one vector a text."""
        raw = [np.frombuffer(bytes.fromhex(sha256_hex(text.encode()))[:_DIMENSION], np.uint8) for text in texts]
        vectors = np.stack(raw).astype(np.float32) + 1
        counts = np.array([len(text.split()) for text in texts], np.int32)
        return Embeddings(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), counts, counts > _DIMENSION, _SPACE)


class _NothingErased:
    def current(self) -> Erasures:
        """Return the empty list."""
        return Erasures()


class _Letters:
    def __init__(self) -> None:
        self.taken: list[DeadLetter] = []

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters."""
        self.taken += letters


class Index:
    """One release's collection and its consumer's place in each partition. Use it as a context."""

    def __init__(self, folder: Path) -> None:
        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))  # noqa: S106 (no password)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        cut = ChunkerSettings(overlap_tokens=0, title="omit", title_max_tokens=0)
        contract, own = make_contract(tokenizer.to_str().encode(), max_tokens=8, dimension=_DIMENSION, chunker=cut)
        prints = (contract.fingerprint, contract.vector_fingerprint, contract.index_fingerprint)
        self._info = CollectionInfo(_NAME.removeprefix("documents_"), _SPACE, *prints, one_dense(_DIMENSION))
        self._release = Release(self._info, Preprocessor(contract, own), HashEmbedder(), GoldenSet((), 0.0))
        self._store = EdgeStore(folder)
        self._metrics = StreamingMetrics(CollectorRegistry())
        self._letters = _Letters()
        self._places: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._collection = self._store.create(_NAME, self._info)
        self._collection.put_log(LogRecord("cluster", "documents", "", "log-time", 3))
        return self

    def __exit__(self, *_: object) -> None:
        self._collection.close()

    def consume(self, logs: Mapping[int, Sequence[Message]], chance: random.Random) -> None:
        """Poll a part of what is there; now and then die before the commit, and be started again."""
        batch = [message for number, log in logs.items() for message in self._next(number, log, chance.randint(0, 6))]
        self._handle(batch)
        if chance.random() < 0.05:
            # The uncommitted messages come again, to a new process.
            self._places = dict(self._committed)
            self._collection.close()
            self._collection = self._store.open(_NAME, self._info)
        elif chance.random() < 0.5:
            self._committed = dict(self._places)

    def catch_up(self, logs: Mapping[int, Sequence[Message]], chance: random.Random) -> None:
        """Read on to the end, and a last stretch of each partition once more."""
        for number, log in logs.items():
            while batch := self._next(number, log, _MOST):
                self._handle(batch)
            self._handle(log[-chance.randint(1, _MOST) :])

    def faults(self, last: Mapping[str, str | None]) -> Iterator[str]:
        """Yield each document that is not in its last state, or not whole."""
        stored: dict[str, list[tuple[int, str]]] = {}
        offset = None
        while True:
            page, offset = self._collection.scroll({"kind": "chunk"}, offset=offset)
            for point in page:
                stored.setdefault(point.payload["key"], []).append((point.payload["chunk_index"], point.payload["text"]))
            if offset is None:
                break
        for key, text in last.items():
            found = " ".join(piece for _, piece in sorted(stored.pop(key, [])))
            if found != (text or ""):
                yield f"{key}: stored {found!r}, last {text!r}"
        yield from (f"{key}: stored, and never written" for key in stored)
        yield from (f"set aside: {letter.error}" for letter in self._letters.taken)

    def alarms(self) -> int:
        """Return how many steps back the consumer saw."""
        samples: list[Any] = [sample for family in self._metrics.clock_steps.collect() for sample in family.samples]
        return int(sum(sample.value for sample in samples if sample.name.endswith("_total")))

    def _next(self, number: int, log: Sequence[Message], most: int) -> Sequence[Message]:
        start = self._places.get(number, 0)
        found = log[start : start + most]
        self._places[number] = start + len(found)
        return found

    def _handle(self, batch: Sequence[Message]) -> None:
        if batch:
            limits = ConsumerLimits(look_ahead=False)
            indexer = Indexer(self._collection, self._release, self._letters, _NothingErased(), limits, self._metrics)
            indexer.handle(batch)
