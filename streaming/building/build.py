"""Build the collection of a release: a snapshot's rows, then the log up to where it ended when we began, then the index.

A build that was cut short goes on from where it was: it notes in the collection itself how many of the snapshot's rows are in it,
and that its group's offsets are this collection's. The note goes when the collection goes, so it never speaks of another one.
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
from streaming.building.vector_reuse import find_donor
from streaming.dead_letters import KafkaDeadLetters
from streaming.decode import Message
from streaming.indexer import Handled, Indexer
from streaming.limits import ConsumerLimits
from streaming.loop import Consumer, ConsumerState
from streaming.release import Release
from twinline.clients.kafka.connect import beginning_offsets, committed_offsets, end_offsets, ensure_topics
from twinline.clients.kafka.erasures import ErasureTopic
from twinline.clients.retry import retrying
from twinline.clients.settings import Settings
from twinline.clients.store.door import check_index
from twinline.clients.store.protocol import Collection, Store
from twinline.contract.encoder.specification import ROLES
from twinline.contract.errors import ContractError, SettingsError, TransientError

_log = logging.getLogger(__name__)

# At most so much of the snapshot is read again after a kill.
_NOTE_SECONDS = 2.0
_BUSY_SECONDS = 2.0


class Progress(Protocol):
    """Whoever wants to know how far a build is."""

    def enter(self, phase: str, already_done: int = 0) -> None:
        """Note what is being read from now on, and what of it an attempt before this one had done."""

    def __call__(self, handled: int) -> None:
        """Count messages."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a build reads: an optional snapshot, and a stretch of the log."""

    snapshot: TopicSnapshot | None
    start: Mapping[int, int]
    until: Mapping[int, int]

    @property
    def size(self) -> int:
        """Return how many messages that is, at most."""
        log = sum(max(0, end - self.start.get(partition, 0)) for partition, end in self.until.items())
        return log + (self.snapshot.rows if self.snapshot else 0)


@dataclass(slots=True)
class Built:
    """What a build did: chunks whose vectors were computed, and those whose vectors were there, in this or another collection."""

    chunks_embedded: int = 0
    chunks_reused: int = 0
    donor: str = ""

    def add(self, part: Handled | ConsumerState) -> None:
        """Count what one part of the build did."""
        self.chunks_embedded += part.chunks_embedded
        self.chunks_reused += part.chunks_reused


def find_inputs(settings: Settings, snapshot_id: str | None) -> Inputs:
    """Return what a build of now has to read.

    Raises:
        SettingsError: there is no such snapshot, or the log has lost what should follow it.
    """
    ensure_topics(settings)
    until = end_offsets(settings, settings.topic)
    kept_from = beginning_offsets(settings, settings.topic)
    if snapshot_id is None:
        return Inputs(None, kept_from, until)
    snapshot = open_snapshot(settings.snapshots / snapshot_id, settings.topic)
    # Partitions that were added since the snapshot are read from their start.
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
    """Build a release's collection and make it visible; return None when stopped before the end. What is done is kept.

    Where there is a collection of the same space, the vectors of texts that did not change are taken from it.

    Raises:
        MismatchError: encoder, contract and collection are not of one release.
        TransientError: the broker or the store is away.
    """
    donor = find_donor(settings, store, release.info, release.golden)
    built = Built(donor=donor.name if donor else "")
    collection = _begin(release, store, stop)
    if collection is None:
        return None if stop.is_set() else built
    try:
        # 1. The golden texts. Whatever opens the collection will compare them with the release's; the first time is now.
        if not _store_golden(release, collection, limits, stop):
            return None
        check_index(collection, release.golden)
        position = _Position.read(collection, inputs)
        # 2. The snapshot's rows, through the consumer's own `handle()`.
        if inputs.snapshot:
            progress.enter(f"snapshot {inputs.snapshot.folder.name}", position.rows)
            dead_letters = KafkaDeadLetters(settings)
            indexer = Indexer(collection, release.embedder, release.preprocessor, dead_letters, limits)
            erasures = ErasureTopic(settings)
            indexer.keep_out(erasures)
            if donor:
                indexer.take_vectors_from(donor)
            try:
                _index_rows(inputs.snapshot.messages(), indexer, limits, stop, progress, built, position)
            finally:
                dead_letters.close()
                erasures.close()
        # 3. The log, in the group that goes on with it once the collection is served.
        start = position.log_start(settings, release.group, inputs.start)
        progress.enter("log", sum(start[partition] - first for partition, first in inputs.start.items()))
        consumer = Consumer(settings, release.embedder, collection, release.preprocessor, release.group, limits)
        if donor:
            consumer.take_vectors_from(donor)

        def handled(messages: int) -> None:
            # Not before: what the group has committed until its first batch may be of an earlier life of it.
            position.note_log()
            progress(messages)

        consumer.run(stop, start=start, until=inputs.until, progress=handled)
        built.add(consumer.state)
        if stop.is_set():
            return None
        progress.enter("index")
        # 4. The approximate index, which nobody waits for in here.
        collection.optimize()
    finally:
        collection.close()
    # 5. Visible, whole.
    store.finish(release.collection_name)
    return built


def _begin(release: Release, store: Store, stop: Event) -> Collection | None:
    """Return the collection to build; None when it was built meanwhile, or when told to stop before.

    A builder whose command was killed may still be at work: this one waits, and goes on from what that one leaves.
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
    """How far a build has come, as the collection itself says; of another input than this one it says nothing."""

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
        """Count rows that are in the collection, and note them now and then."""
        self.rows += count
        if time.monotonic() - self._noted_at >= _NOTE_SECONDS:
            self.note()

    def note_log(self) -> None:
        """Note, once, that the group's offsets are of this build."""
        if not self._log_began:
            self._log_began = True
            self.note()

    def note(self) -> None:
        """Note how far the build is, after all that it stands for is durable."""
        self._collection.flush()
        self._collection.put_build({"snapshot": self._snapshot, "rows": self.rows, "log_began": self._log_began})
        self._noted_at = time.monotonic()

    def log_start(self, settings: Settings, group: str, start: Mapping[int, int]) -> dict[int, int]:
        """Return where to read on in the log: what the group has committed is durable in the collection."""
        committed = committed_offsets(settings, group, settings.topic) if self._log_began else {}
        return {partition: max(first, committed.get(partition, first)) for partition, first in start.items()}


def _store_golden(release: Release, collection: Collection, limits: ConsumerLimits, stop: Event) -> bool:
    """Store what the live encoder makes of the golden texts, as it does of any document; False when told to stop before.

    Never copied from the release: they are to prove what the store gives back of what the encoder gave.
    """
    if release.golden.worst_stored(collection.read_golden())[1] <= release.golden.stored_limit:
        return True  # by an attempt before this one
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
        # Told to stop while a dependency was away: the caller sees `stop` too.
        if not stop.is_set():
            raise
