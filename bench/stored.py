"""Documents of a collection that this process has open: the monitor's questions to the admin API, answered directly."""

import random
from collections.abc import Iterator

from twinline.clients.store.protocol import Collection, Filter, Head, StoredPoint
from twinline.contract.documents.ids import head_id
from twinline.upkeep.skew.pieces import Place


class CollectionDocuments:
    """Implements `twinline.upkeep.skew.pieces.StoredDocuments`."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def choose(self, count: int, seed: int) -> list[Head]:
        """Return the heads of up to `count` documents that are not deleted, at random."""
        heads = [head for head in self.heads() if not head.deleted]
        return heads if len(heads) <= count else random.Random(seed).sample(heads, count)  # noqa: S311  (a sample)

    def head(self, source: str, key: str) -> Head | None:
        """Return the head of one document."""
        id_ = head_id(source, key)
        return self._collection.read_heads([id_]).get(id_)

    def chunks(self, source: str, key: str) -> list[StoredPoint]:
        """Return the chunk points of one document, with vectors."""
        return list(self._scroll({"kind": "chunk", "source": source, "key": key}, with_vectors=True))

    def heads(self) -> list[Head]:
        """Return all heads, in the order of their ids."""
        return [Head.from_payload(point.payload) for point in self._scroll({"kind": "head"})]

    def all_chunks(self) -> list[StoredPoint]:
        """Return all chunk points with vectors, in the order of their ids."""
        return list(self._scroll({"kind": "chunk"}, with_vectors=True))

    def places(self) -> list[Place]:
        """Return the places of the indexed messages in the log."""
        points = self._scroll({"kind": "chunk"})
        return sorted({(int(point.payload["partition"]), int(point.payload["offset"])) for point in points})

    def _scroll(self, where: Filter, with_vectors: bool = False) -> Iterator[StoredPoint]:
        offset = None
        while True:
            page, offset = self._collection.scroll(where, limit=1_000, offset=offset, with_vectors=with_vectors)
            yield from page
            if offset is None:
                return
