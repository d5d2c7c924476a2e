"""One collection of the embedded store: a shard of Qdrant Edge, the Qdrant engine inside this process.

The engine holds the interpreter lock in every call, so calls from several threads run one after another. The lock below makes a
read and the write after it atomic.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any, cast
from uuid import UUID

import numpy as np
import qdrant_edge as engine
from numpy.typing import NDArray

from twinline.clients.log_record import LogRecord
from twinline.clients.store.conditions import Either, Exists, Range
from twinline.clients.store.protocol import (
    GOLDEN_VECTOR_NAME,
    MOST_GOLDEN,
    VERSION_FIELDS,
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
from twinline.clients.store.vectors import Ask, Dense, Vector, check_asks, check_vectors
from twinline.contract.canonical import JSON
from twinline.contract.documents.ids import head_id
from twinline.contract.errors import ContractError, MismatchError, TransientError
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.sparse.vector import Sparse

_LOG_FILE = "log.json"
_VERSION_FIELDS = [*VERSION_FIELDS]
# Chunks of an older release of Twinline name the partition of their version here alone.
_ORDER_FIELDS = [*VERSION_FIELDS, "partition", "offset"]


class EdgeCollection:
    """A `Collection` over one shard that this process owns."""

    def __init__(self, name: str, info: CollectionInfo, shard: Any, folder: Path) -> None:
        self.name = name
        self.info = info
        self._shard = shard
        self._folder = folder
        self._writing = RLock()
        self._closed = False

    def read_heads(self, ids: Sequence[UUID]) -> dict[UUID, Head]:
        return {id_: Head.from_payload(point.payload) for id_, point in self.read_points(ids).items()}

    def put_heads(self, heads: Sequence[Head]) -> None:
        points = [StoredPoint(head.id, head.to_payload()) for head in heads]
        with self._writing:
            self._upsert(self._not_older(points))

    def read_points(self, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        if not ids:
            return {}
        with self._ours():
            records = self._shard.retrieve(list(ids), True, [*self.info.vectors] if with_vectors else False)
        return {record.id: _stored(record) for record in records}

    def put_points(self, points: Sequence[StoredPoint]) -> None:
        for point in points:
            check_vectors(f"collection {self.name}", self.info.vectors, point.vectors)
        with self._writing:
            self._upsert(self._not_older(self._not_overtaken(points)))

    def put_golden(self, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        points = golden_points(self.info, vectors)
        batch = [
            engine.Point(id=point.id, vector={GOLDEN_VECTOR_NAME: _values(vectors[name])}, payload=dict(point.payload))
            for name, point in points.items()
        ]
        with self._writing, self._ours():
            self._shard.update(engine.UpdateOperation.upsert_points(batch))

    def read_golden(self) -> dict[str, NDArray[np.float32]]:
        # All vectors, not only the golden one: a collection from before golden points does not know that name.
        request = engine.ScrollRequest(limit=MOST_GOLDEN, filter=_filter({"kind": "golden"}), with_payload=True, with_vector=True)
        with self._ours():
            records, _ = self._shard.scroll(request)
        return {
            record.payload["name"]: np.asarray(record.vector[GOLDEN_VECTOR_NAME], np.float32)
            for record in records
            if GOLDEN_VECTOR_NAME in (record.vector or {})
        }

    def put_build(self, state: Mapping[str, JSON]) -> None:
        with self._writing:
            self._upsert([build_point(state)])

    def read_build(self) -> Mapping[str, Any]:
        return read_build(self)

    def read_log(self) -> LogRecord | None:
        return read_log(self._folder)

    def put_log(self, log: LogRecord) -> None:
        replace_file(self._folder / _LOG_FILE, json.dumps(log.to_json()))

    def delete_surplus(self, heads: Sequence[Head]) -> None:
        with self._writing, self._ours():
            for head in heads:
                for condition in _surplus(head):
                    self._shard.update(engine.UpdateOperation.delete_points_by_filter(condition))

    def remove_points(self, points: Sequence[StoredPoint]) -> None:
        if not points:
            return
        with self._writing, self._ours():
            records = self._shard.retrieve([point.id for point in points], _VERSION_FIELDS, False)
            stored = {record.id: version_part(record.payload or {}) for record in records}
            gone: list[UUID | int | str] = [point.id for point in points if stored.get(point.id) == version_part(point.payload)]
            if gone:
                self._shard.update(engine.UpdateOperation.delete_points(gone))

    def query(self, query: Query) -> list[list[StoredPoint]]:
        check_asks(f"collection {self.name}", self.info.vectors, query.asks)
        # Heads have no vector, so no query meets them.
        narrowed = _narrowed(query)
        params = engine.SearchParams(exact=True) if query.exact else _approximate(self.info.index, query.ef_search)
        requests = [_request(ask, narrowed, params, query.with_payload) for ask in query.asks]
        with self._ours():
            answers = self._shard.query_batch(engine.QueryBatchRequest(requests))
        return [[_stored(point, point.score) for point in points] for points in answers]

    def count(self, where: Filter | None = None) -> int:
        with self._ours():
            return int(self._shard.count(engine.CountRequest(exact=True, filter=_filter(where))))

    def scroll(
        self, where: Filter | None = None, limit: int = 256, offset: UUID | None = None, with_vectors: bool = False
    ) -> tuple[list[StoredPoint], UUID | None]:
        request = engine.ScrollRequest(
            offset=offset,
            limit=limit,
            filter=_filter(where),
            with_payload=True,
            with_vector=[*self.info.vectors] if with_vectors else False,
        )
        with self._ours():
            records, following = self._shard.scroll(request)
        return [_stored(record) for record in records], following

    def optimize(self) -> None:
        with self._writing, self._ours():
            self._shard.optimize()

    def flush(self) -> None:
        with self._writing, self._ours():
            self._shard.flush()

    def close(self) -> None:
        with self._writing, self._ours():
            if not self._closed:
                self._shard.flush()
                self._shard.close()
                self._closed = True

    def _upsert(self, points: Sequence[StoredPoint]) -> None:
        if not points:
            return
        batch = [
            engine.Point(
                id=point.id,
                vector={name: _engine_vector(vector) for name, vector in point.vectors.items()},
                payload=dict(point.payload),
            )
            for point in points
        ]
        with self._ours():
            self._shard.update(engine.UpdateOperation.upsert_points(batch))

    def _not_older(self, points: Sequence[StoredPoint]) -> list[StoredPoint]:
        """Return the points without a newer stored version. Call under the lock: the answer holds no longer than that."""
        if not points:
            return []
        with self._ours():
            records = self._shard.retrieve([point.id for point in points], _ORDER_FIELDS, False)
        stored = {record.id: stored_version(record.payload) for record in records}
        return [point for point in points if point.id not in stored or not stored_version(point.payload) < stored[point.id]]

    def _not_overtaken(self, points: Sequence[StoredPoint]) -> list[StoredPoint]:
        """Return the chunk points whose document has no newer head. Call under the lock, as above."""
        head_of = {point.id: head_id(point.payload["source"], point.payload["key"]) for point in points}
        if not head_of:
            return []
        with self._ours():
            records = self._shard.retrieve(sorted(set(head_of.values())), _VERSION_FIELDS, False)
        heads = {record.id: stored_version(record.payload) for record in records}
        return [
            point
            for point in points
            if (head := heads.get(head_of[point.id])) is None or not stored_version(point.payload) < head
        ]

    @contextmanager
    def _ours(self) -> Iterator[None]:
        with engine_errors(f"collection {self.name}"):
            yield


def _narrowed(query: Query) -> Any:
    among = [] if query.among is None else [engine.HasIdCondition(set(query.among))]
    conditions = [*(_condition(field, value) for field, value in (query.where or {}).items()), *among]
    return engine.Filter(must=conditions) if conditions else None


def _request(ask: Ask, narrowed: Any, params: Any, with_payload: bool) -> Any:
    nearest = engine.Query.Nearest(_engine_vector(ask.vector), using=ask.using)
    return engine.QueryRequest(query=nearest, limit=ask.depth, filter=narrowed, with_payload=with_payload, params=params)


def _stored(record: Any, score: float | None = None) -> StoredPoint:
    vectors = {name: _vector(vector) for name, vector in (record.vector or {}).items()}
    return StoredPoint(record.id, record.payload or {}, vectors, score)


def _vector(vector: Any) -> Vector:
    if isinstance(vector, engine.SparseVector):
        return Sparse(tuple(vector.indices), tuple(int(weight) for weight in vector.values))
    return np.asarray(vector, np.float32)


def _engine_vector(vector: Vector) -> Any:
    if isinstance(vector, Sparse):
        return engine.SparseVector(list(vector.ids), [float(weight) for weight in vector.weights])
    return _values(vector)


def _values(vector: Dense) -> list[float]:
    # The engine takes an array much faster than a list; its type stubs know only lists.
    return cast(list[float], np.ascontiguousarray(vector, np.float32))


def _approximate(index: IndexSettings, ef_search: int | None) -> Any:
    compressed = None
    if index.quantization != "none":
        compressed = engine.QuantizationSearchParams(rescore=index.rescore, oversampling=index.oversampling)
    return engine.SearchParams(hnsw_ef=ef_search or index.ef_search, quantization=compressed)


def _filter(fields: Mapping[str, Any] | None) -> Any:
    return engine.Filter(must=[_condition(field, value) for field, value in fields.items()]) if fields else None


def _condition(field: str, value: Any) -> Any:
    match value:
        case Range():
            return engine.FieldCondition(key=field, range=_range(value))
        case Either(ranges):
            return engine.Filter(should=[engine.FieldCondition(key=field, range=_range(each)) for each in ranges])
        case Exists(exists):
            empty = engine.IsEmptyCondition(field)
            return engine.Filter(must_not=[empty]) if exists else empty
        case _:
            return _equals(field, value)


def _range(value: Range) -> Any:
    moments = {name: bound.isoformat() for name, bound in value.bounds.items() if isinstance(bound, datetime)}
    if moments:
        return engine.RangeDateTime(**moments)
    return engine.RangeFloat(**value.bounds)  # type: ignore[arg-type]


def _equals(field: str, value: Any) -> Any:
    one = isinstance(value, str | int | bool)
    return engine.FieldCondition(key=field, match=engine.MatchValue(value) if one else engine.MatchAny(list(value)))


def _surplus(head: Head) -> list[Any]:
    """Return the filters that together match the points to delete in `delete_surplus`."""
    chunks = _filter({"kind": "chunk", "source": head.source, "key": head.key}).must
    version = head.version
    beyond = engine.FieldCondition(key="chunk_index", range=engine.RangeFloat(gte=head.chunk_count))
    same = _equals("version", version.number)
    not_later = engine.FieldCondition(key="version_offset", range=engine.RangeFloat(lte=version.offset))
    not_newer: list[list[Any]] = [[engine.FieldCondition(key="version", range=engine.RangeFloat(lt=version.number))]]
    if version.partition is None:
        not_newer.append([same, not_later])
    else:
        lower = engine.FieldCondition(key="version_partition", range=engine.RangeFloat(lt=version.partition))
        not_newer.append([same, lower])
        not_newer.append([same, _equals("version_partition", version.partition), not_later])
        not_newer.append([same, engine.IsEmptyCondition(key="version_partition"), not_later])
    return [engine.Filter(must=[*chunks, beyond, *conditions]) for conditions in not_newer]


def read_log(folder: Path) -> LogRecord | None:
    """Return the record of the log in a collection's folder; None where there is none."""
    place = folder / _LOG_FILE
    try:
        return LogRecord.from_json(json.loads(place.read_text()), str(place))
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise MismatchError(f"{place} is not JSON: drop the collection and build it again") from exc


def replace_file(path: Path, content: str) -> None:
    """Write a file as a whole, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w") as file:
        file.write(content)
        file.flush()
        # Before the rename, or a power failure could leave the name on an empty file.
        os.fsync(file.fileno())
    beside.replace(path)


@contextmanager
def engine_errors(place: str) -> Iterator[None]:
    """Turn the engine's errors into ours."""
    try:
        yield
    except Exception as exc:
        # The engine raises only bare Exception; a subclass comes from elsewhere.
        if type(exc) is not Exception:
            raise
        reason = str(exc)
        if "WouldBlock" in reason:
            raise TransientError(f"{place} is in use by another process: ask that one, or stop it ({reason})") from exc
        if "No space left" in reason:
            raise TransientError(f"{place}: the disk is full: free some space ({reason})") from exc
        if "not initialized" in reason:
            raise ContractError(f"{place} is closed: open it again") from exc
        raise ContractError(f"{place}: {reason}") from exc
