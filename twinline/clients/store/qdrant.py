"""A Qdrant server or cluster (or qdrant-client's local mode, for tests) as the vector store.

A collection's metadata hold its `CollectionInfo` (server 1.16 or newer) and its `LogRecord`; the active one has the alias
`documents`. A prefix begins all these names, where several installations share a server. The server removes nothing by itself
and acknowledges a write once it is in its write-ahead log.
"""

from collections.abc import Mapping
from typing import Any

from qdrant_client import QdrantClient, models

from twinline.clients.log_record import LogRecord
from twinline.clients.store.protocol import GOLDEN_VECTOR_NAME, CollectionInfo, payload_indexes
from twinline.clients.store.qdrant_collection import QdrantCollection, is_server, log_of, server_errors
from twinline.contract.errors import ContractError, MismatchError
from twinline.contract.release.index_settings import IndexSettings

ALIAS = "documents"
_OWNER = "twinline"


def connect(url: str, api_key: str | None = None, timeout_seconds: int = 30) -> QdrantClient:
    """Return a client of a server; nothing is sent until the first call. `:memory:` is the local mode."""
    if url == ":memory:":
        return QdrantClient(":memory:")
    # The compatibility check would send a request, and warn where it fails.
    return QdrantClient(url=url, api_key=api_key, timeout=timeout_seconds, check_compatibility=False)


class QdrantStore:
    """A `Store` over a client."""

    has_one_owner = False

    def __init__(self, client: QdrantClient, alias: str = ALIAS, prefix: str = "") -> None:
        self._client = client
        self._prefix = prefix
        self._alias = prefix + alias

    def create(self, name: str, info: CollectionInfo) -> QdrantCollection:
        collection = self.begin(name, info)
        self.finish(name)
        return collection

    def begin(self, name: str, info: CollectionInfo) -> QdrantCollection:
        with server_errors(self._client, f"collection {name}"):
            if not self._client.collection_exists(self._prefix + name):
                self._client.create_collection(
                    self._prefix + name,
                    vectors_config=_dense_params(info),
                    sparse_vectors_config=_sparse_params(info) or None,
                    metadata=self._to_metadata("building", info),
                )
        state, found = self._metadata(name)
        if state != "building":
            raise ContractError(f"collection {name} is on the server already: retire its release before building it again")
        found.check(info, name)
        self._index_payloads(name, found.index)
        return QdrantCollection(name, found, self._client, self._prefix)

    def finish(self, name: str) -> None:
        state, info = self._metadata(name)
        if state != "building":
            raise ContractError(f"collection {name} is {state}, only one that was begun can be finished")
        with server_errors(self._client, f"collection {name}"):
            self._client.update_collection(self._prefix + name, metadata=self._to_metadata("ready", info))

    def open(self, name: str, expected: CollectionInfo) -> QdrantCollection:
        info = self.info(name)
        info.check(expected, name)
        return QdrantCollection(name, info, self._client, self._prefix)

    def names(self) -> list[str]:
        return self._in_state("ready")

    def begun(self) -> list[str]:
        return self._in_state("building")

    def info(self, name: str) -> CollectionInfo:
        state, info = self._metadata(name)
        if state != "ready":
            raise ContractError(f"collection {name} is {state}: finish its build first (python -m streaming build)")
        return info

    def log(self, name: str) -> LogRecord | None:
        return log_of(self._read_metadata(name), f"collection {name}")

    def drop(self, name: str) -> None:
        if self.active() == name:
            raise ContractError(f"collection {name} is the active one: activate another before dropping it")
        self._metadata(name)
        with server_errors(self._client, f"collection {name}"):
            self._client.delete_collection(self._prefix + name)

    def sweep(self) -> None:
        """Do nothing: the server drops a collection whole."""

    def active(self) -> str | None:
        with server_errors(self._client, f"alias {self._alias}"):
            aliases = self._client.get_aliases().aliases
        active = next((alias.collection_name for alias in aliases if alias.alias_name == self._alias), None)
        return None if active is None else active.removeprefix(self._prefix)

    def activate(self, name: str) -> None:
        self.info(name)
        alias = models.CreateAlias(collection_name=self._prefix + name, alias_name=self._alias)
        point_at = models.CreateAliasOperation(create_alias=alias)
        unset = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self._alias))
        # One atomic request: the alias exists at every moment.
        operations: list[models.CreateAliasOperation | models.DeleteAliasOperation] = [point_at]
        if self.active() is not None:
            operations.insert(0, unset)
        with server_errors(self._client, f"alias {self._alias}"):
            self._client.update_collection_aliases(change_aliases_operations=operations)

    def _in_state(self, state: str) -> list[str]:
        with server_errors(self._client, "the list of collections"):
            names = [collection.name for collection in self._client.get_collections().collections]
            # Other people's collections may live on the same server.
            own = {name: (self._client.get_collection(name).config.metadata or {}).get(_OWNER, {}) for name in names}
        in_state = [name for name, said in own.items() if said.get("state") == state and said.get("prefix", "") == self._prefix]
        return sorted(name.removeprefix(self._prefix) for name in in_state)

    def _index_payloads(self, name: str, index: IndexSettings) -> None:
        if not is_server(self._client):
            return
        with server_errors(self._client, f"collection {name}"):
            for field, type_ in payload_indexes(index).items():
                self._client.create_payload_index(self._prefix + name, field, models.PayloadSchemaType(type_))

    def _read_metadata(self, name: str) -> Mapping[str, Any]:
        with server_errors(self._client, f"collection {name}"):
            if not self._client.collection_exists(self._prefix + name):
                raise ContractError(f"no collection {name} on the server: build it first (python -m streaming build)")
            return self._client.get_collection(self._prefix + name).config.metadata or {}

    def _to_metadata(self, state: str, info: CollectionInfo) -> dict[str, object]:
        said: dict[str, object] = {"state": state, "info": info.to_json()}
        return {_OWNER: {**said, "prefix": self._prefix} if self._prefix else said}

    def _metadata(self, name: str) -> tuple[str, CollectionInfo]:
        own = self._read_metadata(name).get(_OWNER)
        if own is None:
            raise MismatchError(
                f"collection {name} has no metadata of Twinline: somebody else's, or a server older than 1.16; "
                "use another server, or upgrade it and build the collection again"
            )
        return own["state"], CollectionInfo.from_json(own["info"], f"collection {name}")


def _dense_params(info: CollectionInfo) -> dict[str, models.VectorParams]:
    # The engine keeps a slot for every point in every named vector: on disk the golden ones cost no memory.
    golden = models.VectorParams(size=info.dimension, distance=models.Distance.COSINE, on_disk=True)
    dense = {
        name: models.VectorParams(
            size=spec.dimension,
            distance=models.Distance.COSINE,
            hnsw_config=models.HnswConfigDiff(m=info.index.m, ef_construct=info.index.ef_construct),
            quantization_config=_quantization(info.index),
        )
        for name, spec in info.vectors.items()
        if spec.dimension is not None
    }
    return {**dense, GOLDEN_VECTOR_NAME: golden}


def _sparse_params(info: CollectionInfo) -> dict[str, models.SparseVectorParams]:
    # No modifier: weights include the rarity of terms; the server's own statistics must not change scores.
    return {name: models.SparseVectorParams() for name, spec in info.vectors.items() if spec.kind == "sparse"}


def _quantization(index: IndexSettings) -> models.ScalarQuantization | models.BinaryQuantization | None:
    # In memory: reading compressed vectors from disk would save nothing.
    if index.quantization == "int8":
        return models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True))
    if index.quantization == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return None
