"""The consumer's law against everything that can come between: Hypothesis finds the interleavings.

The law must hold. Every rule of it is then broken on purpose, one at a time, and the same machine must find out.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from streaming import indexer
from streaming.decode import Message
from streaming.in_flight import InFlight
from streaming.indexer import Handled, Indexer
from streaming.log_reader import Batch
from streaming.loop import Consumer
from streaming.prefetch import Prefetched
from tests.adapter_suites.memory_store import MemoryCollection
from tests.unit.streaming.law_world import MEMBERS, PARTITIONS, POISON, FakeSink, Fault, QuickPreprocessor, World, fake_sink
from twinline.clients.store.protocol import Head
from twinline.contract.documents.records import Deletion, Document, Version
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import ContractError, TransientError

ONE = "one two three four five six seven eight"
TWO = "nine ten eleven twelve thirteen fourteen fifteen sixteen"
THREE = "seventeen eighteen nineteen twenty more words and more"
TEXTS = (ONE, f"{ONE} {TWO}", f"{THREE} {ONE} {TWO}", TWO, f"{TWO} {THREE}")

_ACTS = ["transient", "crash", "overtake", "announce", "last_word", "haunt"]
_FAULTS = st.lists(
    st.builds(Fault, call=st.integers(1, 25), act=st.sampled_from(_ACTS), after=st.booleans()),
    max_size=3,
)


class Moments(RuleBasedStateMachine):
    """Two versions of a document, and something that happens while a consumer works on them."""

    preprocessor: ClassVar[Preprocessor]
    is_owned: ClassVar[bool] = True
    # All in one lane, and so in one batch.
    small_message_bytes: ClassVar[int] = 10_000

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        self.world = World(self.preprocessor, is_owned=self.is_owned, small_message_bytes=self.small_message_bytes)
        self.stack.enter_context(fake_sink(self.world))

    @rule(
        texts=st.permutations(TEXTS),
        before=st.integers(0, 1),
        fault=st.builds(Fault, call=st.integers(1, 10), act=st.sampled_from(["last_word", "haunt", "overtake"])),
    )
    def update_twice_and_let_something_happen(self, texts: list[str], before: int, fault: Fault) -> None:
        """What a subtle failure needs, and chance seldom brings together: two versions, unlike in length, and a moment."""
        for text in (*texts[2 : 2 + before], *texts[:2]):
            self.world.publish(Document("s", "live", text))
        self.world.work(self.world.owner[0], 2, [fault])

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        with self.stack:
            self.world.settle()
            self.world.check_end()


class Law(Moments):
    """Documents are written, updated, deleted, repeated, spoilt, while consumers work, fail, crash, and overtake one another."""

    # The shortest text alone is a small message.
    small_message_bytes: ClassVar[int] = 130

    @rule(text=st.sampled_from(TEXTS))
    def update(self, text: str) -> None:
        self.world.publish(Document("s", "live", text))

    @rule(text=st.none() | st.sampled_from(TEXTS))
    def update_or_delete(self, text: str | None) -> None:
        self.world.publish(Deletion("s", "log") if text is None else Document("s", "log", text))

    @rule(version=st.integers(1, 8))
    def write_a_version(self, version: int) -> None:
        # Two messages of one version say the same.
        self.world.publish(Document("s", "versioned", TEXTS[version % len(TEXTS)], version=version))

    @rule(version=st.integers(1, 8))
    def write_or_delete_a_version(self, version: int) -> None:
        text = TEXTS[version % len(TEXTS)]
        item = Deletion("s", "both", version) if version % 3 == 0 else Document("s", "both", text, version=version)
        self.world.publish(item)

    @rule(key=st.sampled_from(["live", "log", "versioned", "both"]), version=st.none() | st.integers(1, 8))
    def write_what_cannot_be_used(self, key: str, version: int | None) -> None:
        self.world.publish(Document("s", key, f"{POISON} {ONE}", version=version))

    @rule(key=st.sampled_from(["both", "log"]), version=st.none() | st.just(9))
    def write_perhaps_the_other_kind_of_version(self, key: str, version: int | None) -> None:
        self.world.publish(Document("s", key, THREE, version=version))

    @rule(partition=st.sampled_from([b"a", b"b"]))
    def write_rubbish(self, partition: bytes) -> None:
        self.world.append(partition, b"\xff")

    @rule(step_ms=st.sampled_from([-3_600_000, -1, 1, 3_600_000]))
    def step_the_brokers_clock(self, step_ms: int) -> None:
        self.world.clock_ms += step_ms

    @rule(back=st.integers(1, 4), partition=st.sampled_from(PARTITIONS))
    def send_again(self, back: int, partition: int) -> None:
        """As a producer that had no answer does."""
        for message in self.world.logs[partition][-back:][:1]:
            self.world.append(message.key or b"", message.value, message.headers)

    @rule(
        member=st.sampled_from(MEMBERS),
        batches=st.integers(1, 3),
        faults=_FAULTS,
        interval=st.sampled_from([0.0, 1e9]),
    )
    def work(self, member: str, batches: int, faults: list[Fault], interval: float) -> None:
        self.world.work(member, batches, faults, interval)

    @rule(owners=st.tuples(st.sampled_from(MEMBERS), st.sampled_from(MEMBERS)), announced=st.booleans())
    def rebalance(self, owners: tuple[str, str], announced: bool) -> None:
        self.world.rebalance(dict(zip(PARTITIONS, owners, strict=True)), announced)


def run(
    of: type[Moments], preprocessor: Preprocessor, examples: int, is_owned: bool = True, phases: Sequence[Phase] = tuple(Phase)
) -> None:
    machine = type(of.__name__, (of,), {"preprocessor": QuickPreprocessor(preprocessor), "is_owned": is_owned})
    chosen = settings(
        max_examples=examples,
        stateful_step_count=30 if of is Law else 3,
        deadline=None,
        database=None,
        derandomize=True,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("is_owned", [True, False], ids=["one_owner", "a_server"])
def test_the_law_holds_whatever_comes_between(preprocessor: Preprocessor, is_owned: bool) -> None:
    run(Law, preprocessor, examples=100, is_owned=is_owned)


# --- one rule broken at a time ---

Break = Callable[[pytest.MonkeyPatch], None]


def commit_before_it_is_handled(patch: pytest.MonkeyPatch) -> None:
    handle = Consumer._handle

    def early(self: Consumer, reader: Any, batch: Batch, stop: Any) -> bool:
        reader.commit(batch.next_offsets)
        return handle(self, reader, batch, stop)

    patch.setattr(Consumer, "_handle", early)


def commit_what_was_left(patch: pytest.MonkeyPatch) -> None:
    def forgetful(self: InFlight) -> dict[int, int]:
        self._small, self._large = [], []
        return self.next_offsets()

    patch.setattr(InFlight, "give_up", forgetful)


def commit_past_what_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    """What was polled last is done; a large document before it may not be."""
    patch.setattr(InFlight, "next_offsets", lambda self: dict(self._read_to))


def let_a_document_overtake_itself(patch: pytest.MonkeyPatch) -> None:
    add = InFlight.add

    def careless(self: InFlight, messages: Sequence[Message], next_offsets: Mapping[int, int]) -> None:
        waiting, self._large = self._large, []
        for message in messages:
            before, self._large = self._large, []
            add(self, [message], next_offsets)
            self._large = before + self._large
        self._large = waiting + self._large

    patch.setattr(InFlight, "add", careless)


def lose_what_a_rebalance_brought(patch: pytest.MonkeyPatch) -> None:
    take_in = Consumer._take_in

    def losing(self: Consumer, batch: Batch) -> bool:
        was_assigned = self._assignment >= 0
        is_new = take_in(self, batch)
        if is_new and was_assigned:
            self._in_flight._small, self._in_flight._large = [], []
        return is_new

    patch.setattr(Consumer, "_take_in", losing)


def forget_that_versions_differ(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Version, "__lt__", lambda self, other: False)


def write_whatever_is_stored(patch: pytest.MonkeyPatch) -> None:
    """The store's own condition only: the consumer has looked, but another one has written since."""

    def put(self: MemoryCollection, points: Sequence[Any]) -> None:
        self.points |= {point.id: point for point in points}

    patch.setattr(MemoryCollection, "_put", put)


def mix_the_kinds_of_version(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Version, "__lt__", lambda self, other: self.rank < other.rank)


class _ByTime(Version):
    """A version whose time decides, in one partition too."""

    def __lt__(self, other: Version) -> bool:
        self.check_comparable(other)
        return self.rank < other.rank

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and (self.kind, self.rank) == (other.kind, other.rank)

    def __hash__(self) -> int:
        return hash(self.rank)


def let_the_brokers_clock_decide(patch: pytest.MonkeyPatch) -> None:
    decode = indexer.decode

    def by_time(message: Message, order: Any) -> Any:
        event = decode(message, order)
        version = event.version
        return replace(event, version=_ByTime(version.kind, version.number, version.offset, version.partition))

    patch.setattr(indexer, "decode", by_time)


def forget_the_tombstone(patch: pytest.MonkeyPatch) -> None:
    delete = MemoryCollection.delete_surplus

    def forgetful(self: MemoryCollection, heads: Sequence[Head]) -> None:
        delete(self, heads)
        for head in heads:
            if head.deleted:
                self.points.pop(head.id, None)

    patch.setattr(MemoryCollection, "delete_surplus", forgetful)


def delete_first(patch: pytest.MonkeyPatch) -> None:
    put = MemoryCollection.put_heads

    def clearing(self: MemoryCollection, heads: Sequence[Head]) -> None:
        for head in heads:
            for point in list(self.points.values()):
                if point.payload["kind"] == "chunk" and point.payload["key"] == head.key:
                    del self.points[point.id]
        put(self, heads)

    patch.setattr(MemoryCollection, "put_heads", clearing)


def swallow_an_error(patch: pytest.MonkeyPatch) -> None:
    handle = Indexer.handle

    def careless(self: Indexer, batch: Sequence[Any], between: Callable[[], object]) -> Handled:
        try:
            return handle(self, batch, between)
        except TransientError:
            return Handled()

    patch.setattr(Indexer, "handle", careless)


def leave_the_surplus(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryCollection, "delete_surplus", lambda self, heads: None)


def drop_the_dead_letters(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FakeSink, "put", lambda self, letters: None)


def write_the_head_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryCollection, "put_points", lambda self, points: None)


def keep_the_old_payload(patch: pytest.MonkeyPatch) -> None:
    """A chunk whose text did not change is left as it is, version and all."""
    put = MemoryCollection._put

    def lazy(self: MemoryCollection, points: Sequence[Any]) -> None:
        def is_known(point: Any) -> bool:
            stored = self.points.get(point.id)
            return point.dense is not None and stored is not None and stored.payload["text"] == point.payload["text"]

        put(self, [point for point in points if not is_known(point)])

    patch.setattr(MemoryCollection, "_put", lazy)


def drop_the_neighbours(patch: pytest.MonkeyPatch) -> None:
    def coarse(self: Indexer, events: Sequence[Any], handled: Handled, made: Prefetched) -> None:
        try:
            self._apply(events, handled, made)
        except TransientError:
            raise
        except ContractError as exc:
            self._set_aside(handled, [self._letter(event.message, "index", exc) for event in events])

    patch.setattr(Indexer, "_apply_or_isolate", coarse)


def let_the_overtaken_leave_their_chunks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryCollection, "_is_current", lambda self, point: True)


def look_for_no_chunks_beyond(patch: pytest.MonkeyPatch) -> None:
    """A new document has no surplus, one would think."""
    patch.setattr(indexer, "point_id", lambda source, key, index: None)


SUBTLE: tuple[Break, ...] = (let_the_overtaken_leave_their_chunks, look_for_no_chunks_beyond)
BREAKS: tuple[Break, ...] = (
    commit_before_it_is_handled,
    commit_what_was_left,
    commit_past_what_is_in_flight,
    let_a_document_overtake_itself,
    lose_what_a_rebalance_brought,
    forget_that_versions_differ,
    write_whatever_is_stored,
    mix_the_kinds_of_version,
    let_the_brokers_clock_decide,
    forget_the_tombstone,
    delete_first,
    swallow_an_error,
    leave_the_surplus,
    drop_the_dead_letters,
    write_the_head_alone,
    keep_the_old_payload,
    drop_the_neighbours,
    let_the_overtaken_leave_their_chunks,
    look_for_no_chunks_beyond,
)


@pytest.mark.integration
@pytest.mark.parametrize("break_a_rule", BREAKS, ids=lambda each: each.__name__)
def test_a_broken_rule_is_found(preprocessor: Preprocessor, break_a_rule: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    break_a_rule(monkeypatch)
    # Some show only where two things meet in one moment.
    machine = Moments if break_a_rule in SUBTLE else Law
    with pytest.raises(AssertionError):
        run(machine, preprocessor, examples=1_000, phases=[Phase.generate])
