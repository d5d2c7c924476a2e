"""A build that dies goes on where it was, and never skips what is not in its own collection."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from streaming import opening
from streaming.building import build as building
from streaming.building.build import Inputs, build
from streaming.decode import Message
from streaming.limits import ConsumerLimits
from streaming.loop import ConsumerState
from tests.adapter_suites.memory_store import MemoryStore
from tests.fixtures_streaming import GOLDEN, FakeEmbedder, ListSink, Log, NothingErased, info_of
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import ContractError, TransientError

START, COMMITTED = {0: 100, 1: 50}, {0: 130, 1: 40}
ROWS = 30


class Killed(BaseException):
    """As kill -9: nothing that the product catches."""


@dataclass
class Snapshot:
    folder: Path
    rows: list[Message]

    def messages(self) -> Iterator[Message]:
        yield from self.rows


@dataclass
class World:
    release: Release
    snapshot: Any
    store: MemoryStore = field(default_factory=MemoryStore)
    handled: list[int] = field(default_factory=list)
    starts: list[Mapping[int, int]] = field(default_factory=list)
    # Called at the beginning of the log, and after its first batch.
    at_log: Callable[[str], None] = lambda moment: None

    def build(self, kill_after_rows: int = 0) -> bool:
        world, phase = self, [""]

        class Progress:
            def enter(self, name: str, already_done: int = 0) -> None:
                phase[0] = name.split()[0]

            def __call__(self, handled: int) -> None:
                if phase[0] == "snapshot":
                    world.handled.append(handled)
                    if kill_after_rows and sum(world.handled) >= kill_after_rows:
                        raise Killed

        inputs = Inputs(self.snapshot, START, {0: 200, 1: 60})
        limits = ConsumerLimits(max_messages=4, vector_cache_mib=0)
        return build(self.release, self.store, Settings(), limits, inputs, Event(), Progress()) is not None  # type: ignore[arg-type]

    def documents(self) -> int:
        return self.store.ready[self.release.collection_name].count({"kind": "head"})


@pytest.fixture
def world(preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    log = Log()
    rows = [log.append(Document("s", f"k{number}", f"text of document {number}")) for number in range(ROWS)]
    made = World(Release(info_of(preprocessor), preprocessor, FakeEmbedder(), GOLDEN), Snapshot(tmp_path / "s1", rows))

    class Sink(ListSink):
        def close(self) -> None:
            pass

    class FakeConsumer:
        def __init__(self, *_: object, reuse: object) -> None:
            self.state = ConsumerState()

        def run(self, stop: Event, start: Mapping[int, int], until: object, progress: Callable[[int], None]) -> None:
            made.starts.append(start)
            made.at_log("begun")
            progress(0)
            made.at_log("first batch")

    monkeypatch.setattr(opening, "KafkaDeadLetters", lambda _: Sink())
    monkeypatch.setattr(opening, "ErasureTopic", NothingErased)
    for module in (opening, building):
        monkeypatch.setattr(module, "claim", lambda *_: None)
    monkeypatch.setattr(building, "find_vector_source", lambda *_: None)
    monkeypatch.setattr(building, "Consumer", FakeConsumer)
    monkeypatch.setattr(building, "committed_offsets", lambda *_: dict(COMMITTED))
    # Every batch is noted: what a kill costs shall not depend on how quick this machine is.
    monkeypatch.setattr(building, "_NOTE_SECONDS", 0.0)
    return made


def kill_in_log(world: World, moment: str) -> None:
    def at_log(now: str) -> None:
        if now == moment:
            raise Killed

    world.at_log = at_log
    with pytest.raises(Killed):
        world.build()
    world.at_log = lambda moment: None


def test_rows_that_are_in_the_collection_are_not_read_again(world: World) -> None:
    with pytest.raises(Killed):
        world.build(kill_after_rows=12)
    # The batch in which it died was in the collection before it was counted.
    assert sum(world.handled) == 12
    world.handled.clear()
    assert world.build()
    assert sum(world.handled) == ROWS - 12
    assert world.documents() == ROWS


def test_a_row_that_was_not_noted_is_read_again_rather_than_skipped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_NOTE_SECONDS", 3600.0)
    with pytest.raises(Killed):
        world.build(kill_after_rows=12)
    world.handled.clear()
    assert world.build()
    assert sum(world.handled) == ROWS
    assert world.documents() == ROWS
    # and embedded once all the same
    texts = [text for call in world.release.embedder.calls for text in call]  # type: ignore[attr-defined]
    assert len(texts) == len(set(texts))


def test_offsets_of_an_earlier_life_of_the_group_do_not_count(world: World) -> None:
    kill_in_log(world, "begun")
    assert world.build()
    assert world.starts == [START, START]


def test_offsets_of_this_build_count_and_never_go_back_before_its_start(world: World) -> None:
    kill_in_log(world, "first batch")
    world.handled.clear()
    assert world.build()
    assert world.starts == [START, {0: 130, 1: 50}]
    assert world.handled == []


def test_another_snapshot_is_read_from_its_first_row(world: World) -> None:
    kill_in_log(world, "first batch")
    world.handled.clear()
    world.snapshot = Snapshot(world.snapshot.folder.with_name("s2"), world.snapshot.rows)
    assert world.build()
    assert sum(world.handled) == ROWS
    assert world.starts == [START, START]


def test_what_a_dropped_collection_had_noted_is_gone_with_it(world: World) -> None:
    kill_in_log(world, "first batch")
    world.store.drop(world.release.collection_name)
    world.handled.clear()
    assert world.build()
    assert (sum(world.handled), world.documents()) == (ROWS, ROWS)
    assert world.starts == [START, START]


def test_a_builder_that_is_still_at_work_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_BUSY_SECONDS", 0.0)
    begin, attempts = world.store.begin, []

    def busy(name: str, info: Any) -> Any:
        attempts.append(name)
        if len(attempts) < 3:
            raise TransientError(f"{name} is in use by another process")
        return begin(name, info)

    monkeypatch.setattr(world.store, "begin", busy)
    assert world.build()
    assert len(attempts) == 3
    # one that comes to its end meanwhile has done the work
    attempts.clear()
    world.handled.clear()
    assert world.build()
    assert (attempts, world.handled) == ([], [])


def test_a_collection_that_cannot_be_begun_is_no_reason_to_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, info: Any) -> Any:
        raise ContractError("the disk says no")

    monkeypatch.setattr(world.store, "begin", refuse)
    with pytest.raises(ContractError, match="the disk says no"):
        world.build()
