"""One document against its points, without a store; and the file that holds both sides."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from streaming.decode import decode
from tests.fixtures_streaming import DIMENSION, Log, World, preprocessor, world
from twinline.clients.store.audit import PointFacts, said_hash
from twinline.clients.store.protocol import StoredPoint
from twinline.clients.store.vectors import one_dense
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Deletion, Document, Version
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.release.index_settings import IndexSettings
from twinline.upkeep.reconcile.compare import compare_document, stray
from twinline.upkeep.reconcile.ledger import Ledger
from twinline.upkeep.reconcile.repair import batches

__all__ = ["preprocessor", "world"]

TEXT = "one two three four five six seven eight nine"


@pytest.fixture
def stored(world: World) -> list[PointFacts]:
    world.handle(world.log.append(Document("s", "a", TEXT, title="T", metadata={"n": 2.5, "big": 2**50}, tenant="t")))
    return [PointFacts.of(point, one_dense(DIMENSION)) for point in world.collection.points.values()]


def found(stored: list[PointFacts], preprocessor: Preprocessor, world: World) -> list[tuple[str, bool]]:
    event = decode(Log().append(Document("s", "a", TEXT, title="T", metadata={"n": 2.5, "big": 2**50}, tenant="t")))
    assert not isinstance(event.item, Deletion)
    findings = compare_document(event, preprocessor.chunks(event.item), stored, world.collection.info)
    return [(finding.kind, finding.remove) for finding in findings]


def changed(kind: str, **fields: object) -> Callable[[list[PointFacts]], list[PointFacts]]:
    def change(points: list[PointFacts]) -> list[PointFacts]:
        first = next(point for point in points if point.kind == kind)
        return [replace(point, **fields) if point is first else point for point in points]

    return change


def without(kind: str) -> Callable[[list[PointFacts]], list[PointFacts]]:
    return lambda points: [point for point in points if point.kind != kind]


OLD = {"version_kind": "log", "version": 1, "version_offset": 0}
FUTURE = {"version_kind": "log", "version": 2**50, "version_offset": 0}
OTHER_KIND = {"version_kind": "explicit", "version": 1, "version_offset": 0}


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda points: points, []),
        (lambda points: [], [("missing", False)] * 3),  # the head and two chunks
        (without("head"), [("missing", False)]),
        (changed("head", deleted=True), [("stale", False)]),
        (changed("head", chunk_count=9), [("wrong_text", False)]),
        (changed("head", said=said_hash({"metadata": {"n": 2.5}})), [("wrong_text", False)]),
        # Without metadata on the head, each of the two chunks must have all of them.
        (changed("head", said=""), [("wrong_text", False)] * 2),
        (changed("head", version=OLD), [("stale", False)]),
        (changed("head", version=OLD, said="another"), [("stale", False)]),
        (changed("head", version=FUTURE), [("ahead", True)]),
        (changed("head", version=OTHER_KIND), [("ahead", True)]),
        (changed("head", version={}), [("ahead", True)]),
        (changed("chunk", version=OLD), [("stale", False)]),
        (changed("chunk", said="another"), [("wrong_text", False)]),
        (changed("chunk", space="another"), [("wrong_release", True)]),
        (changed("chunk", contract="another"), [("wrong_release", True)]),
        (changed("chunk", release="another"), [("wrong_release", True)]),
        (changed("chunk", vector_fault="it is zero"), [("bad_vector", True)]),
        (changed("chunk", id=head_id("x", "y")), [("missing", False), ("orphan", True)]),
    ],
)
def test_each_thing_that_can_be_wrong_is_named(
    change: Callable[[list[PointFacts]], list[PointFacts]],
    kinds: list[tuple[str, bool]],
    stored: list[PointFacts],
    preprocessor: Preprocessor,
    world: World,
) -> None:
    assert found(change(stored), preprocessor, world) == kinds


def test_chunks_of_a_deleted_document_are_orphans_and_its_head_stays(stored: list[PointFacts], world: World) -> None:
    event = decode(Log(offset=50).append(Deletion("s", "a")))
    kinds = [finding.kind for finding in compare_document(event, [], stored, world.collection.info)]
    assert kinds == ["stale", "stale", "orphan", "orphan"]  # the head's version and mark, and two chunks
    head = [point for point in stored if point.kind == "head"]
    gone = replace(head[0], deleted=True, version={"version_kind": "log", "version": event.version.number, "version_offset": 51})
    assert compare_document(event, [], [gone], world.collection.info) == []


def test_a_point_that_names_no_document_is_an_orphan_that_can_be_removed() -> None:
    facts = PointFacts.of(StoredPoint(head_id("x", "y"), {}), one_dense(DIMENSION))
    finding = stray(facts)
    assert (finding.kind, finding.remove, finding.source) == ("orphan", True, "")
    assert facts.stored_version is None


def test_numbers_that_a_store_gives_back_in_another_form_are_the_same() -> None:
    assert said_hash({"metadata": {"n": 1, "deep": [2]}}) == said_hash({"metadata": {"n": 1.0, "deep": [2.0]}})
    assert said_hash({"metadata": {"n": True}}) != said_hash({"metadata": {"n": 1}})
    assert said_hash({"text": "a"}) != said_hash({"text": "b"})


def test_facts_survive_as_json(stored: list[PointFacts]) -> None:
    assert [PointFacts.from_json(point.to_json()) for point in stored] == stored


def test_the_ledger_folds_as_the_consumer_does_and_leaves_out_what_moves(tmp_path: Path, stored: list[PointFacts]) -> None:
    log = Log()
    with Ledger(tmp_path / "x.sqlite") as ledger:
        new, old = log.append(Document("s", "v", "new", version=2)), log.append(Document("s", "v", "old", version=1))
        late = log.append(Document("s", "m", "moves"))
        aside = log.append(Document("s", "v", "newest", version=3))
        for message in (new, old, late):
            ledger.take(decode(message))
        ledger.set_aside(decode(aside))
        ledger.add_points(stored)
        ledger.note_moved("s", "m")
        assert [message for _, message in ledger.documents()] == [new]
        assert ledger.aside_count() == 1
        assert ledger.aside_with(str(head_id("s", "v")), Version("explicit", 3)) == aside
        assert ledger.aside_with(str(head_id("s", "v")), Version("explicit", 4)) is None
        assert {point.id for point in ledger.points_of_unknown()} == {point.id for point in stored}
    assert not list(tmp_path.iterdir())


def test_batches_are_small_in_number_and_in_bytes() -> None:
    log = Log()
    small = [log.raw(b"k", b"x" * 10) for _ in range(5)]
    large = log.raw(b"k", b"x" * 1_000)
    assert [len(batch) for batch in batches(small, most=2)] == [2, 2, 1]
    assert [len(batch) for batch in batches([*small, large, *small], most_bytes=100)] == [5, 1, 5]
    assert list(batches([])) == []


def test_documents_of_an_older_release_of_twinline_have_their_metadata_on_each_chunk(
    preprocessor: Preprocessor, world: World, stored: list[PointFacts]
) -> None:
    def older(point: StoredPoint, metadata: dict[str, object]) -> StoredPoint:
        payload = {name: value for name, value in point.payload.items() if name != "metadata"}
        return replace(point, payload={**payload, "metadata": metadata} if payload["kind"] == "chunk" else payload)

    for metadata, kinds in (
        ({"n": 2.5, "big": 2**50}, []),
        ({"n": 2.5, "big": float(2**50)}, []),
        ({"n": 2.5}, [("wrong_text", False)] * 2),
        ({}, [("wrong_text", False)] * 2),
    ):
        points = [older(point, metadata) for point in world.collection.points.values()]
        assert found([PointFacts.of(point, one_dense(DIMENSION)) for point in points], preprocessor, world) == kinds


def test_a_chunk_must_have_the_declared_metadata_in_their_stored_form(
    preprocessor: Preprocessor, world: World, stored: list[PointFacts]
) -> None:
    declared = IndexSettings(filters={"metadata.n": "float", "metadata.absent": "bool"})
    world.collection.info = replace(world.collection.info, index=declared)
    assert found(stored, preprocessor, world) == [("wrong_text", False)] * 2  # written before it was declared
    message = world.log.append(Document("s", "a", TEXT, title="T", metadata={"n": 2.5, "big": 2**50}, tenant="t"))
    world.handle(message)
    event = decode(message)
    assert isinstance(event.item, Document)
    again = [PointFacts.of(point, one_dense(DIMENSION)) for point in world.collection.points.values()]
    assert compare_document(event, preprocessor.chunks(event.item), again, world.collection.info) == []
    assert {point.kind for point in again if point.said != {old.id: old for old in stored}[point.id].said} == {"chunk"}
