"""The facts of a stored point that reconciliation needs: small, so that a whole index can be read page by page."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self
from uuid import UUID

import numpy as np

from twinline.clients.store.protocol import Payload, StoredPoint, version_part
from twinline.clients.store.vectors import WORDS, Vector, VectorSpec
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Version
from twinline.contract.errors import DocumentError
from twinline.contract.sparse.vector import Sparse

# The fields about a chunk's text and document. Not its place in the log: a redelivery may rightly change that.
_SAID: Final = ("chunk_index", "start", "end", "title", "text", "metadata", "tenant", "content_hash", "token_count", "truncated")


@dataclass(frozen=True, slots=True)
class PointFacts:
    """One point. A field that is missing from a damaged payload is None.

    Args:
        kind: chunk, head, golden, or any other stored kind.
        version: the payload's fields of the version.
        said: the hash of a chunk's fields about its text and document, or of a head's metadata, see `said_hash`; empty for a
            head without metadata.
        vector_fault: the fault of a chunk's vectors; empty for good ones.
        words: the hash of a chunk's terms and weights, see `words_hash`; empty where the collection has none.
    """

    id: UUID
    kind: str | None
    source: str | None
    key: str | None
    version: Mapping[str, Any]
    chunk_index: int | None = None
    chunk_count: int | None = None
    deleted: bool | None = None
    content_hash: str | None = None
    said: str = ""
    space: str | None = None
    release: str | None = None
    contract: str | None = None
    vector_fault: str = ""
    words: str = ""

    @classmethod
    def of(cls, point: StoredPoint, vectors: Mapping[str, VectorSpec]) -> Self:
        """Return the facts of a point that was read with its vectors."""
        payload = point.payload
        is_chunk = payload.get("kind") == "chunk"
        own = {name: payload.get(name) for name in ("kind", "source", "key", "chunk_index", "chunk_count", "deleted")}
        own |= {name: payload.get(name) for name in ("content_hash", "space", "release", "contract")}
        said = said_hash(payload) if is_chunk or payload.get("metadata") is not None else ""
        fault = vector_fault(point.vectors, vectors) if is_chunk else ""
        terms = point.vectors.get(WORDS) if is_chunk else None
        words = words_hash(terms) if isinstance(terms, Sparse) else ""
        return cls(point.id, version=version_part(payload), said=said, vector_fault=fault, words=words, **own)

    @property
    def stored_version(self) -> Version | None:
        """Return the version; None where the payload has no readable one."""
        try:
            partition = self.version.get("version_partition")
            number, offset = int(self.version["version"]), int(self.version["version_offset"])
            return Version(self.version["version_kind"], number, offset, None if partition is None else int(partition))
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def point(self) -> StoredPoint:
        """Return the point for `remove_points`."""
        return StoredPoint(self.id, self.version)

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return {**asdict(self), "id": str(self.id)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the JSON form."""
        return cls(**{**value, "id": UUID(value["id"])})


def is_newer(version: Version, than: Version) -> bool:
    """Say whether a version is newer than another; False where their kinds differ."""
    try:
        return than < version
    except DocumentError:
        return False


def said_hash(payload: Payload) -> str:
    """Return the hash of a chunk's fields about its text and its document; of a head, that is its metadata."""
    said = [_plain(payload.get(name)) for name in _SAID]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def words_hash(words: Sparse) -> str:
    """Return the hash of terms and weights: a page of hashes is a hundredth of the vectors."""
    return hashlib.sha256(json.dumps([words.ids, words.weights]).encode()).hexdigest()


def vector_fault(vectors: Mapping[str, Vector], specs: Mapping[str, VectorSpec]) -> str:
    """Return the fault of a chunk's first bad vector; empty where all are good."""
    return next((fault for name, spec in specs.items() if (fault := _fault(vectors.get(name), name, spec))), "")


def _fault(vector: Vector | None, name: str, spec: VectorSpec) -> str:
    if vector is None:
        return "it has none" if spec.kind == "dense" else f"it has no {name}"
    if isinstance(vector, Sparse):
        return "" if spec.kind == "sparse" else "it is sparse"
    if vector.shape != (spec.dimension,):
        return f"it has {vector.shape[0]} dimensions, not {spec.dimension}"
    if not np.isfinite(vector).all():
        return "it is not finite"
    return "" if np.linalg.norm(vector) > 0 else "it is zero"


def _plain(value: Any) -> Any:
    # A store may give 1 back as 1.0, and numbers beyond 64 bits rounded.
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value
