"""A stretch of the log applied again, to a collection in service or to a new one in its place.

Nothing is published: the log's messages pass the consumer's own `handle()`. So an older state never replaces a newer one, and
applying a message twice changes nothing.

A new collection is of the same release, so it has the same name. It is made in a folder that no process serves. Then the online
process exchanges the two folders; searches of the collection wait a fraction of a second. Then messages appended meanwhile are
applied. The consumer group is not used and not moved.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path

from streaming.building.snapshot import TopicSnapshot, open_snapshot
from streaming.building.vector_reuse import find_vector_source
from streaming.decode import Message
from streaming.known_vectors import KnownVectors
from streaming.limits import load_limits
from streaming.log_reader import message_of
from streaming.opening import open_indexer
from twinline.clients.kafka.connect import beginning_offsets, end_offsets
from twinline.clients.kafka.stretch import offsets_at, read_topic
from twinline.clients.log_identity import read_identity
from twinline.clients.online import AdminClient
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.door import check_index
from twinline.clients.store.edge import REBUILT, EdgeStore
from twinline.contract.encoder.specification import ROLES
from twinline.contract.errors import SettingsError, TransientError
from twinline.upkeep.reconcile.repair import batches
from twinline.upkeep.reconcile.target import Index, open_target


@dataclass(slots=True)
class Replayed:
    """The applied messages by partition range, and counts of the outcomes."""

    messages: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, messages: int, counts: Mapping[str, int]) -> None:
        """Count one batch."""
        self.messages += messages
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the log: offsets by partition, the ends exclusive."""

    starts: Mapping[int, int]
    ends: Mapping[int, int]

    @property
    def size(self) -> int:
        """Return the largest possible number of messages."""
        return sum(max(0, end - self.starts[number]) for number, end in self.ends.items() if number in self.starts)


def find_stretch(
    settings: Settings, from_offsets: Sequence[str], from_time: datetime | None, until: Sequence[str], until_time: datetime | None
) -> Stretch:
    """Return the stretch that is meant. Offsets are `PARTITION:OFFSET`; partitions that none names are left out.

    Raises:
        SettingsError: it begins before the start of the log, or names no place.
    """
    begins, ends = beginning_offsets(settings, settings.topic), end_offsets(settings, settings.topic)
    if bool(from_offsets) == (from_time is not None):
        raise SettingsError("say from where: --from-offset PARTITION:OFFSET, as often as there are partitions, or --from-time")
    starts = offsets_at(settings, settings.topic, from_time) if from_time else _offsets(from_offsets, begins, "--from-offset")
    lost = {number: begins[number] for number, start in starts.items() if start < begins[number]}
    if lost:
        raise SettingsError(f"the log begins at the offsets {lost} by now: build from a snapshot (--new --snapshot ID)")
    if until_time is not None:
        ends = {number: min(ends[number], offset) for number, offset in offsets_at(settings, settings.topic, until_time).items()}
    elif until:
        ends = {**ends, **_offsets(until, begins, "--until-offset")}
    return Stretch(starts, {number: ends[number] for number in starts})


def replay_into(settings: Settings, release: Release, stretch: Stretch, progress: Callable[[int], object]) -> Replayed:
    """Apply a stretch of the log to a release's collection in service."""
    with open_target(settings, release) as target:
        return _apply(settings, target.index, stretch, progress)


def rebuild(
    settings: Settings,
    release: Release,
    stretch: Stretch | None,
    snapshot: str,
    embed_again: bool,
    partial: bool,
    progress: Callable[[int], object],
) -> Replayed:
    """Build a new collection of a release, and replace the one in service by it.

    Args:
        stretch: of the log; None: all of it, after the snapshot if there is one.
        snapshot: the id of a snapshot of the topic, read first.
        embed_again: reuse no vector of the collection in service.
        partial: allow that documents are left out.

    Raises:
        SettingsError: the store is not the embedded one; or documents would be left out.
    """
    if settings.store != "edge":
        raise SettingsError(
            "on a Qdrant server a release's collection cannot be built beside itself: serve another release, then retire this "
            "one and build it again (twinline release build)"
        )
    taken = open_snapshot(settings.snapshots / snapshot, read_identity(settings)) if snapshot else None
    stretch = stretch or _whole(settings, taken)
    _require_whole(settings, stretch, taken, partial)
    beside = EdgeStore(settings.store_folder / REBUILT)
    done = Replayed()
    with _alone(settings.store_folder / f"{REBUILT}.lock"):
        shutil.rmtree(beside.folder, ignore_errors=True)  # of a killed attempt
        reached = _fill(settings, release, beside, stretch, taken, embed_again, done, progress)
        with closing(AdminClient(settings.admin_url)) as admin:
            admin.replace(release.collection_name)
        shutil.rmtree(beside.folder, ignore_errors=True)
    # The messages that the consumer applied to the old collection after our read of the log's end.
    now = end_offsets(settings, settings.topic)
    if not partial:
        rest = replay_into(settings, release, Stretch(reached, {number: now[number] for number in reached}), progress)
        done.add(rest.messages, rest.counts)
    return done


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let only one process at a time rebuild; the lock ends with its process."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TransientError(f"another collection is being rebuilt beside the served ones ({path}): wait for it") from exc
        yield


def _fill(
    settings: Settings,
    release: Release,
    beside: EdgeStore,
    stretch: Stretch,
    snapshot: TopicSnapshot | None,
    embed_again: bool,
    done: Replayed,
    progress: Callable[[int], object],
) -> Mapping[int, int]:
    """Fill the new collection, close and finish it; return its end offsets."""
    served = EdgeStore(settings.store_folder)
    with closing(beside.begin(release.collection_name, release.info)) as collection:
        for role in ROLES:
            entries = [entry for entry in release.golden.entries if entry.role == role]
            answer = release.embedder.embed([entry.text for entry in entries], role)
            collection.put_golden(dict(zip((entry.name for entry in entries), answer.vectors, strict=True)))
        check_index(collection, release.golden)
        reuse = None if embed_again else find_vector_source(settings, served, release.info, release.golden)
        limits = load_limits()
        known = KnownVectors.of(settings, release, limits.vector_cache_mib)
        if known and embed_again:
            known.forget()
        with open_indexer(settings, release, collection, limits, reuse, known) as indexer:
            for batch in batches(chain(snapshot.messages() if snapshot else (), _messages(settings, stretch))):
                done.add(len(batch), indexer.handle(batch).counts())
                progress(len(batch))
        collection.optimize()
    beside.finish(release.collection_name)
    return stretch.ends


def _apply(settings: Settings, index: Index, stretch: Stretch, progress: Callable[[int], object]) -> Replayed:
    done = Replayed()
    for batch in batches(_messages(settings, stretch)):
        done.add(len(batch), index.apply(batch))
        progress(len(batch))
    return done


def _messages(settings: Settings, stretch: Stretch) -> Iterator[Message]:
    # Only the stretch's partitions: the others have no end here.
    yield from map(message_of, read_topic(settings, settings.topic, stretch.starts, stretch.ends))


def _whole(settings: Settings, snapshot: TopicSnapshot | None) -> Stretch:
    begins, ends = beginning_offsets(settings, settings.topic), end_offsets(settings, settings.topic)
    starts = {number: max(begin, snapshot.ends.get(number, 0) if snapshot else 0) for number, begin in begins.items()}
    return Stretch(starts, ends)


def _require_whole(settings: Settings, stretch: Stretch, snapshot: TopicSnapshot | None, partial: bool) -> None:
    ends = end_offsets(settings, settings.topic)
    covered = {number: snapshot.ends.get(number, 0) if snapshot else 0 for number in ends}
    gaps = [
        f"{number}:{covered[number]} to {stretch.starts.get(number, ends[number])}"
        for number in ends
        if stretch.starts.get(number, ends[number]) > covered[number]
    ]
    gaps += [f"{number}:{stretch.ends[number]} to {end}" for number, end in ends.items() if stretch.ends.get(number, end) < end]
    if gaps and not partial:
        raise SettingsError(
            f"the new collection would lack what the log has, or had, at the offsets {', '.join(gaps)}: begin with a snapshot "
            "that covers it (--snapshot ID), or say --partial"
        )


def _offsets(said: Sequence[str], known: Mapping[int, int], option: str) -> dict[int, int]:
    found = {}
    for text in said:
        partition, colon, offset = text.partition(":")
        # 19 digits are the most that an offset has; thousands of them Python would not read.
        are_numbers = all(part.isdecimal() and len(part) < 20 for part in (partition, offset))
        if not (colon and are_numbers and int(partition) in known):
            raise SettingsError(f"{option} {text!r}: write PARTITION:OFFSET, with a partition of {sorted(known)}")
        found[int(partition)] = int(offset)
    return found
