"""Vector reuse: a build takes the vectors of unchanged texts from another collection of the same space.

The same text in the same space has the same vector, with any chunker. A document's texts are looked up in its chunks in the other
collection.
"""

import logging
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from streaming.plans import Plan
from twinline.clients.online import AdminClient
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import CollectionInfo, Head, Store, StoredPoint
from twinline.contract.documents.ids import point_id
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.errors import ContractError, TwinlineError

_log = logging.getLogger(__name__)


class ReadsPoints(Protocol):
    """Reads the points of the other collection."""

    def read_points(self, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        """Return the existing points by id."""


class VectorSource:
    """A collection whose vectors are reused, for as long as it can be read."""

    def __init__(self, name: str, points: ReadsPoints) -> None:
        self.name = name
        self._points: ReadsPoints | None = points

    def points_of(self, plans: Sequence[Plan]) -> list[StoredPoint]:
        """Return the collection's chunks of these documents, with vectors.

        A collection that cannot be read, because it was retired for example, is not asked again: reuse only saves time.
        """
        # Another thread may set it to None meanwhile.
        points = self._points
        if points is None:
            return []
        try:
            heads = points.read_points([plan.head.id for plan in plans if plan.chunks])
            known = [Head.from_payload(point.payload) for point in heads.values()]
            ids = [point_id(head.source, head.key, index) for head in known for index in range(head.chunk_count)]
            return list(points.read_points(ids, with_vectors=True).values())
        except TwinlineError as exc:
            _log.warning("vector_reuse_lost", extra={"collection": self.name, "error": str(exc)})
            self._points = None
            return []


class _ServedPoints:
    """The points of a collection that the online process owns."""

    def __init__(self, admin: AdminClient, name: str) -> None:
        self._admin = admin
        self._name = name

    def read_points(self, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        return self._admin.read_points(self._name, ids, with_vectors)

    def read_golden(self) -> dict[str, NDArray[np.float32]]:
        return self._admin.golden(self._name)


def find_vector_source(settings: Settings, store: Store, info: CollectionInfo, golden: GoldenSet) -> VectorSource | None:
    """Return a visible collection of the same space, preferably the active one; None when none can be used.

    Its golden vectors must be within the limit of the new release, which excludes a collection filled at a lower precision.

    Raises:
        TransientError: the store is away.
    """
    active = store.active()
    names = [name for name in store.names() if _space(store, name) == info.space]
    name = next(iter(sorted(names, key=lambda name: name != active)), None)
    if name is None:
        return None
    # The one owner of a collection is another process.
    points = _ServedPoints(AdminClient(settings.admin_url), name) if store.has_one_owner else store.open(name, store.info(name))
    try:
        worst, distance = golden.worst_stored(points.read_golden())
    except TwinlineError as exc:
        _log.warning("vector_reuse_not_readable", extra={"collection": name, "error": str(exc)})
        return None
    if distance > golden.stored_limit:
        _log.warning("vector_reuse_differs", extra={"collection": name, "golden_text": worst.name, "distance": distance})
        return None
    return VectorSource(name, points)


def _space(store: Store, name: str) -> str | None:
    try:
        return store.info(name).space
    except ContractError as exc:
        # Of an older version, or being retired: the build works without it.
        _log.warning("vector_reuse_not_readable", extra={"collection": name, "error": str(exc)})
        return None
