"""The releases of this process, and the acts on them: serve, activate, retire.

A served release has its collection open, its encoder checked at first use, and a consumer that keeps it fresh. All collections of
the store are served from the start on. The store's own record names the active one.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import Store
from twinline.contract.errors import ContractError, SettingsError, TransientError
from twinline.online.consuming import ConsumerThread
from twinline.search.releases import Releases, Served

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0
_RETIRE_SECONDS: Final = 30.0
_log = logging.getLogger(__name__)


class OnlineService:
    """The releases of this process. Several threads may call; the acts run one after another.

    Args:
        store: holds the collections, and the record of the active one.
        releases: the releases that search answers from.
        open_release: opens a release by its collection's name, with all checks of the doors.
        start_consumer: starts the consumer of a release.
        alarms: what a person should know of a release's log; no reason to answer no searches.
    """

    def __init__(
        self,
        store: Store,
        releases: Releases,
        open_release: Callable[[str], Served],
        start_consumer: Callable[[Served], ConsumerThread],
        alarms: Callable[[str], list[str]] = lambda release: [],
    ) -> None:
        self._store = store
        self._releases = releases
        self._open_release = open_release
        self._start_consumer = start_consumer
        self.alarms = alarms
        self._acting = threading.RLock()
        self._consumers: dict[str, ConsumerThread] = {}
        # Collections that wait for their turn or for a dependency, with the reason; None: the store was not asked yet.
        self._pending: dict[str, str] | None = None
        self._refused: dict[str, str] = {}
        self._due = 0.0
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    @property
    def releases(self) -> Releases:
        """Return the releases that search answers from."""
        return self._releases

    def tend(self) -> None:
        """Open collections that are not open yet, when their next attempt is due; raise a consumer's bug."""
        if time.monotonic() >= self._due:
            try:
                self._open_pending()
                self._pause_seconds = _FIRST_PAUSE_SECONDS
            except TransientError as error:
                self._due = time.monotonic() + (error.retry_after_seconds or self._pause_seconds)
                self._pause_seconds = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
                _log.warning("releases_wait", extra={"error": str(error)})
        for consumer in list(self._consumers.values()):
            consumer.check()

    def serve(self, name: str) -> None:
        """Open a collection and start its consumer, even after it gave up; do nothing when both run already.

        Raises:
            MismatchError: collection, contract and manifest are not of one release.
            ContractError: there is no such collection, or no such release here.
            TransientError: the store or Triton is away.
        """
        with self._acting:
            consumer = self._consumers.get(name)
            if consumer is not None and consumer.is_running:
                return
            if consumer is None:
                self._releases.add(self._open_release(name))
            with self._releases.using(name) as served:
                self._consumers[name] = self._start_consumer(served)
            self._forget(name)
            _log.info("release_served", extra={"collection": name, "space": served.info.space})

    def activate(self, name: str) -> None:
        """Make a served release the active one.

        Raises:
            SettingsError: it is not served here.
            TransientError: its encoder does not answer; MismatchError: another one does.
        """
        with self._acting:
            if name not in self._consumers:
                raise SettingsError(f"collection `{name}` is not served here (served: {self._names()}): serve it first")
            with self._releases.using(name) as served:
                # A release without a working encoder must not become active: every search needs it.
                served.embedder.embed([served.preprocessor.query_text("ready")], "query")
            before = self._store.active()
            self._store.activate(name)
            _log.info("release_activated", extra={"collection": name, "before": before})

    def retire(self, name: str) -> bool:
        """Stop a release's consumer, close its collection and drop it, also after an unfinished build.

        Returns:
            Whether there was anything to drop.

        Raises:
            SettingsError: it is the active one.
            TransientError: it is still busy; the same call may succeed later.
        """
        with self._acting:
            if name == self._store.active():
                raise SettingsError(f"collection `{name}` is the active one: activate another before retiring it")
            consumer = self._consumers.get(name)
            if consumer is not None:
                consumer.ask_to_stop()
                if not consumer.join(_RETIRE_SECONDS):
                    raise TransientError(f"the consumer of `{name}` has not finished in {_RETIRE_SECONDS} s: try again")
                self._consumers.pop(name)
            served = self._releases.remove(name, _RETIRE_SECONDS)
            if served is not None:
                served.collection.close()
            self._forget(name)
            is_there = name in self._store.names() or name in self._store.begun()
            if is_there:
                self._store.drop(name)
            _log.info("release_retired", extra={"collection": name})
            return is_there

    def replace(self, name: str) -> None:
        """Replace a served collection by the rebuilt one beside it. Searches of it wait meanwhile.

        Raises:
            SettingsError: it is not served, or none was built beside it.
            TransientError: it is still busy; the old one stays, and the same call may succeed later.
            MismatchError: the new one is not of the release; the old one is served again.
        """
        with self._acting:
            consumer = self._consumers.get(name)
            if consumer is None or not isinstance(self._store, EdgeStore):
                raise SettingsError(f"collection `{name}` is not served here by the embedded store: nothing can take its place")
            consumer.ask_to_stop()
            if not consumer.join(_RETIRE_SECONDS):
                raise TransientError(f"the consumer of `{name}` has not finished in {_RETIRE_SECONDS} s: try again")
            try:
                with self._releases.using(name) as old:
                    pass  # checked only: it must be there again if its users do not release it
                with self._releases.held(name):
                    try:
                        self._releases.remove(name, _RETIRE_SECONDS)
                    except TransientError:
                        self._releases.add(old)
                        raise
                    old.collection.close()
                    self._exchange(self._store, name)
            finally:
                # The one of the two that is served now.
                with self._releases.using(name) as served_now:
                    self._consumers[name] = self._start_consumer(served_now)
            _log.info("collection_replaced", extra={"collection": name})

    def _exchange(self, store: EdgeStore, name: str) -> None:
        try:
            store.exchange(name)
        except BaseException:
            self._releases.add(self._open_release(name))
            raise
        try:
            self._releases.add(self._open_release(name))
        except BaseException:
            store.exchange(name)
            self._releases.add(self._open_release(name))
            raise

    def consumer(self, name: str) -> ConsumerThread | None:
        """Return the consumer thread of a served collection."""
        return self._consumers.get(name)

    def begun(self) -> list[str]:
        """Return the collections with an unfinished build, which a builder may be running."""
        return self._store.begun()

    def refused(self) -> dict[str, str]:
        """Return the collections that are not served, with the reason."""
        return {**(self._pending or {}), **self._refused}

    def faults(self) -> list[str]:
        """Return the reasons why this process is not ready, in words."""
        active = self._releases.active_name()
        unserved = [f"collection `{name}`: {reason}" for name, reason in self.refused().items() if name == active]
        stale = [consumer.fault for consumer in list(self._consumers.values())]
        return [*unserved, *(fault for fault in stale if fault)]

    def stop(self, timeout_seconds: float) -> bool:
        """Drain all consumers, then flush and close all collections; say whether all ended in time."""
        deadline = time.monotonic() + timeout_seconds
        for consumer in self._consumers.values():
            consumer.ask_to_stop()
        all_ended = True
        for name, consumer in self._consumers.items():
            ended = consumer.join(max(0.1, deadline - time.monotonic()))
            if not ended:
                # Closing the collection under a writing consumer would break its writes.
                _log.error("consumer_did_not_end", extra={"collection": name})
                all_ended = False
                continue
            served = self._releases.remove(name, max(0.1, deadline - time.monotonic()))
            if served is not None:
                served.collection.close()
        return all_ended

    def _open_pending(self) -> None:
        if self._pending is None:
            self._store.sweep()
            self._pending = dict.fromkeys(self._store.names(), "being opened")
        waiting: TransientError | None = None
        for name in list(self._pending):
            try:
                self.serve(name)
            except TransientError as error:
                # The others need not wait for the same dependency.
                self._pending[name], waiting = str(error), error
            except ContractError as error:
                self._forget(name)
                self._refused[name] = str(error)
                _log.exception("release_refused", extra={"collection": name})
        if waiting is not None:
            raise waiting

    def _forget(self, name: str) -> None:
        (self._pending or {}).pop(name, None)
        self._refused.pop(name, None)

    def _names(self) -> str:
        return ", ".join(sorted(self._consumers)) or "none"
