"""The collection to compare and repair: the online process's, or one on a Qdrant server."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from streaming.decode import Message
from streaming.indexer import Indexer
from streaming.limits import load_limits
from streaming.message_json import json_of_message
from streaming.opening import open_indexer
from twinline.clients.kafka.standing import passed_offsets
from twinline.clients.online import AdminClient
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.audit import PointFacts
from twinline.clients.store.open import make_store
from twinline.clients.store.protocol import Collection, CollectionInfo
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import SettingsError
from twinline.contract.sparse.weights import Words
from twinline.search.opening import release_of

_PAGE: Final = 500
_POINTS_AT_ONCE: Final = 200


class Index(Protocol):
    """The operations on the collection, for any owner."""

    def audit(self, limit: int, offset: UUID | None, where: Mapping[str, str]) -> tuple[list[PointFacts], UUID | None]:
        """Return a page of facts, of all points or of those that match, and the offset of the next."""

    def apply(self, messages: Sequence[Message]) -> Mapping[str, int]:
        """Apply messages by the consumer's law; return counts."""

    def remove(self, facts: Sequence[PointFacts]) -> None:
        """Remove points that are as they were."""


@dataclass(frozen=True, slots=True)
class Target:
    """One release's collection, with all parts of a comparison."""

    release: str
    info: CollectionInfo
    preprocessor: Preprocessor
    index: Index
    committed: Callable[[], Mapping[int, int]]
    words: Words | None = None

    def facts(self, source: str | None = None, key: str | None = None) -> Iterator[list[PointFacts]]:
        """Yield the facts of all points, or of those that name a document, a page at a time."""
        where = {name: value for name, value in (("source", source), ("key", key)) if value is not None}
        offset: UUID | None = None
        while True:
            page, offset = self.index.audit(_PAGE, offset, where)
            yield page
            if offset is None:
                return


class _Served:
    def __init__(self, admin: AdminClient, name: str) -> None:
        self._admin = admin
        self._name = name

    def audit(self, limit: int, offset: UUID | None, where: Mapping[str, str]) -> tuple[list[PointFacts], UUID | None]:
        return self._admin.audit(self._name, limit, offset, where)

    def apply(self, messages: Sequence[Message]) -> Mapping[str, int]:
        return self._admin.apply(self._name, [json_of_message(message) for message in messages])

    def remove(self, facts: Sequence[PointFacts]) -> None:
        for start in range(0, len(facts), _POINTS_AT_ONCE):
            self._admin.remove_points(self._name, [fact.point for fact in facts[start : start + _POINTS_AT_ONCE]])


class Direct:
    """A collection that this process may open: a server's, or one out of service."""

    def __init__(self, collection: Collection, indexer: Indexer) -> None:
        self._collection = collection
        self._indexer = indexer

    def audit(self, limit: int, offset: UUID | None, where: Mapping[str, str]) -> tuple[list[PointFacts], UUID | None]:
        """Return a page of facts, of all points or of those that match, and the offset of the next."""
        points, following = self._collection.scroll(where or None, limit, offset, with_vectors=True)
        return [PointFacts.of(point, self._collection.info.vectors) for point in points], following

    def apply(self, messages: Sequence[Message]) -> Mapping[str, int]:
        """Apply messages by the consumer's law; return counts."""
        return self._indexer.handle(messages).counts()

    def remove(self, facts: Sequence[PointFacts]) -> None:
        """Remove points that are as they were."""
        for start in range(0, len(facts), _POINTS_AT_ONCE):
            self._collection.remove_points([fact.point for fact in facts[start : start + _POINTS_AT_ONCE]])


@contextmanager
def open_target(settings: Settings, release: Release) -> Iterator[Target]:
    """Open a release's collection for a comparison. No encoder is needed before a message is applied.

    Raises:
        SettingsError: its collection is not served.
        TransientError: the online process, or the server, is away.
    """
    name, info = release.collection_name, release.info

    def committed() -> Mapping[int, int]:
        return passed_offsets(settings, release.group, settings.topic)

    store = make_store(settings)
    if store.has_one_owner:
        with closing(AdminClient(settings.admin_url)) as admin:
            if admin.status().collection(name) is None:
                raise SettingsError(f"collection {name} is not served: build it first (`twinline release build {info.release}`)")
            yield Target(info.release, info, release.preprocessor, _Served(admin, name), committed, release.words)
        return
    with (
        closing(store.open(name, info)) as collection,
        open_indexer(settings, release, collection, load_limits()) as indexer,
    ):
        yield Target(info.release, info, release.preprocessor, Direct(collection, indexer), committed, release.words)


def releases_in_service(settings: Settings) -> tuple[list[str], str | None]:
    """Return the releases whose collections are in service, and the active one, None when there is none.

    Raises:
        TransientError: the online process, or the server, is away.
    """
    store = make_store(settings)
    if store.has_one_owner:
        with closing(AdminClient(settings.admin_url)) as admin:
            status = admin.status()
        names, active = [listed.name for listed in status.collections], status.active
    else:
        names, active = store.names(), store.active()
    return [release_of(name) for name in names], release_of(active) if active else None
