"""Build the collection of a release: a snapshot's rows, then the log up to where it ended when we began, then the index.

A build that was cut short is begun again from the start of its input, into what it had written: what is there keeps its
vectors, so only the rest is embedded.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from threading import Event

import numpy as np
from numpy.typing import NDArray
from tenacity import stop_when_event_set

from clients.erasure_topic import ErasureTopic
from clients.index_door import check_index
from clients.kafka import beginning_offsets, end_offsets, ensure_topics
from clients.retry import retrying
from clients.settings import Settings
from clients.store import Collection, Store
from contract.errors import SettingsError, TransientError
from contract.specification import ROLES
from streaming.dead_letters import KafkaDeadLetters
from streaming.decode import Message
from streaming.donors import find_donor
from streaming.indexer import Handled, Indexer
from streaming.limits import ConsumerLimits
from streaming.loop import Consumer, ConsumerState
from streaming.release import Release
from streaming.snapshot import TopicSnapshot, open_snapshot

# Called with how many more messages were handled.
Progress = Callable[[int], object]


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
    collection = store.begin(release.collection_name, release.info)
    try:
        # 1. The golden texts. Whatever opens the collection will compare them with the release's; the first time is now.
        if not _store_golden(release, collection, limits, stop):
            return None
        check_index(collection, release.golden)
        # 2. The snapshot's rows, through the consumer's own `handle()`.
        if inputs.snapshot:
            dead_letters = KafkaDeadLetters(settings)
            indexer = Indexer(collection, release.embedder, release.preprocessor, dead_letters, limits)
            erasures = ErasureTopic(settings)
            indexer.keep_out(erasures)
            if donor:
                indexer.take_vectors_from(donor)
            try:
                _index_rows(inputs.snapshot.messages(), indexer, limits, stop, progress, built)
            finally:
                dead_letters.close()
                erasures.close()
        # 3. The log, in the group that goes on with it once the collection is served.
        consumer = Consumer(settings, release.embedder, collection, release.preprocessor, release.group, limits)
        if donor:
            consumer.take_vectors_from(donor)
        consumer.run(stop, start=inputs.start, until=inputs.until, progress=progress)
        built.add(consumer.state)
        if stop.is_set():
            return None
        # 4. The approximate index, which nobody waits for in here.
        collection.optimize()
    finally:
        collection.close()
    # 5. Visible, whole.
    store.finish(release.collection_name)
    return built


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
    rows: Iterator[Message], indexer: Indexer, limits: ConsumerLimits, stop: Event, progress: Progress, built: Built
) -> None:
    again = retrying(stop=stop_when_event_set(stop), sleep=stop.wait, longest_wait_seconds=limits.longest_wait_seconds)
    try:
        while not stop.is_set() and (batch := list(islice(rows, limits.max_messages))):
            built.add(again(indexer.handle, batch))
            progress(len(batch))
    except TransientError:
        # Told to stop while a dependency was away: the caller sees `stop` too.
        if not stop.is_set():
            raise
