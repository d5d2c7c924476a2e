"""Build the collection of a release: a snapshot's rows, then the log up to its end at the start, then the approximate index.

An interrupted build resumes. Its notes in the collection say how many of the snapshot's rows are stored, and that the group's
offsets are this collection's. They are dropped with the collection, so they never describe another one.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tenacity import stop_when_event_set

from streaming.building.snapshot import TopicSnapshot, open_snapshot
from streaming.building.vector_reuse import find_vector_source
from streaming.decode import Message
from streaming.indexer import Handled, Indexer
from streaming.known_vectors import KnownVectors
from streaming.limits import ConsumerLimits
from streaming.loop import Consumer, ConsumerState
from streaming.opening import open_indexer
from twinline.clients.kafka.connect import beginning_offsets, committed_offsets, end_offsets, ensure_topics
from twinline.clients.log_identity import claim, read_identity
from twinline.clients.release import Release
from twinline.clients.retry import retrying
from twinline.clients.settings import Settings
from twinline.clients.store.door import check_index
from twinline.clients.store.protocol import Collection, Store
from twinline.contract.encoder.specification import ROLES
from twinline.contract.errors import ContractError, SettingsError, TransientError

_log = logging.getLogger(__name__)

# The longest part of the snapshot that is read again after a kill.
_NOTE_SECONDS = 2.0
_BUSY_SECONDS = 2.0


class Progress(Protocol):
    """Takes the progress of a build."""

    def enter(self, phase: str, already_done: int = 0) -> None:
        """Begin a phase; an earlier attempt had done `already_done` messages of it."""

    def __call__(self, handled: int) -> None:
        """Count messages."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a build: an optional snapshot, and a stretch of the log."""

    snapshot: TopicSnapshot | None
    start: Mapping[int, int]
    until: Mapping[int, int]

    @property
    def size(self) -> int:
        """Return the largest possible number of messages."""
        log = sum(max(0, end - self.start.get(partition, 0)) for partition, end in self.until.items())
        return log + (self.snapshot.rows if self.snapshot else 0)


@dataclass(slots=True)
class Built:
    """The result of a build: chunks that were embedded, and chunks whose vectors were stored, here or in `reused_from`."""

    chunks_embedded: int = 0
    chunks_reused: int = 0
    reused_from: str = ""

    def add(self, part: Handled | ConsumerState) -> None:
        """Count one part of the build."""
        self.chunks_embedded += part.chunks_embedded
        self.chunks_reused += part.chunks_reused


def find_inputs(settings: Settings, snapshot_id: str | None) -> Inputs:
    """Return the inputs of a build that begins now.

    Raises:
        SettingsError: there is no such snapshot, or the log has lost messages that follow it.
    """
    ensure_topics(settings)
    until = end_offsets(settings, settings.topic)
    kept_from = beginning_offsets(settings, settings.topic)
    if snapshot_id is None:
        return Inputs(None, kept_from, until)
    snapshot = open_snapshot(settings.snapshots / snapshot_id, read_identity(settings))
    beyond = {
        partition: (end, until.get(partition, 0)) for partition, end in snapshot.ends.items() if end > until.get(partition, 0)
    }
    if beyond:
        raise SettingsError(
            f"snapshot {snapshot_id} ends beyond what topic {settings.topic} has, by partition {beyond}: the topic was made "
            "again, or has lost its end; build without --snapshot, which reads the log from its start"
        )
    # Partitions added since the snapshot are read from their start.
    start = {partition: snapshot.ends.get(partition, first) for partition, first in kept_from.items()}
    lost = {p: (start[p], first) for p, first in kept_from.items() if start[p] < first}
    if lost:
        raise SettingsError(
            f"snapshot {snapshot_id} ends before what topic {settings.topic} still has, by partition {lost}: take a newer one"
        )
    return Inputs(snapshot, start, until)


def build(
    release: Release, store: Store, settings: Settings, limits: ConsumerLimits, inputs: Inputs, stop: Event, progress: Progress
) -> Built | None:
    """Build a release's collection and make it visible; return None when stopped before the end. Its progress is kept.

    Vectors of unchanged texts are taken from a collection of the same space, if there is one.

    Raises:
        MismatchError: encoder, contract and collection are not of one release, or the collection is of another log.
        TransientError: the broker or the store is away.
    """
    reuse = find_vector_source(settings, store, release.info, release.golden)
    built = Built(reused_from=reuse.name if reuse else "")
    collection = _begin(release, store, stop)
    if collection is None:
        return None if stop.is_set() else built
    known = KnownVectors.of(settings, release, limits.vector_cache_mib)
    if known and not collection.read_build():
        # From nothing: vectors of an earlier collection of this release may be the reason to build it again.
        known.forget()
    try:
        # A collection belongs to one log; this one to the log that is read now.
        claim(settings, collection)
        # 1. The golden texts. Every opening of the collection compares them with the release's; the first is here.
        if not _store_golden(release, collection, limits, stop):
            return None
        check_index(collection, release.golden)
        position = _Position.read(collection, inputs)
        # 2. The snapshot's rows, through the consumer's own `handle()`.
        if inputs.snapshot:
            progress.enter(f"snapshot {inputs.snapshot.folder.name}", position.rows)
            with open_indexer(settings, release, collection, limits, reuse, known) as indexer:
                _index_rows(inputs.snapshot.messages(), indexer, limits, stop, progress, built, position)
        # 3. The log, in the group that continues with it once the collection is served.
        start = position.log_start(settings, release.group, inputs.start)
        progress.enter("log", sum(start[partition] - first for partition, first in inputs.start.items()))
        consumer = Consumer(settings, release, collection, limits, reuse=reuse)

        def handled(messages: int) -> None:
            # Not before the first batch: the group's offsets may be an earlier collection's until then.
            position.note_log()
            progress(messages)

        consumer.run(stop, start=start, until=inputs.until, progress=handled)
        built.add(consumer.state)
        if stop.is_set():
            return None
        progress.enter("index")
        # 4. The approximate index; no search waits for it in here.
        collection.optimize()
        # Another installation on this server may have begun the same collection at the same moment: one of the two is refused.
        claim(settings, collection)
    finally:
        collection.close()
    # 5. Visible, whole.
    store.finish(release.collection_name)
    return built


def _begin(release: Release, store: Store, stop: Event) -> Collection | None:
    """Return the collection to build; None when it was built meanwhile, or after a stop.

    A builder whose command was killed may still run. This one waits for it, and resumes from its progress.
    """
    name = release.collection_name
    while not stop.is_set() and name not in store.names():
        try:
            return store.begin(name, release.info)
        except TransientError as exc:
            _log.warning("build_waits", extra={"collection": name, "error": str(exc)})
            stop.wait(_BUSY_SECONDS)
        except ContractError:
            # Made visible between the two lines above.
            if name not in store.names():
                raise
    return None


class _Position:
    """The progress of a build, as noted in the collection; a note about another input does not count."""

    def __init__(self, collection: Collection, snapshot: str | None, rows: int, *, log_began: bool) -> None:
        self.rows = rows
        self._collection = collection
        self._snapshot = snapshot
        self._log_began = log_began
        self._noted_at = time.monotonic()

    @classmethod
    def read(cls, collection: Collection, inputs: Inputs) -> "_Position":
        state: Mapping[str, Any] = collection.read_build()
        snapshot = inputs.snapshot.folder.name if inputs.snapshot else None
        if not state or state["snapshot"] != snapshot:
            return cls(collection, snapshot, 0, log_began=False)
        return cls(collection, snapshot, int(state["rows"]), log_began=bool(state["log_began"]))

    def add_rows(self, count: int) -> None:
        """Count stored rows, and note them every `_NOTE_SECONDS`."""
        self.rows += count
        if time.monotonic() - self._noted_at >= _NOTE_SECONDS:
            self.note()

    def note_log(self) -> None:
        """Note, once, that the group's offsets are this build's."""
        if not self._log_began:
            self._log_began = True
            self.note()

    def note(self) -> None:
        """Note the progress, after a flush has made it durable."""
        self._collection.flush()
        self._collection.put_build({"snapshot": self._snapshot, "rows": self.rows, "log_began": self._log_began})
        self._noted_at = time.monotonic()

    def log_start(self, settings: Settings, group: str, start: Mapping[int, int]) -> dict[int, int]:
        """Return where to continue in the log: messages that the group has committed are durable in the collection."""
        committed = committed_offsets(settings, group, settings.topic) if self._log_began else {}
        return {partition: max(first, committed.get(partition, first)) for partition, first in start.items()}


def _store_golden(release: Release, collection: Collection, limits: ConsumerLimits, stop: Event) -> bool:
    """Store the live encoder's vectors of the golden texts; return False after a stop.

    They are never copied from the release: they prove that the store returns the vectors of the live encoder.
    """
    if release.golden.worst_stored(collection.read_golden())[1] <= release.golden.stored_limit:
        return True  # stored by an earlier attempt
    again = retrying(stop=stop_when_event_set(stop), sleep=stop.wait, longest_wait_seconds=limits.longest_wait_seconds)
    vectors: dict[str, NDArray[np.float32]] = {}
    try:
        for role in ROLES:
            entries = [entry for entry in release.golden.entries if entry.role == role]
            for start in range(0, len(entries), limits.texts_per_request):
                piece = entries[start : start + limits.texts_per_request]
                answer = again(release.embedder.embed, [entry.text for entry in piece], role)
                vectors |= zip((entry.name for entry in piece), answer.vectors, strict=True)
        again(collection.put_golden, vectors)
    except TransientError:
        if not stop.is_set():
            raise
        return False
    return True


def _index_rows(
    messages: Iterator[Message],
    indexer: Indexer,
    limits: ConsumerLimits,
    stop: Event,
    progress: Progress,
    built: Built,
    position: _Position,
) -> None:
    # The snapshot's files are sorted and never change: the same rows come in the same order.
    rows = islice(messages, position.rows, None)
    again = retrying(stop=stop_when_event_set(stop), sleep=stop.wait, longest_wait_seconds=limits.longest_wait_seconds)
    try:
        while not stop.is_set() and (batch := list(islice(rows, limits.max_messages))):
            built.add(again(indexer.handle, batch))
            position.add_rows(len(batch))
            progress(len(batch))
        position.note()
    except TransientError:
        # Stopped while a dependency was away: the caller checks `stop` too.
        if not stop.is_set():
            raise
