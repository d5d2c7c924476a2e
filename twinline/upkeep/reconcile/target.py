"""The collection that is compared and repaired: one that the online process owns, or one on a Qdrant server."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from streaming.dead_letters import KafkaDeadLetters
from streaming.decode import Message
from streaming.indexer import Indexer
from streaming.limits import load_limits
from streaming.message_json import json_of_message
from streaming.release import open_release
from twinline.clients.kafka.connect import committed_offsets
from twinline.clients.kafka.erasures import ErasureTopic
from twinline.clients.online import AdminClient
from twinline.clients.settings import Settings
from twinline.clients.store.audit import PointFacts
from twinline.clients.store.open import make_store
from twinline.clients.store.protocol import Collection, CollectionInfo
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import SettingsError
from twinline.contract.release.folder import ReleaseFolder
from twinline.contract.release.manifest import collection_name, consumer_group
from twinline.online.applying import counts_of
from twinline.search.opening import release_of

_PAGE: Final = 500
_POINTS_AT_ONCE: Final = 200


class Index(Protocol):
    """What is done to the collection, whoever owns it."""

    def audit(self, limit: int, offset: UUID | None, where: Mapping[str, str]) -> tuple[list[PointFacts], UUID | None]:
        """Return a page of facts, of all points or of those that match, and the offset of the next."""

    def apply(self, messages: Sequence[Message]) -> Mapping[str, int]:
        """Apply messages by the consumer's law; return counts."""

    def remove(self, facts: Sequence[PointFacts]) -> None:
        """Remove points that are as they were."""


@dataclass(frozen=True, slots=True)
class Target:
    """One release's collection, with all that it is compared by."""

    release: str
    info: CollectionInfo
    preprocessor: Preprocessor
    index: Index
    committed: Callable[[], Mapping[int, int]]

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
    """A collection that this process may open: a server's, or one that nobody serves."""

    def __init__(self, collection: Collection, make_indexer: Callable[[], Indexer]) -> None:
        self._collection = collection
        self._make_indexer = make_indexer
        self._indexer: Indexer | None = None

    def audit(self, limit: int, offset: UUID | None, where: Mapping[str, str]) -> tuple[list[PointFacts], UUID | None]:
        """Return a page of facts, of all points or of those that match, and the offset of the next."""
        points, following = self._collection.scroll(where or None, limit, offset, with_vectors=True)
        return [PointFacts.of(point, self._collection.info.vectors) for point in points], following

    def apply(self, messages: Sequence[Message]) -> Mapping[str, int]:
        """Apply messages by the consumer's law; return counts."""
        # Made when it is needed: a comparison alone needs no encoder.
        self._indexer = self._indexer or self._make_indexer()
        return counts_of(self._indexer.handle(messages))

    def remove(self, facts: Sequence[PointFacts]) -> None:
        """Remove points that are as they were."""
        for start in range(0, len(facts), _POINTS_AT_ONCE):
            self._collection.remove_points([fact.point for fact in facts[start : start + _POINTS_AT_ONCE]])


@contextmanager
def open_target(settings: Settings, release: str) -> Iterator[Target]:
    """Open a release's collection for a comparison.

    Raises:
        SettingsError: the release is not here, or its collection is not served.
        TransientError: the online process, or the server, is away.
    """
    folder, name = settings.releases / release, collection_name(release)
    if not folder.is_dir():
        raise SettingsError(f"release {release} is not in {settings.releases}: see `twinline release list`")
    opened = ReleaseFolder.load(folder)
    info = CollectionInfo.of(opened.manifest)

    def committed() -> Mapping[int, int]:
        return committed_offsets(settings, consumer_group(release), settings.topic)

    store = make_store(settings)
    if store.has_one_owner:
        with closing(AdminClient(settings.admin_url)) as admin:
            if admin.status().collection(name) is None:
                raise SettingsError(f"collection {name} is not served: build it first (`twinline release build {release}`)")
            yield Target(release, info, opened.preprocessor, _Served(admin, name), committed)
        return
    collection = store.open(name, info)
    dead_letters, erasures = KafkaDeadLetters(settings), ErasureTopic(settings)

    def make_indexer() -> Indexer:
        whole = open_release(settings, release)
        indexer = Indexer(collection, whole.embedder, whole.preprocessor, dead_letters, load_limits())
        indexer.keep_out(erasures)
        return indexer

    try:
        yield Target(release, info, opened.preprocessor, Direct(collection, make_indexer), committed)
    finally:
        dead_letters.close()
        erasures.close()
        collection.close()


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
