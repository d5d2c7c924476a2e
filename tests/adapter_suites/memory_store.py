"""A store in a dict, for tests of what is built on stores. It passes the same suite as the real ones."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from twinline.clients.log_record import LogRecord
from twinline.clients.store.conditions import Either, Exists, Range
from twinline.clients.store.protocol import (
    CollectionInfo,
    Filter,
    Head,
    Query,
    StoredPoint,
    build_point,
    golden_points,
    read_build,
    stored_version,
    version_part,
)
from twinline.clients.store.vectors import Ask, Vector, check_asks, check_vectors
from twinline.contract.canonical import JSON
from twinline.contract.documents.filterable import moment
from twinline.contract.documents.ids import head_id
from twinline.contract.errors import ContractError
from twinline.contract.sparse.vector import Sparse


@dataclass
class MemoryCollection:
    name: str
    info: CollectionInfo
    points: dict[UUID, StoredPoint] = field(default_factory=dict)
    before: Callable[[str], None] = lambda call: None  # a test's hook: raise, or act as another consumer would
    is_owned: bool = True  # as the embedded store is; False: as a server, which many may write to
    flushes: int = 0
    golden: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    log: LogRecord | None = None

    def read_heads(self, ids: Sequence[UUID]) -> dict[UUID, Head]:
        self.before("read_heads")
        return {id_: Head.from_payload(self.points[id_].payload) for id_ in ids if id_ in self.points}

    def put_heads(self, heads: Sequence[Head]) -> None:
        self.before("put_heads")
        self._put([StoredPoint(head.id, head.to_payload()) for head in heads])

    def read_points(self, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        return {id_: _copy(self.points[id_], with_vectors) for id_ in ids if id_ in self.points}

    def put_points(self, points: Sequence[StoredPoint]) -> None:
        self.before("put_points")
        for point in points:
            check_vectors(f"collection {self.name}", self.info.vectors, point.vectors)
        self._put([StoredPoint(p.id, p.payload, _kept(p.vectors)) for p in points if self._is_current(p)])

    def put_golden(self, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        for name, vector in vectors.items():
            if len(vector) != self.info.dimension:
                raise ContractError(f"collection {self.name} takes vectors of {self.info.dimension}")
            self.golden[name] = vector / np.linalg.norm(vector)
        self.points |= {point.id: point for point in golden_points(self.info, vectors).values()}

    def read_golden(self) -> dict[str, NDArray[np.float32]]:
        return dict(self.golden)

    def put_build(self, state: Mapping[str, JSON]) -> None:
        self.before("put_build")
        point = build_point(state)
        self.points[point.id] = point

    def read_build(self) -> Mapping[str, Any]:
        return read_build(self)

    def read_log(self) -> LogRecord | None:
        return self.log

    def put_log(self, log: LogRecord) -> None:
        self.log = log

    def delete_surplus(self, heads: Sequence[Head]) -> None:
        self.before("delete_surplus")
        by_name = {(head.source, head.key): head for head in heads}
        for id_, point in list(self.points.items()):
            head = by_name.get((point.payload.get("source"), point.payload.get("key")))  # type: ignore[arg-type]
            if head is not None and point.payload["kind"] == "chunk":
                is_newer = head.version < stored_version(point.payload)
                if point.payload["chunk_index"] >= head.chunk_count and not is_newer:
                    del self.points[id_]

    def remove_points(self, points: Sequence[StoredPoint]) -> None:
        self.before("remove_points")
        for point in points:
            stored = self.points.get(point.id)
            if stored is not None and version_part(stored.payload) == version_part(point.payload):
                del self.points[point.id]

    def query(self, query: Query) -> list[list[StoredPoint]]:
        check_asks(f"collection {self.name}", self.info.vectors, query.asks)
        chunks = [point for point in self.points.values() if _match(point, {**(query.where or {}), "kind": "chunk"})]
        chunks = chunks if query.among is None else [point for point in chunks if point.id in query.among]
        answers = [_answer(ask, chunks) for ask in query.asks]
        return answers if query.with_payload else [[replace(point, payload={}) for point in points] for points in answers]

    def count(self, where: Filter | None = None) -> int:
        return sum(_match(point, where or {}) for point in self.points.values())

    def scroll(
        self, where: Filter | None = None, limit: int = 256, offset: UUID | None = None, with_vectors: bool = False
    ) -> tuple[list[StoredPoint], UUID | None]:
        ids = [id_ for id_ in sorted(self.points) if _match(self.points[id_], where or {}) and (offset is None or id_ >= offset)]
        page = [_copy(self.points[id_], with_vectors) for id_ in ids[:limit]]
        return page, ids[limit] if len(ids) > limit else None

    def optimize(self) -> None:
        pass

    def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        self.flush()

    def _is_current(self, point: StoredPoint) -> bool:
        head = self.points.get(head_id(point.payload["source"], point.payload["key"]))
        return head is None or not self.is_owned or not stored_version(point.payload) < stored_version(head.payload)

    def _put(self, points: Sequence[StoredPoint]) -> None:
        for point in points:
            stored = self.points.get(point.id)
            if stored is None or not stored_version(point.payload) < stored_version(stored.payload):
                self.points[point.id] = point


@dataclass
class MemoryStore:
    ready: dict[str, MemoryCollection] = field(default_factory=dict)
    building: dict[str, MemoryCollection] = field(default_factory=dict)
    active_name: str | None = None
    has_one_owner: bool = True

    def create(self, name: str, info: CollectionInfo) -> MemoryCollection:
        collection = self.begin(name, info)
        self.finish(name)
        return collection

    def begin(self, name: str, info: CollectionInfo) -> MemoryCollection:
        if name in self.ready:
            raise ContractError(f"collection {name} is there already")
        collection = self.building.setdefault(name, MemoryCollection(name, info))
        collection.info.check(info, name)
        return collection

    def finish(self, name: str) -> None:
        self.ready[name] = self.building.pop(name)

    def open(self, name: str, expected: CollectionInfo) -> MemoryCollection:
        self.info(name).check(expected, name)
        return self.ready[name]

    def names(self) -> list[str]:
        return sorted(self.ready)

    def begun(self) -> list[str]:
        return sorted(self.building)

    def sweep(self) -> None:
        pass

    def info(self, name: str) -> CollectionInfo:
        if name not in self.ready:
            raise ContractError(f"no collection {name}: build it")
        return self.ready[name].info

    def log(self, name: str) -> LogRecord | None:
        self.info(name)
        return self.ready[name].log

    def drop(self, name: str) -> None:
        if name == self.active_name:
            raise ContractError(f"collection {name} is the active one")
        if self.building.pop(name, None) is None:
            self.info(name)
            del self.ready[name]

    def active(self) -> str | None:
        return self.active_name

    def activate(self, name: str) -> None:
        self.info(name)
        self.active_name = name


def _copy(point: StoredPoint, with_vectors: bool) -> StoredPoint:
    return StoredPoint(point.id, dict(point.payload), point.vectors if with_vectors else {})


def _kept(vectors: Mapping[str, Vector]) -> dict[str, Vector]:
    return {name: vector if isinstance(vector, Sparse) else vector / np.linalg.norm(vector) for name, vector in vectors.items()}


def _answer(ask: Ask, chunks: Sequence[StoredPoint]) -> list[StoredPoint]:
    scored = [(point, _score(ask.vector, point.vectors.get(ask.using))) for point in chunks]
    found = [StoredPoint(point.id, point.payload, score=score) for point, score in scored if score is not None]
    return sorted(found, key=lambda point: -(point.score or 0))[: ask.depth]


def _score(asked: Vector, stored: Vector | None) -> float | None:
    if stored is None:
        return None
    if isinstance(asked, Sparse) or isinstance(stored, Sparse):
        assert isinstance(asked, Sparse)
        assert isinstance(stored, Sparse)
        weights = dict(zip(stored.ids, stored.weights, strict=True))
        shared = [weight * weights[id_] for id_, weight in zip(asked.ids, asked.weights, strict=True) if id_ in weights]
        return float(sum(shared)) if shared else None
    return float(asked / np.linalg.norm(asked) @ stored)


def _match(point: StoredPoint, where: Mapping[str, Any]) -> bool:
    for path, wanted in where.items():
        value: Any = point.payload
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        values = value if isinstance(value, list | tuple) else [] if value is None else [value]
        met = any(_meets(each, wanted) for each in values)
        if met is not (wanted.exists if isinstance(wanted, Exists) else True):
            return False
    return True


def _meets(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Exists):
        return True
    if isinstance(wanted, Either):
        return any(_meets(value, each) for each in wanted.ranges)
    if not isinstance(wanted, Range):
        return bool(value == wanted if isinstance(wanted, str | int | bool) else value in wanted)
    if wanted.is_of_moments:
        value = moment(value) if isinstance(value, str) else None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        value = None
    tests = {"gte": operator.ge, "gt": operator.gt, "lte": operator.le, "lt": operator.lt}
    return value is not None and all(tests[name](value, bound) for name, bound in wanted.bounds.items())
