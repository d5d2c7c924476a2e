"""One collection on a Qdrant server. Conditions travel with the writes, so several consumers cannot undo one another's work."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

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
from twinline.clients.store.vectors import Vector, check_asks, check_vectors
from twinline.clients.tls import speaks_tls
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Version
from twinline.contract.errors import ContractError, SettingsError, TransientError
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.sparse.vector import Sparse

_TRY_AGAIN = (408, 429)
_NOT_LET_IN = (401, 403)
# A key of its own: the server merges metadata by key, so this and the collection's state do not overwrite each other.
LOG_KEY = "twinline-log"


class QdrantCollection:
    """A `Collection` over a client; `prefix` begins its name on the server."""

    def __init__(self, name: str, info: CollectionInfo, client: QdrantClient, prefix: str = "") -> None:
        self.name = name
        self.info = info
        self._client = client
        self._there = prefix + name

    def read_heads(self, ids: Sequence[UUID]) -> dict[UUID, Head]:
        return {id_: Head.from_payload(point.payload) for id_, point in self.read_points(ids).items()}

    def put_heads(self, heads: Sequence[Head]) -> None:
        self._upsert(StoredPoint(head.id, head.to_payload()) for head in heads)

    def read_points(self, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        if not ids:
            return {}
        with self._ours():
            records = self._client.retrieve(
                self._there,
                [str(id_) for id_ in ids],
                with_payload=True,
                with_vectors=[*self.info.vectors] if with_vectors else False,
            )
        return {UUID(str(record.id)): _stored(record) for record in records}

    def put_points(self, points: Sequence[StoredPoint]) -> None:
        for point in points:
            check_vectors(f"collection {self.name}", self.info.vectors, point.vectors)
        self._upsert(points)

    def put_golden(self, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        structs = [
            models.PointStruct(
                id=str(point.id),
                vector={GOLDEN_VECTOR_NAME: [float(value) for value in vectors[name]]},
                payload=dict(point.payload),
            )
            for name, point in golden_points(self.info, vectors).items()
        ]
        self._send([models.UpsertOperation(upsert=models.PointsList(points=structs))] if structs else [])

    def read_golden(self) -> dict[str, NDArray[np.float32]]:
        # All vectors, not only the golden one: a collection from before golden points does not know that name.
        golden = _filter({"kind": "golden"})
        with self._ours():
            records, _ = self._client.scroll(self._there, golden, limit=MOST_GOLDEN, with_payload=True, with_vectors=True)
        vectors = {(record.payload or {})["name"]: record.vector for record in records}
        return {
            name: np.asarray(vector[GOLDEN_VECTOR_NAME], np.float32)
            for name, vector in vectors.items()
            if isinstance(vector, dict) and GOLDEN_VECTOR_NAME in vector
        }

    def put_build(self, state: Mapping[str, JSON]) -> None:
        point = build_point(state)
        struct = models.PointStruct(id=str(point.id), vector={}, payload=dict(point.payload))
        self._send([models.UpsertOperation(upsert=models.PointsList(points=[struct]))])

    def read_build(self) -> Mapping[str, Any]:
        return read_build(self)

    def read_log(self) -> LogRecord | None:
        with self._ours():
            return log_of(self._client.get_collection(self._there).config.metadata or {}, f"collection {self.name}")

    def put_log(self, log: LogRecord) -> None:
        with self._ours():
            self._client.update_collection(self._there, metadata={LOG_KEY: log.to_json()})

    def delete_surplus(self, heads: Sequence[Head]) -> None:
        self._send(models.DeleteOperation(delete=models.FilterSelector(filter=_surplus(head))) for head in heads)

    def remove_points(self, points: Sequence[StoredPoint]) -> None:
        self._send(models.DeleteOperation(delete=models.FilterSelector(filter=_same_state(point))) for point in points)

    def query(self, query: Query) -> list[list[StoredPoint]]:
        check_asks(f"collection {self.name}", self.info.vectors, query.asks)
        # Heads have no vector, so no query meets them.
        narrowed = _narrowed(query)
        params = _search_params(self.info.index, query) if is_server(self._client) else None
        requests = [
            models.QueryRequest(
                query=_plain(ask.vector),
                using=ask.using,
                limit=ask.depth,
                filter=narrowed,
                params=params,
                with_payload=query.with_payload,
            )
            for ask in query.asks
        ]
        with self._ours():
            answers = self._client.query_batch_points(self._there, requests)
        return [[_stored(point, point.score) for point in answer.points] for answer in answers]

    def count(self, where: Filter | None = None) -> int:
        with self._ours():
            return self._client.count(self._there, count_filter=_filter(where), exact=True).count

    def scroll(
        self, where: Filter | None = None, limit: int = 256, offset: UUID | None = None, with_vectors: bool = False
    ) -> tuple[list[StoredPoint], UUID | None]:
        with self._ours():
            records, following = self._client.scroll(
                self._there,
                scroll_filter=_filter(where),
                limit=limit,
                offset=None if offset is None else str(offset),
                with_payload=True,
                with_vectors=[*self.info.vectors] if with_vectors else False,
            )
        return [_stored(record) for record in records], None if following is None else UUID(str(following))

    def optimize(self) -> None:
        """Do nothing: the server builds its index by itself, in the background."""

    def flush(self) -> None:
        """Do nothing: the server acknowledges a write once it is in its write-ahead log."""

    def close(self) -> None:
        """Do nothing: the client is shared, and its maker closes it."""

    def _upsert(self, points: Iterable[StoredPoint]) -> None:
        # One operation a version: the condition is part of the operation, and each document has its own.
        by_version: dict[Version, list[models.PointStruct]] = {}
        for point in points:
            vectors: Any = {name: _plain(vector) for name, vector in point.vectors.items()}
            struct = models.PointStruct(id=str(point.id), vector=vectors, payload=dict(point.payload))
            by_version.setdefault(stored_version(point.payload), []).append(struct)
        self._send(
            models.UpsertOperation(
                upsert=models.PointsList(points=structs, update_filter=models.Filter(must=[_not_newer_than(version)]))
            )
            for version, structs in by_version.items()
        )

    def _send(self, operations: Iterable[Any]) -> None:
        batch = list(operations)
        if batch:
            with self._ours():
                self._client.batch_update_points(self._there, update_operations=batch, wait=True)

    @contextmanager
    def _ours(self) -> Iterator[None]:
        with server_errors(self._client, f"collection {self.name}"):
            yield


def _stored(record: Any, score: float | None = None) -> StoredPoint:
    vectors = {name: _vector(vector) for name, vector in (record.vector or {}).items()}
    return StoredPoint(UUID(str(record.id)), record.payload or {}, vectors, score)


def _vector(vector: Any) -> Vector:
    if isinstance(vector, models.SparseVector):
        return Sparse(tuple(vector.indices), tuple(int(weight) for weight in vector.values))
    return np.asarray(vector, np.float32)


def _plain(vector: Vector) -> Any:
    if isinstance(vector, Sparse):
        return models.SparseVector(indices=list(vector.ids), values=[float(weight) for weight in vector.weights])
    return [float(value) for value in vector]


def _search_params(index: IndexSettings, query: Query) -> models.SearchParams:
    if query.exact:
        return models.SearchParams(exact=True)
    compressed = None
    if index.quantization != "none":
        compressed = models.QuantizationSearchParams(rescore=index.rescore, oversampling=index.oversampling)
    return models.SearchParams(hnsw_ef=query.ef_search or index.ef_search, quantization=compressed)


def _narrowed(query: Query) -> models.Filter | None:
    conditions: list[models.Condition] = [_condition(field, value) for field, value in (query.where or {}).items()]
    if query.among is not None:
        conditions.append(models.HasIdCondition(has_id=[str(id_) for id_ in query.among]))
    return models.Filter(must=conditions) if conditions else None


def _filter(fields: Mapping[str, Any] | None) -> models.Filter | None:
    return models.Filter(must=[_condition(field, value) for field, value in fields.items()]) if fields else None


def _condition(field: str, value: Any) -> models.Condition:
    match value:
        case Range():
            return models.FieldCondition(key=field, range=_range(value))
        case Either(ranges):
            return models.Filter(should=[models.FieldCondition(key=field, range=_range(each)) for each in ranges])
        case Exists(exists):
            empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=field))
            return models.Filter(must_not=[empty]) if exists else empty
        case _:
            return _equals(field, value)


def _range(value: Range) -> Any:
    return models.DatetimeRange(**value.bounds) if value.is_of_moments else models.Range(**value.bounds)  # type: ignore[arg-type]


def _equals(field: str, value: Any) -> models.FieldCondition:
    one = isinstance(value, str | int | bool)
    return models.FieldCondition(key=field, match=models.MatchValue(value=value) if one else models.MatchAny(any=list(value)))


def _not_newer_than(version: Version) -> models.Filter:
    """Return the filter of points that this version may replace.

    Numbers of the log never go back within a partition (`Version.after`), so number, partition and offset are enough here.
    """
    same_number = _equals("version", version.number)
    not_beyond = models.FieldCondition(key="version_offset", range=models.Range(lte=version.offset))
    unknown = models.IsEmptyCondition(is_empty=models.PayloadField(key="version_partition"))
    conditions: list[Any] = [models.FieldCondition(key="version", range=models.Range(lt=version.number))]
    if version.partition is None:
        conditions.append(models.Filter(must=[same_number, not_beyond]))
    else:
        lower = models.FieldCondition(key="version_partition", range=models.Range(lt=version.partition))
        conditions += [
            models.Filter(must=[same_number, lower]),
            models.Filter(must=[same_number, _equals("version_partition", version.partition), not_beyond]),
            models.Filter(must=[same_number, unknown, not_beyond]),
        ]
    return models.Filter(should=conditions)


def _surplus(head: Head) -> models.Filter:
    own = {"kind": "chunk", "source": head.source, "key": head.key}
    beyond = models.FieldCondition(key="chunk_index", range=models.Range(gte=head.chunk_count))
    return models.Filter(must=[*(_equals(field, value) for field, value in own.items()), beyond, _not_newer_than(head.version)])


def _same_state(point: StoredPoint) -> models.Filter:
    said = version_part(point.payload)
    return models.Filter(
        must=[
            models.HasIdCondition(has_id=[str(point.id)]),
            *(_equals(name, value) for name, value in said.items()),
            *(models.IsEmptyCondition(is_empty=models.PayloadField(key=name)) for name in VERSION_FIELDS if name not in said),
        ]
    )


def is_server(client: QdrantClient) -> bool:
    """Return whether a client talks to a server; the local mode has no payload indexes and is always exact."""
    return client.init_options.get("location") != ":memory:"


def _wrong_setting(address: str, error: str) -> str:
    """Return why there is no connection, where trying again cannot help; else an empty text."""
    url = urlsplit(address)
    if "CERTIFICATE_VERIFY_FAILED" in error:
        return (
            f"has a certificate that is not trusted here ({error}): set SSL_CERT_FILE to its authority's, or correct QDRANT_URL"
        )
    if "WRONG_VERSION_NUMBER" in error:
        return "does not speak TLS: write http:// in QDRANT_URL"
    if url.scheme == "http" and not error.endswith("refused") and url.hostname and speaks_tls(url.hostname, url.port or 6333):
        return "speaks TLS: write https:// in QDRANT_URL"
    return ""


def log_of(metadata: Mapping[str, Any], place: str) -> LogRecord | None:
    """Return the record of the log in a collection's metadata; None where there is none."""
    return LogRecord.from_json(metadata[LOG_KEY], place) if LOG_KEY in metadata else None


@contextmanager
def server_errors(client: QdrantClient, place: str) -> Iterator[None]:
    """Turn qdrant-client's errors into ours."""
    address = client.init_options.get("url") or client.init_options.get("location")
    try:
        yield
    except ResourceExhaustedResponse as exc:
        raise TransientError(f"{place} at {address}: the server is busy: {exc}", float(exc.retry_after_s)) from exc
    except ResponseHandlingException as exc:
        if wrong := _wrong_setting(str(address), str(exc)):
            raise SettingsError(f"{place}: Qdrant at {address} {wrong}") from exc
        raise TransientError(f"{place}: no Qdrant answers at {address}: start it, or set QDRANT_URL ({exc})") from exc
    except UnexpectedResponse as exc:
        status = exc.status_code or 500
        reason = f"{place} at {address}: HTTP {status}: {exc.content.decode(errors='replace')[:500]}"
        if status >= 500 or status in _TRY_AGAIN:
            raise TransientError(reason) from exc
        if status in _NOT_LET_IN:
            raise SettingsError(f"{reason}: check QDRANT_API_KEY, and what it may do there") from exc
        raise ContractError(reason) from exc
    except ApiException as exc:
        raise TransientError(f"{place} at {address}: {exc}") from exc
    except ValueError as exc:
        # The local mode, and the client's own checks of arguments, raise nothing else.
        raise ContractError(f"{place} at {address}: {exc}") from exc
