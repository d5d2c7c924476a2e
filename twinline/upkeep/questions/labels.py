"""Whether judgements still fit the corpus: a judged document that is gone, or whose text is another one by now."""

import json
from collections.abc import Iterable
from typing import Protocol
from uuid import UUID

from twinline.clients.store.protocol import StoredPoint
from twinline.contract.canonical import fingerprint


class ReadsPoints(Protocol):
    """The stored points of a collection."""

    def points(
        self, name: str, *, source: str | None = None, key: str | None = None, kind: str | None = None, offset: UUID | None = None
    ) -> tuple[list[StoredPoint], UUID | None]:
        """Return a page of points and the offset of the next."""


def digests(store: ReadsPoints, collection: str, documents: Iterable[str]) -> dict[str, str]:
    """Return a digest of each document's text as it is indexed; empty where the index has no chunk of it.

    The digest is of the distinct words of title and text. It stays the same under another chunker, overlap or metadata; a text
    that changed by the order of its words alone has the same one.
    """
    return {document: _digest(store, collection, document) for document in sorted(set(documents))}


def _digest(store: ReadsPoints, collection: str, document: str) -> str:
    source, key = json.loads(document)
    words: set[str] = set()
    offset: UUID | None = None
    while True:
        points, offset = store.points(collection, source=source, key=key, kind="chunk", offset=offset)
        for point in points:
            words |= {*str(point.payload["title"]).split(), *str(point.payload["text"]).split()}
        if offset is None:
            return fingerprint(sorted(words)) if words else ""
