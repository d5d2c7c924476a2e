"""Small messages go past large ones of other documents; nothing is lost, and nothing committed past what is in hand."""

from collections.abc import Sequence

import pytest

from streaming.decode import Message
from streaming.in_flight import InFlight
from tests.fixtures_streaming import NothingErased
from tests.unit.streaming.law_world import MEMBERS, FaultyEmbedder, World, fake_sink
from twinline.clients.erasure_list import Erasures
from twinline.clients.store.protocol import Head
from twinline.contract.documents.records import Document
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import ContractError, TransientError

SMALL, LARGE = b"x" * 10, b"x" * 100


def message(offset: int, value: bytes, key: bytes = b"", partition: int = 0) -> Message:
    return Message(partition, offset, 0, key or b"%d" % offset, value, [])


def offsets(messages: Sequence[Message]) -> list[int]:
    return [each.offset for each in messages]


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight(small_bytes=50)


def test_small_messages_go_past_large_ones(in_flight: InFlight) -> None:
    in_flight.add([message(0, LARGE), message(1, SMALL), message(2, LARGE), message(3, SMALL)], {0: 4})
    assert offsets(in_flight.small()) == [1, 3]
    assert offsets(in_flight.large()) == [0, 2]


def test_the_messages_of_one_document_stay_in_order(in_flight: InFlight) -> None:
    in_flight.add([message(0, SMALL, b"a"), message(1, LARGE, b"a"), message(2, SMALL, b"a")], {0: 3})
    in_flight.add([message(3, SMALL, b"a"), message(4, SMALL, b"b")], {0: 5})
    assert offsets(in_flight.small()) == [0, 4]
    assert offsets(in_flight.large()) == [1, 2, 3]


def test_one_document_is_one_however_its_key_is_written(in_flight: InFlight) -> None:
    in_flight.add(
        [message(0, LARGE, b'["s","k"]'), message(1, SMALL, b'["s", "k"]'), message(2, SMALL, b'["s","other"]')], {0: 3}
    )
    assert offsets(in_flight.small()) == [2]
    assert offsets(in_flight.large()) == [0, 1]


def test_a_document_is_quick_again_once_nothing_large_of_it_is_in_flight(in_flight: InFlight) -> None:
    in_flight.add([message(0, LARGE, b"a")], {0: 1})
    in_flight.done(in_flight.large())
    in_flight.add([message(1, SMALL, b"a")], {0: 2})
    assert offsets(in_flight.small()) == [1]


def test_a_partition_goes_on_at_its_first_message_in_flight(in_flight: InFlight) -> None:
    in_flight.add([message(0, LARGE), message(1, SMALL), message(7, SMALL, partition=1)], {0: 2, 1: 8})
    assert in_flight.next_offsets() == {0: 0, 1: 7}
    assert in_flight.to_commit() == {}
    in_flight.done(in_flight.small())
    assert in_flight.next_offsets() == {0: 0, 1: 8}
    assert in_flight.to_commit() == {1: 8}
    assert in_flight.counts() == {0: 1}
    assert in_flight.bytes == len(b"0" + LARGE)
    in_flight.done(in_flight.large())
    assert in_flight.next_offsets() == {0: 2, 1: 8}
    assert len(in_flight) == 0


def test_what_is_given_up_is_read_again_from_its_first_message(in_flight: InFlight) -> None:
    in_flight.add([message(0, SMALL), message(1, LARGE), message(2, SMALL)], {0: 3})
    in_flight.done(in_flight.small())
    assert in_flight.give_up() == {0: 1}
    assert len(in_flight) == 0
    assert in_flight.next_offsets() == {0: 1}


class Scene:
    """A large document is embedded, and a small one comes meanwhile."""

    def __init__(self, preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World(preprocessor)
        self.written: list[str] = []
        self.texts: list[str] = []
        # What the encoder has to say to the small one, one a call.
        self.failures: list[Exception] = []
        embed, put_heads, scene = FaultyEmbedder.embed, self.world.collection.put_heads, self

        def embed_and_publish(
            self: FaultyEmbedder, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None
        ) -> Embeddings:
            if sum(map(len, scene.world.logs.values())) == 1:
                scene.world.publish(Document("s", "small", "short"))
            if texts == ["short"] and scene.failures:
                raise scene.failures.pop()
            scene.texts += texts
            return embed(self, texts, role, token_counts)

        def note(heads: Sequence[Head]) -> None:
            scene.written.extend(head.key for head in heads)
            put_heads(heads)

        monkeypatch.setattr(FaultyEmbedder, "embed", embed_and_publish)
        monkeypatch.setattr(self.world.collection, "put_heads", note)
        # More chunks than one request has, so that there is a moment between two.
        self.world.publish(Document("s", "large", " ".join(f"word{number}" for number in range(60))))

    def work(self, batches: int) -> None:
        with fake_sink(self.world):
            self.world.work(MEMBERS[0], batches)


@pytest.fixture
def scene(preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(preprocessor, monkeypatch)


def test_a_small_document_that_comes_while_a_large_one_is_embedded_is_written_first(scene: Scene) -> None:
    scene.work(batches=1)
    assert scene.written == ["small", "large"]
    assert scene.world.committed == {partition: len(log) for partition, log in scene.world.logs.items()}


def test_a_failure_of_the_small_one_does_not_begin_the_large_one_anew(scene: Scene) -> None:
    scene.failures = [TransientError("busy")]
    scene.work(batches=2)
    assert scene.written == ["large", "small"]
    assert len(scene.texts) == len(set(scene.texts)) == 9
    assert scene.world.committed == {partition: len(log) for partition, log in scene.world.logs.items()}


def test_what_is_wrong_beside_the_large_one_is_not_blamed_on_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    current = NothingErased.current

    def damaged(self: NothingErased) -> Erasures:
        if "large" not in scene.written and scene.texts:
            raise ContractError("no record of an erasure")
        return current(self)

    monkeypatch.setattr(NothingErased, "current", damaged)
    with pytest.raises(ContractError, match="no record"):
        scene.work(batches=2)
    assert scene.world.letters == {}
    assert scene.world.committed == dict.fromkeys(scene.world.logs, 0)


def test_markers_and_gaps_are_committed_without_a_message(in_flight: InFlight) -> None:
    in_flight.begin({0: 5, 1: 0})
    in_flight.add([], {0: 5, 1: 0})
    assert in_flight.to_commit() == {}
    in_flight.add([message(5, SMALL)], {0: 9, 1: 0})
    assert in_flight.to_commit() == {}
    in_flight.done(in_flight.small())
    assert in_flight.to_commit() == {0: 9}
    in_flight.add([], {0: 9, 1: 2})
    assert in_flight.to_commit() == {0: 9, 1: 2}
