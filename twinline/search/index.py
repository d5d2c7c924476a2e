"""The release and the collection that answer searches now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinline.clients.store.protocol import Collection
from twinline.search.releases import Releases


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The contract's fingerprint and those of its two parts."""

    contract: str
    vector: str
    index: str


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The active release, its encoder's served format, and the size of its collection."""

    release: str
    space: str
    collection: str
    fingerprints: Fingerprints
    format: str
    precision: str
    documents: int
    chunks: int
    training: Mapping[str, Any]


def index_info(releases: Releases) -> IndexInfo:
    """Describe the active release.

    Raises:
        TransientError: no release is active, or the store is away.
    """
    with releases.active() as served:
        info = served.info
        return IndexInfo(
            release=info.release,
            space=info.space,
            collection=served.collection.name,
            fingerprints=Fingerprints(info.contract_fingerprint, info.vector_fingerprint, info.index_fingerprint),
            format=served.release.format,
            precision=served.release.precision,
            documents=count_documents(served.collection),
            chunks=served.collection.count({"kind": "chunk"}),
            training=served.training,
        )


def count_documents(collection: Collection) -> int:
    """Return how many documents a collection holds: every searchable document has a first chunk."""
    # Heads are no measure: those of deleted documents stay. One condition suffices, since only chunks have a number.
    return collection.count({"chunk_index": 0})
