"""Whose fault is it? Only a message that is refused while others pass is set aside."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from streaming import indexer as indexer_module
from streaming.heartbeat import BatchLeftError
from streaming.indexer import Indexer
from streaming.limits import ConsumerLimits
from tests.fixtures_streaming import GOLDEN, NothingErased, World, vector_of
from twinline.clients.store.protocol import Head, StoredPoint
from twinline.contract.documents.records import Document
from twinline.contract.errors import ContractError, MismatchError, TransientError

ONE = "one two three four five six seven eight"
TWO = "nine ten eleven twelve thirteen fourteen fifteen sixteen"


def document(text: str, key: str = "k") -> Document:
    return Document("s", key, text)


@pytest.fixture
def filled(world: World) -> World:
    """As a collection in service is: with golden points, and a document."""
    world.collection.put_golden({entry.text: vector_of(entry.text) for entry in GOLDEN.entries})
    world.handle(world.log.append(document(ONE, key="first")))
    return world


@pytest.mark.parametrize("accepts", [(), ("put_heads",), ("put_heads", "put_points")], ids=["nothing", "heads", "no vectors"])
def test_a_store_that_refuses_writes_stops_the_consumer_and_blames_no_message(
    filled: World, accepts: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ContractError("the store is read-only")

    for call in {"put_heads", "put_points", "put_golden"} - set(accepts):
        monkeypatch.setattr(filled.collection, call, refuse)
    if "put_points" in accepts:
        # Something else goes wrong with a document; before it is blamed, the write of a vector fails.
        filled.embedder.poison = "one"
    with pytest.raises(ContractError, match="read-only"):
        filled.handle(filled.log.append(document(ONE)), filled.log.append(document(TWO, key="other")))
    assert filled.sink.letters == []


def test_finding_out_changes_nothing(filled: World) -> None:
    before = dict(filled.collection.points)
    filled.embedder.poison = "poison"
    filled.handle(filled.log.append(document("poison")))
    assert [letter.stage for letter in filled.sink.letters] == ["index"]
    assert filled.snapshot() == {
        id_: {name: value for name, value in point.payload.items() if name not in ("partition", "offset", "timestamp_ms")}
        for id_, point in before.items()
    }


def test_a_point_that_the_store_cannot_take_is_set_aside_alone(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put: Callable[[Sequence[StoredPoint]], None] = filled.collection.put_points

    def choosy(points: Sequence[StoredPoint]) -> None:
        if any(point.payload["key"] == "bad" for point in points):
            raise OverflowError("an integer that the engine cannot hold")
        put(points)

    monkeypatch.setattr(filled.collection, "put_points", choosy)
    append = filled.log.append
    filled.handle(append(document(ONE)), append(document(TWO, key="bad")), append(document(TWO, key="other")))
    assert (filled.texts("k"), filled.texts("other")) == ([ONE], [TWO])
    (letter,) = filled.sink.letters
    assert (letter.reason, letter.stage, letter.error_type) == ("unexpected", "index", "OverflowError")
    assert letter.digest


def test_a_defect_that_one_message_brings_to_light_does_not_stop_the_others(
    filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = indexer_module.decode

    def defective(message: Any, order: Any) -> Any:
        if b"trap" in (message.value or b""):
            raise IndexError("a defect")
        return decode(message, order)

    monkeypatch.setattr(indexer_module, "decode", defective)
    filled.handle(filled.log.append(document("trap")), filled.log.append(document(TWO, key="other")))
    assert filled.texts("other") == [TWO]
    assert [(letter.reason, letter.stage) for letter in filled.sink.letters] == [("unexpected", "decode")]


def test_a_defect_that_every_message_brings_to_light_stops_the_consumer(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(*_: object) -> Any:
        raise IndexError("a defect")

    monkeypatch.setattr(filled.preprocessor, "chunks", defective)
    with pytest.raises(IndexError):
        filled.handle(filled.log.append(document(ONE)), filled.log.append(document(TWO, key="other")))
    assert filled.sink.letters == []


def test_vectors_that_do_not_fit_stop_the_consumer(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fixtures_streaming.DIMENSION", 4)
    with pytest.raises(MismatchError, match="takes 8 numbers"):
        filled.handle(filled.log.append(document(TWO)))


# With prefetch the batch ends while it waits for a portion, without it in the middle of one.
@pytest.mark.parametrize("look_ahead", [True, False])
@pytest.mark.parametrize("left", [TransientError, BatchLeftError])
def test_what_comes_between_the_pieces_passes_through_untouched(filled: World, left: type[Exception], look_ahead: bool) -> None:
    def leave() -> None:
        raise left("now")

    limits = ConsumerLimits(look_ahead=look_ahead)
    indexer = Indexer(filled.collection, filled.release, filled.sink, NothingErased(), limits)
    with pytest.raises(left):
        indexer.handle([filled.log.append(document(TWO))], leave)
    assert filled.sink.letters == []
    assert filled.texts("k") == []


def test_a_head_that_vanishes_under_way_means_again(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Callable[..., dict[Any, Head]] = filled.collection.read_heads
    calls = itertools.count()
    monkeypatch.setattr(filled.collection, "read_heads", lambda ids: {} if next(calls) else read(ids))
    with pytest.raises(TransientError, match="lost the head"):
        filled.handle(filled.log.append(document(TWO)))


def test_a_large_batch_is_handled_in_portions_and_written_in_pieces(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = ConsumerLimits(max_portion_bytes=400, points_per_write=2, texts_per_request=3)
    written: list[int] = []
    portions: list[int] = []
    put = filled.collection.put_points
    monkeypatch.setattr(filled.collection, "put_points", lambda points: (written.append(len(points)), put(points)))
    filled.collection.before = lambda call: portions.append(0) if call == "put_heads" else None
    indexer = Indexer(filled.collection, filled.release, filled.sink, NothingErased(), limits)
    texts = [" ".join(f"w{number}" for number in range(start, start + 40)) for start in (0, 100, 200)]
    indexer.handle([filled.log.append(document(text, key=str(number))) for number, text in enumerate(texts)])
    assert max(written) == 2
    assert len(portions) == 3
    for number, text in enumerate(texts):
        assert filled.texts(str(number)) == [chunk.text for chunk in filled.preprocessor.chunks(document(text))]


def test_an_attempt_that_was_overtaken_and_cut_short_leaves_nothing_behind(world: World) -> None:
    """On a server: the older, longer version wrote its chunks, and was cut short before it could clear up."""
    world.collection.is_owned = False
    older = world.log.append(Document("s", "k", f"{ONE} {TWO}", version=1))

    def overtake(call: str) -> None:
        if call == "put_points":
            world.collection.before = cut
            world.handle(world.log.append(Document("s", "k", TWO, version=2)))

    def cut(call: str) -> None:
        if call == "delete_surplus":
            world.collection.before = lambda call: None
            raise TransientError("away")

    world.collection.before = overtake
    with pytest.raises(TransientError):
        world.handle(older)
    world.handle(older)
    assert world.texts("k") == [TWO]
