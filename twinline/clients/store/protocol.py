"""The vector store as the platform sees it: collections of chunk points and head points, and one active name.

Two adapters keep these promises, `edge` (in process) and `qdrant` (server), and one test suite checks both.
Every write is conditional on the version: a point is never replaced, nor removed, by an older state of its document.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from twinline.clients.log_record import LogRecord
from twinline.clients.store.conditions import Condition
from twinline.clients.store.vectors import (
    DENSE,
    WORDS,
    Ask,
    Dense,
    Vector,
    VectorSpec,
    one_dense,
    vectors_from_json,
    vectors_to_json,
)
from twinline.contract.canonical import JSON
from twinline.contract.documents.filterable import FieldType
from twinline.contract.documents.ids import build_id, golden_id, head_id
from twinline.contract.documents.records import Version
from twinline.contract.errors import MismatchError, SettingsError
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.release.manifest import Manifest

Payload = Mapping[str, Any]
# Every field must equal its value, or one of its values where several are given, or meet its condition. `metadata.team` reaches
# into objects.
Filter = Mapping[str, str | int | bool | Sequence[str] | Sequence[int] | Condition]
Kind = Literal["chunk", "head", "golden", "build"]
# The kinds of points in a collection beside documents.
OWN_KINDS = frozenset({"golden", "build"})

COLLECTION_PREFIX = "documents_"
# It has the dense vector's size and distance. No ask names it, so no search finds a point that has only this one.
GOLDEN_VECTOR_NAME = "golden"
MOST_GOLDEN = 1_000
# Indexed in every collection; a release's own come on top.
KEYWORD_FIELDS = ("kind", "source", "key", "tenant")
# The number of a chunk: documents are counted by their first one, and without an index that reads every payload.
INTEGER_FIELDS = ("version", "chunk_index", "timestamp_ms")
VERSION_FIELDS = ("version", "version_kind", "version_offset", "version_partition")


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """The specification of a collection; stored beside its points, and compared whenever it is opened.

    Args:
        vectors: by name; the dense one is always among them.
    """

    release: str
    space: str
    contract_fingerprint: str
    vector_fingerprint: str
    index_fingerprint: str
    vectors: Mapping[str, VectorSpec]
    index: IndexSettings = field(default_factory=IndexSettings)

    def __post_init__(self) -> None:
        dense = self.vectors.get(DENSE)
        if dense is None or dense.kind != "dense" or GOLDEN_VECTOR_NAME in self.vectors:
            raise SettingsError(
                f"a collection cannot have the vectors {sorted(self.vectors)}: one is dense and called {DENSE!r}, and none is "
                f"called {GOLDEN_VECTOR_NAME!r}"
            )

    @property
    def dimension(self) -> int:
        """Return how many numbers the dense vector has."""
        return self.vectors[DENSE].dimension or 0

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the info that a release's collection must have."""
        prints = manifest.fingerprints
        fingerprints = (prints.contract, prints.vector, prints.index)
        words = {} if manifest.fusion is None else {WORDS: VectorSpec("sparse", None, "dot")}
        vectors = {**one_dense(manifest.dimension), **words}
        return cls(manifest.release, manifest.space, *fingerprints, vectors, manifest.index)

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form.

        A collection with the dense vector alone has the form from before vectors had names, so that older versions open it.
        """
        value = asdict(self)
        vectors = {"vectors": value.pop("vectors")}
        if self.vectors == one_dense(self.dimension):
            vectors = {"dimension": self.dimension, "distance": self.vectors[DENSE].distance}
        del value["index"]
        return {**value, **vectors, "index": self.index.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], place: str) -> Self:
        """Read the JSON form, of this version or of one before vectors had names; raise MismatchError for any other."""
        try:
            fields = {**value, "index": IndexSettings.from_json(value.get("index", {}))}
            if "vectors" in fields:
                vectors = {name: VectorSpec(**spec) for name, spec in fields.pop("vectors").items()}
            else:
                vectors = {DENSE: VectorSpec("dense", fields.pop("dimension"), fields.pop("distance", "cosine"))}
            return cls(**fields, vectors=vectors)
        except (TypeError, KeyError, AttributeError, SettingsError) as exc:
            raise MismatchError(f"{place} says {sorted(value)} of itself: no collection of this version; build it again") from exc

    def check(self, expected: "CollectionInfo", name: str) -> None:
        """Raise MismatchError, naming both sides and the remedy, when a collection is not the expected one."""
        for what in ("space", "contract_fingerprint", "dimension", "vectors", "index", "release"):
            found, wanted = getattr(self, what), getattr(expected, what)
            if found != wanted:
                raise MismatchError(
                    f"collection {name} has {what} {found!r}, release {expected.release} needs {wanted!r}: "
                    f"build the collection of release {expected.release}, or serve release {self.release}"
                )


@dataclass(frozen=True, slots=True)
class Head:
    """The store's record of one document; it outlives the document's deletion.

    Args:
        metadata: all of the document's; None for a deleted document, and for a head of an older release of Twinline, which
            left them on the chunks.
    """

    source: str
    key: str
    version: Version
    deleted: bool
    chunk_count: int
    # Not compared: a store may give 1.0 back as 1.
    metadata: Mapping[str, JSON] | None = field(default=None, compare=False)

    @property
    def id(self) -> UUID:
        """Return the id of the head point."""
        return head_id(self.source, self.key)

    def to_payload(self) -> dict[str, JSON]:
        """Return the payload of the head point."""
        metadata: dict[str, JSON] = {} if self.metadata is None else {"metadata": dict(self.metadata)}
        return {
            "kind": "head",
            "source": self.source,
            "key": self.key,
            **version_fields(self.version),
            "deleted": self.deleted,
            "chunk_count": self.chunk_count,
            **metadata,
        }

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read the payload of a head point."""
        named = (payload["source"], payload["key"], stored_version(payload), payload["deleted"], payload["chunk_count"])
        return cls(*named, payload.get("metadata"))


@dataclass(frozen=True, slots=True, eq=False)
class StoredPoint:
    """One point. `vectors` is empty for a head or where they were not asked for; `score` is there in answers to a query."""

    id: UUID
    payload: Payload
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    score: float | None = None

    @property
    def dense(self) -> Dense | None:
        """Return the dense vector `(dim,)`, None where there is none."""
        found = self.vectors.get(DENSE)
        return found if isinstance(found, np.ndarray) else None

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form, without the score."""
        return {"id": str(self.id), "payload": dict(self.payload), **vectors_to_json(self.vectors)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the JSON form."""
        return cls(UUID(value["id"]), value["payload"], vectors_from_json(value))


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Questions to one collection, narrowed alike.

    Args:
        asks: the questions.
        where: conditions on payloads.
        exact: compare with every point.
        among: only these points; None: all.
        with_payload: False: ids and scores alone, which costs a fraction where lists are long.
        ef_search: candidates of the search in the graph; None: as the collection's index settings say.
    """

    asks: tuple[Ask, ...]
    where: Filter | None = None
    exact: bool = False
    among: tuple[UUID, ...] | None = None
    with_payload: bool = True
    ef_search: int | None = None


def document_metadata(chunk: Payload, head: Head | None) -> Mapping[str, Any]:
    """Return the metadata of a chunk's document: its head's, else those on the chunk itself."""
    found: Mapping[str, Any] = chunk["metadata"] if head is None or head.metadata is None else head.metadata
    return found


def payload_indexes(index: IndexSettings) -> dict[str, FieldType]:
    """Return the type of each payload field that a collection indexes; a bool is stored as a keyword."""
    own: dict[str, FieldType] = {**dict.fromkeys(KEYWORD_FIELDS, "keyword"), **dict.fromkeys(INTEGER_FIELDS, "integer")}
    declared = {name: "keyword" if type_ == "bool" else type_ for name, type_ in index.declared.items()}
    return {**declared, **own}


def golden_points(info: CollectionInfo, names: Iterable[str]) -> dict[str, StoredPoint]:
    """Return the points, still without vectors, that hold golden texts in a collection, by the text's name."""
    return {
        name: StoredPoint(golden_id(name), {"kind": "golden", "name": name, "release": info.release, "space": info.space})
        for name in names
    }


def build_point(state: Mapping[str, JSON]) -> StoredPoint:
    """Return the point for a build's notes on its progress; it stays, and names the inputs of the collection."""
    return StoredPoint(build_id(), {"kind": "build", "state": dict(state)})


def version_fields(version: Version) -> dict[str, JSON]:
    """Return how a version is stored in any payload."""
    fields: dict[str, JSON] = {"version": version.number, "version_kind": version.kind, "version_offset": version.offset}
    return fields if version.partition is None else {**fields, "version_partition": version.partition}


def stored_version(payload: Payload) -> Version:
    """Return the version that a payload carries."""
    partition = payload.get("version_partition")
    if partition is None and payload["version_kind"] == "log" and payload.get("offset") == payload["version_offset"]:
        # A chunk of an older release of Twinline names the partition of its message alone; its head names none.
        partition = payload.get("partition")
    return Version(payload["version_kind"], payload["version"], payload["version_offset"], partition)


def version_part(payload: Payload) -> dict[str, JSON]:
    """Return a payload's fields of its version; fields missing from a damaged payload are absent."""
    return {name: payload[name] for name in VERSION_FIELDS if name in payload}


class Collection(Protocol):
    """One release's points. Methods may be called from several threads.

    Writes are durable against the death of the process when they return, against the death of the machine after `flush()`.
    Every method raises TransientError when the store cannot be reached, ContractError when it refuses.
    """

    @property
    def name(self) -> str:
        """Return the collection's name."""

    @property
    def info(self) -> CollectionInfo:
        """Return the specification of the collection."""

    def read_heads(self, ids: Sequence[UUID]) -> dict[UUID, Head]:
        """Return the heads that exist, by their id."""

    def put_heads(self, heads: Sequence[Head]) -> None:
        """Write heads, except where a newer one is stored; at most one head a document in a call."""

    def read_points(self, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        """Return the points that exist, by their id."""

    def put_points(self, points: Sequence[StoredPoint]) -> None:
        """Write chunk points with their vectors, except where a newer version of the point is stored.

        Each has all of the collection's vectors: a chunk without one could not be found by it. ContractError otherwise.
        A store with one owner also leaves out the chunks of a document that has a newer head.
        """

    def put_golden(self, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the vectors `(dim,)` of golden texts, by the text's name; existing vectors of a name are replaced."""

    def read_golden(self) -> dict[str, NDArray[np.float32]]:
        """Return the stored vectors `(dim,)` of golden texts by name; none where none were written."""

    def put_build(self, state: Mapping[str, JSON]) -> None:
        """Note the progress of a build. A reader of the note also finds every earlier write."""

    def read_build(self) -> Mapping[str, Any]:
        """Return the last note of a build; empty where there is none."""

    def read_log(self) -> LogRecord | None:
        """Return the record of the log that the collection belongs to; None where an older release of Twinline made it."""

    def put_log(self, log: LogRecord) -> None:
        """Write the record of the log."""

    def delete_surplus(self, heads: Sequence[Head]) -> None:
        """Remove the chunks at or beyond a head's chunk count that are not newer than the head.

        Never one below: those are replaced in place, so no removal makes a document missing, even with several writers.
        """

    def remove_points(self, points: Sequence[StoredPoint]) -> None:
        """Remove surplus points, except where another version of one is stored by now."""

    def query(self, query: Query) -> list[list[StoredPoint]]:
        """Return a list of chunk points for each ask, in the order of the asks, best first.

        The score of a dense ask is the cosine. That of a sparse one is the dot product of the weights, and only points that
        share a term with it are listed. Points of equal score come in any order. ContractError for a vector that the collection
        does not have.
        """

    def count(self, where: Filter | None = None) -> int:
        """Return how many points match; all of them, heads and golden texts too, without a filter."""

    def scroll(
        self, where: Filter | None = None, limit: int = 256, offset: UUID | None = None, with_vectors: bool = False
    ) -> tuple[list[StoredPoint], UUID | None]:
        """Return a page of points in the order of their ids, and the offset of the next page, None after the last."""

    def optimize(self) -> None:
        """Build the approximate index now, where the store does not do so by itself. May hold the interpreter for long."""

    def flush(self) -> None:
        """Make all writes durable against the death of the machine."""

    def close(self) -> None:
        """Flush and close. Closing twice is harmless."""


class Store(Protocol):
    """All collections, and the name of the active one."""

    @property
    def has_one_owner(self) -> bool:
        """Return whether only one process, the online one, can have a collection open; others ask that process."""

    def create(self, name: str, info: CollectionInfo) -> Collection:
        """Make an empty collection that is visible at once; ContractError when the name is taken."""

    def begin(self, name: str, info: CollectionInfo) -> Collection:
        """Make a collection that stays out of `names()` until `finish()`; go on with an unfinished one of equal info."""

    def finish(self, name: str) -> None:
        """Make a collection begun, and closed since, visible."""

    def open(self, name: str, expected: CollectionInfo) -> Collection:
        """Open a visible collection; MismatchError when it was built with anything else than expected."""

    def names(self) -> list[str]:
        """Return the names of the visible collections, sorted."""

    def begun(self) -> list[str]:
        """Return the names of the collections that were begun and not finished, sorted."""

    def info(self, name: str) -> CollectionInfo:
        """Return the specification of a visible collection, without opening it."""

    def log(self, name: str) -> LogRecord | None:
        """Return the record of the log that a visible collection belongs to, without opening it; None where it has none."""

    def drop(self, name: str) -> None:
        """Remove a closed collection, or one that was begun; ContractError for the active one."""

    def sweep(self) -> None:
        """Remove the remains of an interrupted drop; for the one process that drops."""

    def active(self) -> str | None:
        """Return the name of the active collection. Cheap: search asks once a request."""

    def activate(self, name: str) -> None:
        """Make a visible collection the active one: the only commit point of a release."""


def read_build(collection: Collection) -> Mapping[str, Any]:
    """Return the last note of a build in a collection; empty where there is none."""
    found = collection.read_points([build_id()]).get(build_id())
    state: Mapping[str, Any] = found.payload["state"] if found else {}
    return state


def nearest(
    collection: Collection, vector: Dense, limit: int, where: Filter | None = None, exact: bool = False
) -> list[StoredPoint]:
    """Return the chunk points whose dense vectors are nearest to a vector `(dim,)`, best first."""
    return collection.query(Query((Ask(DENSE, vector, limit),), where, exact))[0]
