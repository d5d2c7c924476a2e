"""The releases that this process answers from; a release stays open as long as a request uses it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from twinline.clients.release import Release
from twinline.clients.store.protocol import Collection, CollectionInfo, Store
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import TransientError
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.weights import Words
from twinline.search.query_cache import RememberedQueries
from twinline.search.recent import RecentQueries

_HELD_SECONDS = 10.0


@dataclass(frozen=True)
class Served:
    """One release with its collection open.

    Args:
        recent: the recent queries, where the release has a drift reference for comparison.
        remembered: query vectors of the release's space; None: every query goes to the encoder.
        ef_search: candidates of a search, in a trial; None: as the release's index settings say.
    """

    release: Release
    collection: Collection
    recent: RecentQueries | None = None
    remembered: RememberedQueries | None = None
    ef_search: int | None = None

    @property
    def info(self) -> CollectionInfo:
        """Return the info of the release's collection."""
        return self.release.info

    @property
    def preprocessor(self) -> Preprocessor:
        """Return the release's contract."""
        return self.release.preprocessor

    @property
    def embedder(self) -> Embedder:
        """Return the release's encoder."""
        return self.release.embedder

    @property
    def words(self) -> Words | None:
        """Return the release's words; None in a release without them."""
        return self.release.words

    @property
    def fusion(self) -> Fusion:
        """Return how the release makes one list of two."""
        return self.release.fusion

    @property
    def training(self) -> Mapping[str, Any]:
        """Return the fields of the release's lineage that a hit shows."""
        return self.release.training


class Releases:
    """The releases that are served here, and the active one.

    Args:
        store: names the active collection; asked once per request.
        open_release: opens a release that another process has activated. Without it only releases added here are served.
    """

    def __init__(self, store: Store, open_release: Callable[[str], Served] | None = None) -> None:
        self._store = store
        self._open_release = open_release
        self._served: dict[str, Served] = {}
        self._users: dict[str, int] = {}
        self._held: set[str] = set()
        self._changed = threading.Condition()

    def add(self, served: Served) -> None:
        """Answer from this release whenever it is active."""
        with self._changed:
            self._served[served.collection.name] = served

    def remove(self, name: str, timeout_seconds: float = 30.0) -> Served | None:
        """Take a release out of service, and return it once no request uses it.

        Raises:
            TransientError: requests still use it after `timeout_seconds`; it is out of service nevertheless.
        """
        with self._changed:
            served = self._served.pop(name, None)
            if not self._changed.wait_for(lambda: not self._users.get(name), timeout_seconds):
                raise TransientError(f"collection `{name}` still answers requests after {timeout_seconds} s: try again")
        return served

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Let new requests for a collection wait until the context ends: it is closed and opened again."""
        with self._changed:
            self._held.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(name)
                self._changed.notify_all()

    def names(self) -> list[str]:
        """Return the names of the collections served here."""
        with self._changed:
            return sorted(self._served)

    def active_name(self) -> str | None:
        """Return the name of the active collection, served here or not."""
        return self._store.active()

    @contextmanager
    def active(self) -> Iterator[Served]:
        """Resolve the alias once, and keep that release open until the context ends."""
        name = self.active_name()
        if name is None:
            raise NoActiveReleaseError("no release is active: there is nothing to search yet")
        with self.using(name) as served:
            yield served

    @contextmanager
    def using(self, name: str) -> Iterator[Served]:
        """Keep the release of collection `name` open until the context ends."""
        with self._changed:
            # On timeout the caller gets NotServedError and may retry.
            self._changed.wait_for(lambda: name not in self._held, _HELD_SECONDS)
            served = self._served.get(name) or self._opened(name)
            self._users[name] = self._users.get(name, 0) + 1
        try:
            yield served
        finally:
            with self._changed:
                self._users[name] -= 1
                self._changed.notify_all()

    def _opened(self, name: str) -> Served:
        if self._open_release is None:
            raise NotServedError(f"collection `{name}` is not being served here (served: {', '.join(self._served) or 'none'})")
        served = self._served[name] = self._open_release(name)
        return served


class NoActiveReleaseError(TransientError):
    """Nothing was released yet."""


class NotServedError(TransientError):
    """The collection exists or existed, but this process does not have it open."""
