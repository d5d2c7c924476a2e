"""The one way to an indexer: with the list of erased documents, and with both connections closed at its end."""

import inspect

import pytest

from streaming import opening
from streaming.indexer import Handled, Indexer
from streaming.opening import open_indexer
from tests.fixtures_streaming import ListSink, World
from twinline.clients.erasure_list import Erasures
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Document
from twinline.contract.errors import MismatchError, TransientError

SECRET = b"s" * 32
SETTINGS = Settings()


class Topics:
    """The topics of dead letters and of erasures; `closed` names those that were closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
        self.closed: list[str] = []
        self.sink = ListSink()
        erasures = Erasures({}, SECRET)
        for key in keys:
            event = {"schema": 1, "act": "erase", "token": erasures.token("s", key), "check": erasures.check()}
            erasures = erasures.with_event({**event, "time": "then", "by": "me", "reason": ""}, 0)
        self._erasures = erasures
        self.claimed: list[object] = []
        monkeypatch.setattr(opening, "claim", lambda settings, collection: self.claimed.append(collection))
        monkeypatch.setattr(opening, "KafkaDeadLetters", lambda settings: self._part("dead letters", put=self.sink.put))
        monkeypatch.setattr(opening, "ErasureTopic", lambda settings: self._part("erasures", current=lambda: self._erasures))

    def _part(self, name: str, **methods: object) -> object:
        return type(
            "Topic", (), {**{n: staticmethod(m) for n, m in methods.items()}, "close": lambda _: self.closed.append(name)}
        )()


def test_an_opened_indexer_keeps_erased_documents_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = Topics(monkeypatch, "ann")
    with open_indexer(SETTINGS, world.release, world.collection) as indexer:
        assert topics.claimed == [world.collection]
        handled = indexer.handle([world.log.append(Document("s", key, "one two")) for key in ("ann", "bob")])
    assert (world.texts("ann"), world.texts("bob")) == ([], ["one two"])
    assert [letter.reason for letter in topics.sink.letters] == ["erased"]
    assert handled.counts() == {
        "documents": 1, "deletes": 0, "stale": 0, "erased": 0, "chunks_embedded": 1, "chunks_reused": 0, "dead_letters": 1,
    }  # fmt: skip


def test_an_indexer_cannot_be_made_without_the_list_of_erased_documents() -> None:
    """No path may take an erased document in because a caller forgot a call."""
    for name in ("erasures", "dead_letters"):
        assert inspect.signature(Indexer).parameters[name].default is inspect.Parameter.empty


def test_both_connections_are_closed_however_it_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = Topics(monkeypatch)
    with pytest.raises(TransientError), open_indexer(SETTINGS, world.release, world.collection):
        raise TransientError("away")
    assert sorted(topics.closed) == ["dead letters", "erasures"]
    topics.closed.clear()
    world.embedder.space = "another"
    with pytest.raises(MismatchError, match="is of space"), open_indexer(SETTINGS, world.release, world.collection):
        pass
    assert sorted(topics.closed) == ["dead letters", "erasures"]


def test_a_collection_of_another_log_is_refused_before_anything_is_opened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = Topics(monkeypatch)

    def refuse(settings: Settings, collection: object) -> None:
        raise MismatchError("it belongs to another log")

    monkeypatch.setattr(opening, "claim", refuse)
    with pytest.raises(MismatchError, match="another log"), open_indexer(SETTINGS, world.release, world.collection):
        pass
    assert topics.closed == []


def test_vectors_of_another_collection_are_reused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    Topics(monkeypatch)
    message = world.log.append(Document("s", "k", "one two"))
    world.handle(message)
    points = [point for point in world.collection.points.values() if point.payload["kind"] == "chunk"]
    world.collection.points.clear()

    class Source:
        name = "documents_other"

        def points_of(self, plans: object) -> list[object]:
            return list(points)

    with open_indexer(SETTINGS, world.release, world.collection, reuse=Source()) as indexer:  # type: ignore[arg-type]
        assert indexer.handle([message]) == Handled(documents=1, chunks_reused=1)


def test_a_caller_that_is_called_between_two_pieces_is_that_of_the_batch(world: World) -> None:
    indexer, calls = world.indexer(), []
    indexer.handle([world.log.append(Document("s", "a", "one two"))], lambda: calls.append("a"))
    of_a = len(calls)
    assert of_a > 0
    indexer.handle([world.log.append(Document("s", "b", "three four"))])
    assert len(calls) == of_a
