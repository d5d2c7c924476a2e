"""Stored documents and their messages, read from the online process and from Kafka."""

import random
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from streaming.decode import Message
from streaming.log_reader import message_of
from twinline.clients.kafka.stretch import read_places
from twinline.clients.online import AdminClient
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Head, StoredPoint
from twinline.upkeep.skew.pieces import Place

_PAGE: Final = 256
# Heads read from one random place on: nearly always at least one of them is not a deletion.
_NEIGHBOURS: Final = 16
_TRIES: Final = 4


class AdminDocuments:
    """Implements `StoredDocuments` by the admin API."""

    def __init__(self, admin: AdminClient, collection: str) -> None:
        self._admin = admin
        self._collection = collection

    def choose(self, count: int, seed: int) -> list[Head]:
        """Return the heads of documents that are not deleted: all of a small collection, otherwise some at random.

        A head's id is a hash, so the heads after a random id are a random choice, without reading all of them.
        """
        page, following = self._heads(None, max(count, _NEIGHBOURS))
        if following is None:
            return page[:count]
        chosen: dict[tuple[str, str], Head] = {}
        numbers = random.Random(seed)  # noqa: S311  (a sample, no secret)
        for _ in range(_TRIES * count):
            if len(chosen) == count:
                break
            found, _ = self._heads(UUID(int=numbers.getrandbits(128)), _NEIGHBOURS)
            if found:
                chosen[found[0].source, found[0].key] = found[0]
        return list(chosen.values())

    def head(self, source: str, key: str) -> Head | None:
        """Return the head of one document."""
        return self._admin.head(self._collection, source, key)

    def chunks(self, source: str, key: str) -> list[StoredPoint]:
        """Return the chunk points of one document, with vectors."""
        found: list[StoredPoint] = []
        offset: UUID | None = None
        while True:
            page, offset = self._admin.points(
                self._collection, source=source, key=key, kind="chunk", limit=_PAGE, offset=offset, with_vectors=True
            )
            found += page
            if offset is None:
                return found

    def _heads(self, offset: UUID | None, limit: int) -> tuple[list[Head], UUID | None]:
        page, following = self._admin.points(self._collection, kind="head", limit=limit, offset=offset)
        heads = [Head.from_payload(point.payload) for point in page]
        return [head for head in heads if not head.deleted], following


class KafkaLog:
    """Implements `Log` by the topic of documents."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def messages(self, places: Sequence[Place]) -> dict[Place, Message]:
        """Return the messages at these places; expired ones are left out.

        Raises:
            TransientError: no broker answers, or it falls silent.
        """
        if not places:
            return {}
        messages = map(message_of, read_places(self._settings, self._settings.topic, places))
        return {(message.partition, message.offset): message for message in messages}
