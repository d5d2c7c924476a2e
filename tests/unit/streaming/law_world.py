"""A log, a group of two consumers and a store in one process, where anything may fail between any two steps.

The consumers are the real ones; the log, the group and the store are fakes that a test can stop anywhere. What a reader could see
is looked at before and after every call of the store, and compared with the law.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event as Flag
from uuid import UUID

import numpy as np

from streaming import loop
from streaming.dead_letters import DeadLetter
from streaming.decode import Event, Message, decode
from streaming.limits import ConsumerLimits
from streaming.log_reader import Batch
from streaming.loop import Consumer
from tests.adapter_suites.memory_store import MemoryCollection
from tests.fixtures_streaming import GOLDEN, RELEASE, FakeEmbedder, NothingErased, info_of, vector_of
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Head, StoredPoint, stored_version
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Deletion, Document, Version, encode_key, encode_value, version_header
from twinline.contract.encoder.chunking import Chunk
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import DocumentError, TransientError
from twinline.contract.release.manifest import collection_name

PARTITIONS = (0, 1)
MEMBERS = ("first", "second")
POISON = "poison"
# Small, so that a handful of messages has several of everything.
# Every call of the store is looked at, so nobody calls it from another thread.
_LIMITS = ConsumerLimits(
    # Nothing under the home of the settings, which is this checkout's.
    vector_cache_mib=0,
    max_messages=2,
    max_portion_bytes=450,
    points_per_write=2,
    texts_per_request=2,
    handover_seconds=0,
    look_ahead=False,
)
_SETTINGS = Settings()
# Documents that no message ever deletes: searches must find them from the first time on.
NEVER_DELETED = ("live", "versioned")


class CrashError(BaseException):
    """The process is gone; nothing after it runs."""


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th call from now: before it or, where the call has worked and its answer is lost, after it."""

    call: int
    # transient; crash; overtake: the other member gets all partitions and works some batches off; announce: it shall have them;
    # last_word: overtake, then the call works, then a crash; haunt: the other one, which lost its place, works off what it has
    act: str
    after: bool = False


@dataclass
class World:
    """Everything. `committed` is where the group goes on."""

    preprocessor: Preprocessor
    is_owned: bool = True
    small_message_bytes: int = 130
    logs: dict[int, list[Message]] = field(default_factory=lambda: {partition: [] for partition in PARTITIONS})
    committed: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, 0))
    owner: dict[int, str] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, MEMBERS[0]))
    generation: int = 0
    # Partitions as they are to be, once the next member joins anew; the group waits for that, and takes commits until then.
    announced: dict[int, str] | None = None
    letters: dict[tuple[int, int], DeadLetter] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    calls: int = 0
    seen_heads: dict[str, Version] = field(default_factory=dict)
    seen_chunks: set[str] = field(default_factory=set)
    decoded: dict[tuple[int, int], Event | None] = field(default_factory=dict)
    # How far the broker's clock has been stepped, in ms.
    clock_ms: int = 0

    def __post_init__(self) -> None:
        self.collection = WatchedCollection(self)

    # --- what happens ---

    def publish(self, item: Document | Deletion) -> None:
        value = encode_value(item) if isinstance(item, Document) else None
        self.append(encode_key(item.source, item.key), value, version_header(item) if isinstance(item, Deletion) else [])

    def append(self, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        log = self.logs[sum(key) % len(PARTITIONS)]
        offset = len(log)
        append_ms = 1_763_800_000_000 + self.clock_ms + offset // 3
        log.append(Message(sum(key) % len(PARTITIONS), offset, append_ms, key, value, headers))

    def rebalance(self, owner: dict[int, str], announced: bool) -> None:
        """Give partitions out anew. Unannounced, who had them finds out when it asks: it may be in the middle of a batch."""
        if announced:
            self.announced = owner
        else:
            self.owner, self.generation, self.announced = owner, self.generation + 1, None

    def work(
        self, member: str, batches: int, faults: Sequence[Fault] = (), commit_interval: float = 0, is_lost: bool = False
    ) -> None:
        """Let a member work off some batches, and commit; a crash ends it earlier. `is_lost`: it lost its place after a poll."""
        self.faults, self.calls = list(faults), 0
        stop, done = Flag(), 0

        def count(messages: int) -> None:
            nonlocal done
            done += 1
            if done >= batches or not messages:
                stop.set()

        consumer = MemberConsumer(self, member, commit_interval, is_lost)
        try:
            consumer.run(stop, progress=count)
        except CrashError:
            pass
        finally:
            self.faults = []

    def settle(self) -> None:
        """Let everything be worked off, with nothing failing."""
        self.rebalance(dict.fromkeys(PARTITIONS, MEMBERS[1]), announced=True)
        for _ in range(200):
            if all(self.committed[partition] == len(self.logs[partition]) for partition in PARTITIONS):
                return
            self.work(MEMBERS[1], batches=5)
        raise AssertionError(f"no end: committed {self.committed}")

    @contextmanager
    def at(self, member: str = "") -> Iterator[None]:
        """Stand for one call of a dependency."""
        self.calls += 1
        fault = next((fault for fault in self.faults if fault.call == self.calls), None)
        self.observe()
        if fault and not fault.after:
            self._strike(fault)
        yield
        self.observe()
        if fault and fault.after:
            self._strike(fault)
        if fault and fault.act == "last_word":
            raise CrashError

    def _strike(self, fault: Fault) -> None:
        if fault.act == "crash":
            raise CrashError
        if fault.act == "transient":
            raise TransientError("away")
        faults, calls = self.faults, self.calls
        other = next(member for member in MEMBERS if member != self.owner[0])
        if fault.act == "haunt":
            self.work(other, batches=1, is_lost=True)
            self.faults, self.calls = faults, calls
            return
        self.rebalance(dict.fromkeys(PARTITIONS, other), announced=fault.act == "announce")
        if fault.act == "announce":
            return
        self.work(other, batches=3)
        self.faults, self.calls = faults, calls

    # --- what must be so ---

    def observe(self) -> None:
        """Look as a reader does: no document that is never deleted is missing, and no head goes back."""
        heads = {point.payload["key"]: stored_version(point.payload) for point in self._points("head")}
        for key, version in self.seen_heads.items():
            assert key in heads, f"the head of {key} is forgotten"
            assert not heads[key] < version, f"{key} went back from {version} to {heads[key]}"
        self.seen_heads = heads
        with_chunks = {point.payload["key"] for point in self._points("chunk")}
        for key in NEVER_DELETED:
            assert key not in self.seen_chunks or key in with_chunks, f"{key} is missing"
        self.seen_chunks |= with_chunks

    def check_committed(self, offsets: dict[int, int]) -> None:
        """What is committed is done: in the index, whole, or in the dead letters, or overtaken."""
        for partition, end in offsets.items():
            for message in self.logs[partition][:end]:
                self._check_done(message)

    def check_end(self) -> None:
        """After everything was worked off: the index is what the law makes of the log, and what cannot be used is set aside."""
        winners, required = self.expected()
        places = set(self.letters)
        assert required <= places, f"not set aside: {required - places}"
        bad = {
            (message.partition, message.offset)
            for message in self._messages()
            if self._item(message) is None or not self._is_usable(message) or (message.partition, message.offset) in required
        }
        assert places <= bad, f"set aside for no reason: {places - bad}"
        assert set(self.seen_heads) == set(winners)
        for key, message in winners.items():
            stored = stored_version(self.collection.points[head_id("s", key)].payload)
            assert self._is_of(message, stored), f"{key} is at {stored}, and not at {message.partition}/{message.offset}"
            self.check_document(key)
        assert {point.payload["key"] for point in self._points("chunk")} <= set(winners)

    def check_document(self, key: str) -> None:
        """One document is stored as its head says, no chunk too many, each with the vector of its text."""
        head = self.collection.points[head_id("s", key)]
        version = stored_version(head.payload)
        message = next(m for m in self._messages() if self._is_of(m, version) and self._key(m) == key and self._is_usable(m))
        item = self._item(message)
        texts = [] if not isinstance(item, Document) else self._texts(item)
        chunks = sorted(
            (point for point in self._points("chunk") if point.payload["key"] == key), key=lambda p: p.payload["chunk_index"]
        )
        if not self.is_owned:
            # A server cannot look at the head when it writes a chunk: who was overtaken, and then died, may leave some behind.
            chunks = [p for p in chunks if p.payload["chunk_index"] < len(texts) or not stored_version(p.payload) < version]
        assert [point.payload["text"] for point in chunks] == texts, f"{key} at {version} is not whole, or has more"
        assert {stored_version(point.payload) for point in chunks} <= {version}, f"{key} has chunks of two versions"
        for point in chunks:
            assert point.dense is not None
            assert np.allclose(point.dense, vector_of(point.payload["text"]), atol=1e-6), f"{key} has the vector of another text"

    def expected(self) -> tuple[dict[str, Message], set[tuple[int, int]]]:
        """Return, by the law alone, the message that stands for each key, and those that must be in the dead letters."""
        winners: dict[str, Message] = {}
        refused: dict[tuple[int, int], tuple[str, Version] | None] = {}
        for message in self._messages():
            place, item = (message.partition, message.offset), self._item(message)
            if item is None:
                refused[place] = None
                continue
            key, version = item.key, self._version(message)
            assert version is not None
            current = self._version(winners[key]) if key in winners else None
            if current is not None and current.kind != version.kind:
                refused[place] = None
            elif current is None or not version < current:
                if self._is_usable(message):
                    winners[key] = message
                else:
                    refused[place] = (key, version)
        # What a newer message has overtaken need not be kept, where a crash came before it was.
        standing = {key: self._version(message) for key, message in winners.items()}
        required = {place for place, of in refused.items() if of is None or not _is_older(of[1], standing.get(of[0]))}
        return winners, required

    def _check_done(self, message: Message) -> None:
        if (message.partition, message.offset) in self.letters:
            return
        item, version = self._item(message), self._version(message)
        assert item is not None, f"committed, and neither stored nor set aside: {message}"
        assert version is not None
        head = self.collection.points.get(head_id(item.source, item.key))
        assert head is not None, f"committed, but not stored: {message}"
        stored = stored_version(head.payload)
        assert stored.kind == version.kind, f"committed, of the other kind, and not set aside: {message}"
        assert not stored < version, f"committed, but older is stored: {message}"
        if stored.is_same_state(version) and self._is_usable(message):
            self.check_document(item.key)

    def _messages(self) -> Iterator[Message]:
        for partition in PARTITIONS:
            yield from self.logs[partition]

    def _event(self, message: Message) -> Event | None:
        place = (message.partition, message.offset)
        if place not in self.decoded:
            try:
                self.decoded[place] = decode(message)
            except DocumentError:
                self.decoded[place] = None
        return self.decoded[place]

    def _item(self, message: Message) -> Document | Deletion | None:
        event = self._event(message)
        return event.item if event else None

    def _version(self, message: Message) -> Version | None:
        event = self._event(message)
        return event.version if event else None

    def _is_of(self, message: Message, version: Version) -> bool:
        own = self._version(message)
        return own is not None and own.is_same_state(version)

    def _texts(self, document: Document) -> list[str]:
        return [chunk.text for chunk in self.preprocessor.chunks(document)]

    def _key(self, message: Message) -> str | None:
        item = self._item(message)
        return item.key if item else None

    def _is_usable(self, message: Message) -> bool:
        item = self._item(message)
        return isinstance(item, Deletion) or (isinstance(item, Document) and POISON not in item.text)

    def _points(self, kind: str) -> list[StoredPoint]:
        return [point for point in self.collection.points.values() if point.payload["kind"] == kind]


def _is_older(version: Version, than: Version | None) -> bool:
    return than is not None and than.kind == version.kind and version < than


class QuickPreprocessor(Preprocessor):
    """Cuts a text once: there are few, and they come again and again."""

    def __init__(self, made: Preprocessor) -> None:
        super().__init__(made.contract, made.tokenizer_json)
        self._cut: dict[str, list[Chunk]] = {}

    def chunks(self, document: Document) -> list[Chunk]:
        if document.text not in self._cut:
            self._cut[document.text] = super().chunks(document)
        return self._cut[document.text]


class WatchedCollection(MemoryCollection):
    """A store whose every call may fail, or be a moment for something else to happen."""

    def __init__(self, world: World) -> None:
        super().__init__(collection_name(RELEASE), info_of(world.preprocessor), is_owned=world.is_owned)
        self.world = world

    def read_heads(self, ids: Sequence[UUID]) -> dict[UUID, Head]:
        with self.world.at():
            return super().read_heads(ids)

    def put_heads(self, heads: Sequence[Head]) -> None:
        with self.world.at():
            super().put_heads(heads)

    def read_points(self, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        with self.world.at():
            return super().read_points(ids, with_vectors)

    def put_points(self, points: Sequence[StoredPoint]) -> None:
        with self.world.at():
            super().put_points(points)

    def delete_surplus(self, heads: Sequence[Head]) -> None:
        with self.world.at():
            super().delete_surplus(heads)

    def flush(self) -> None:
        with self.world.at():
            super().flush()


@dataclass
class FaultyEmbedder(FakeEmbedder):
    """Refuses one word, and may be away."""

    world: World | None = None
    poison: str | None = POISON

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        assert self.world is not None
        with self.world.at():
            return super().embed(texts, role)


class FakeSink:
    """The topic of dead letters."""

    def __init__(self, world: World) -> None:
        self.world = world

    def put(self, letters: Sequence[DeadLetter]) -> None:
        with self.world.at():
            for letter in letters:
                self.world.letters[letter.message.partition, letter.message.offset] = letter

    def close(self) -> None:
        pass


class FakeReader:
    """A member's place in the group, as `LogReader` is one."""

    def __init__(self, world: World, member: str, is_lost: bool) -> None:
        self.world = world
        self.member = member
        self.is_lost = is_lost
        self.assignment_number = world.generation - is_lost
        self.positions = dict(world.committed) if is_lost else self._committed()

    def wants_rebalance(self) -> bool:
        return self.world.announced is not None

    def poll(self, max_messages: int) -> Batch:
        if self.is_lost:
            max_messages, self.is_lost = 1, False
        else:
            self._join()
        messages: list[Message] = []
        for partition, position in self.positions.items():
            messages += self.world.logs[partition][position : position + max_messages - len(messages)]
        following = {m.partition: m.offset + 1 for m in messages}
        self.positions |= following
        return Batch(messages, following, self.assignment_number)

    def glance(self, max_messages: int) -> Batch:
        with self.world.at():
            return self.poll(max_messages)

    def commit(self, offsets: dict[int, int]) -> bool:
        with self.world.at():
            if self.assignment_number != self.world.generation:
                return False
            mine = {partition: offset for partition, offset in offsets.items() if partition in self.positions}
            self.world.check_committed(mine)
            self.world.committed |= mine
            return True

    def give_back(self, offsets: dict[int, int], assignment: int) -> None:
        if assignment == self.assignment_number:
            self.positions |= offsets

    def stay(self) -> None:
        pass

    def hold(self, seconds: float, stop: Flag) -> None:
        self._join()

    def go_on(self) -> None:
        pass

    def lag(self) -> dict[int, int]:
        return {partition: len(self.world.logs[partition]) - position for partition, position in self.positions.items()}

    def close(self) -> None:
        pass

    def _join(self) -> None:
        if self.world.announced is not None:
            self.world.rebalance(self.world.announced, announced=False)
        if self.assignment_number != self.world.generation:
            self.assignment_number = self.world.generation
            self.positions = self._committed()

    def _committed(self) -> dict[int, int]:
        return {p: offset for p, offset in self.world.committed.items() if self.world.owner[p] == self.member}


class MemberConsumer(Consumer):
    """The real consumer, in the fake group."""

    def __init__(self, world: World, member: str, commit_interval: float, is_lost: bool) -> None:
        sizes = {"small_message_bytes": world.small_message_bytes}
        limits = _LIMITS.model_copy(update={"commit_interval_seconds": commit_interval, **sizes})
        release = Release(world.collection.info, world.preprocessor, FaultyEmbedder(world=world), GOLDEN)
        super().__init__(_SETTINGS, release, world.collection, limits)
        self._world = world
        self._member = member
        self._is_lost = is_lost

    def _open_reader(self) -> FakeReader:  # type: ignore[override]
        return FakeReader(self._world, self._member, self._is_lost)


@contextmanager
def fake_sink(world: World) -> Iterator[None]:
    """Let consumers that are made meanwhile put their dead letters into the world's topic, where no document was erased."""
    originals = loop.KafkaDeadLetters, loop.ErasureTopic
    loop.KafkaDeadLetters = lambda settings: FakeSink(world)  # type: ignore[assignment, misc]
    loop.ErasureTopic = NothingErased  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        loop.KafkaDeadLetters, loop.ErasureTopic = originals  # type: ignore[misc]
