"""A small release in memory: real flow and HTTP application, a fake encoder and a fake store."""

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from twinline.clients.release import Release
from twinline.clients.store.protocol import CollectionInfo, Head, Query, StoredPoint
from twinline.clients.store.vectors import DENSE, WORDS, Ask, VectorSpec, one_dense
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Version
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.limits import MAX_QUERY_CHARS
from twinline.contract.errors import DocumentError, TransientError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.vector import Sparse
from twinline.contract.sparse.weights import Words, score
from twinline.search.api import build_app
from twinline.search.releases import Releases, Served

DIMENSION = 64
HERE = "http://127.0.0.1"  # any other host is refused


def bag_of_words(text: str) -> NDArray[np.float32]:
    """Return a vector in which texts that share words are near each other."""
    vector = np.full(DIMENSION, 1e-3, dtype=np.float32)
    for word in text.casefold().split():
        vector[zlib.crc32(word.encode()) % DIMENSION] += 1
    return vector / np.linalg.norm(vector)


class FakeEmbedder:
    def __init__(self, space: str) -> None:
        self.space = space
        self.failure: Exception | None = None
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], role: str) -> Embeddings:
        assert role == "query"
        if self.failure:
            raise self.failure
        self.texts += texts
        counts = np.array([len(text.split()) for text in texts], dtype=np.int32)
        return Embeddings(np.stack([bag_of_words(text) for text in texts]), counts, counts > 256, self.space)


class FakePreprocessor:
    def query_text(self, raw: str) -> str:
        if len(raw) > MAX_QUERY_CHARS:
            raise DocumentError("query_too_long", f"the query has {len(raw)} characters")
        cleaned = " ".join(raw.split())
        if not cleaned:
            raise DocumentError("empty_query", "the query is empty: type at least one word")
        return cleaned


class FakeCollection:
    def __init__(self, name: str, info: CollectionInfo) -> None:
        self.name = name
        self.info = info
        self.points: dict[UUID, StoredPoint] = {}
        self.reaches: list[int] = []
        # What the approximate index passes over.
        self.missed: set[UUID] = set()
        self.head_reads: list[int] = []
        self.before_query: Callable[[], None] = lambda: None

    def query(self, query: Query) -> list[list[StoredPoint]]:
        self.before_query()
        self.reaches.append(query.asks[0].depth)
        matching = [
            point
            for point in self._matching({"kind": "chunk", **(query.where or {})})
            if query.among is None or point.id in query.among
        ]
        return [self._nearest(ask, matching, query.exact) for ask in query.asks]

    def _nearest(self, ask: Ask, points: Sequence[StoredPoint], exact: bool) -> list[StoredPoint]:
        scored = []
        for point in points:
            vector = point.vectors.get(ask.using)
            if vector is None or (not exact and point.id in self.missed):
                continue
            if isinstance(vector, Sparse):
                assert isinstance(ask.vector, Sparse)
                value = float(score(ask.vector, vector))
            else:
                value = float(ask.vector @ vector)  # type: ignore[operator]
            # A sparse ask lists those that share a term.
            if value > 0 or ask.using == DENSE:
                scored.append(StoredPoint(point.id, point.payload, score=value))
        return sorted(scored, key=lambda point: -(point.score or 0))[: ask.depth]

    def scroll(
        self, where: Mapping[str, Any] | None = None, limit: int = 256, offset: UUID | None = None, with_vectors: bool = False
    ) -> tuple[list[StoredPoint], UUID | None]:
        found = sorted(self._matching(where or {}), key=lambda point: point.id)
        ahead = [point for point in found if offset is None or point.id >= offset]
        return ahead[:limit], ahead[limit].id if len(ahead) > limit else None

    def read_points(self, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        found = {id_: self.points[id_] for id_ in ids if id_ in self.points}
        return {id_: StoredPoint(id_, point.payload, point.vectors if with_vectors else {}) for id_, point in found.items()}

    def read_heads(self, ids: Sequence[UUID]) -> dict[UUID, Head]:
        self.head_reads.append(len(ids))
        return {id_: Head.from_payload(self.points[id_].payload) for id_ in ids if id_ in self.points}

    def read_golden(self) -> dict[str, NDArray[np.float32]]:
        return {"short": bag_of_words("short"), "broken": np.full(DIMENSION, np.nan, np.float32)}

    def count(self, where: Mapping[str, Any] | None = None) -> int:
        return len(self._matching(where or {}))

    def _matching(self, wanted: Mapping[str, Any]) -> list[StoredPoint]:
        return [p for p in self.points.values() if all(p.payload.get(field) == value for field, value in wanted.items())]


class FakeStore:
    def __init__(self) -> None:
        self.active_name: str | None = None

    def active(self) -> str | None:
        return self.active_name


@dataclass
class World:
    """Everything that a test may look at or break."""

    store: FakeStore = field(default_factory=FakeStore)
    served: dict[str, Served] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.releases = Releases(self.store)  # type: ignore[arg-type]
        app = build_app(self.releases, principal=LOCAL_OPERATOR)
        self.client = TestClient(app, base_url=HERE, raise_server_exceptions=False)

    def release(self, release: str, words: Words | None = None, fusion: Fusion | None = None) -> Served:
        vectors = {**one_dense(DIMENSION), **({WORDS: VectorSpec("sparse", None, "dot")} if words else {})}
        info = CollectionInfo(release, f"space-{release}", f"contract-{release}", "vector", "index", vectors)
        training = {"snapshot": f"snapshot-{release}", "git_revision": "0123456789abcdef"}
        served = Served(
            Release(
                info,
                FakePreprocessor(),  # type: ignore[arg-type]
                FakeEmbedder(info.space),
                GoldenSet((), 0.0),
                words,
                fusion or Fusion("dense"),
                training,
            ),
            FakeCollection(f"documents_{release}", info),  # type: ignore[arg-type]
        )
        self.served[release] = served
        self.releases.add(served)
        return served

    def add(
        self,
        release: str,
        key: str,
        *chunks: str,
        source: str = "notes",
        tenant: str | None = None,
        title: str = "",
        at_ms: int = 1_790_000_000_000,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        served = self.served[release]
        points: dict[UUID, StoredPoint] = served.collection.points  # type: ignore[attr-defined]
        for index, text in enumerate(chunks):
            payload = {
                "kind": "chunk", "source": source, "key": key, "version": 3, "version_kind": "explicit", "version_offset": 0,
                "chunk_index": index, "start": 0, "end": len(text), "text": text, "title": title or key, "metadata": {},
                "tenant": tenant, "content_hash": hashlib.sha256(text.encode()).hexdigest(), "token_count": 3,
                "truncated": False, "space": served.info.space,
                "release": release, "contract": served.info.contract_fingerprint,
                "partition": 1, "offset": 42, "timestamp_ms": at_ms, "headers": {"run_id": "run-7"},
            }  # fmt: skip
            vectors = {DENSE: bag_of_words(text), **({WORDS: served.words.document(text)} if served.words else {})}
            points[point_id(source, key, index)] = StoredPoint(point_id(source, key, index), payload, vectors)
        head = Head(source, key, Version("explicit", 3, 0), not chunks, len(chunks), metadata or {})
        points[head_id(source, key)] = StoredPoint(head.id, head.to_payload())

    def search(self, query: str, **fields: Any) -> dict[str, Any]:
        response = self.client.post("/v1/search", json={"query": query, **fields})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


@pytest.fixture
def world() -> World:
    """One release, active, with three documents."""
    world = World()
    world.release("r1")
    world.add("r1", "cats", "cats sleep all day", title="On cats")
    world.add("r1", "dogs", "dogs run all day")
    world.add("r1", "fish", "fish swim in water")
    world.store.active_name = "documents_r1"
    return world


@pytest.fixture
def away() -> TransientError:
    return TransientError("Triton at 127.0.0.1:18001 does not answer: start it with `twinline up`", 7)
