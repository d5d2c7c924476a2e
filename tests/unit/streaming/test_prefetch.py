"""What is made ahead changes when things are made, and nothing else."""

import threading
from collections.abc import Callable, Sequence

import pytest

from streaming.decode import Message
from streaming.indexer import Handled, Indexer
from streaming.limits import ConsumerLimits
from streaming.prefetch import NOTHING, Prefetched, Prefetcher
from tests.fixtures_streaming import NothingErased, World
from twinline.clients.store.protocol import Head
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import TransientError

TEXTS = ["one two three four five six seven eight nine", "ten eleven", "twelve thirteen fourteen", "fifteen", "ten eleven"]


def indexer(world: World, look_ahead: bool = True) -> Indexer:
    limits = ConsumerLimits(max_portion_messages=2, texts_per_request=2, look_ahead=look_ahead)
    return Indexer(world.collection, world.release, world.sink, NothingErased(), limits)


def batch(world: World) -> list[Message]:
    """Return creates, an update of what an earlier portion holds, a deletion, rubbish, and an older version."""
    items: list[Document | Deletion] = [Document("s", str(number), text) for number, text in enumerate(TEXTS)]
    items += [Document("s", "0", "sixteen seventeen"), Deletion("s", "1"), Document("s", "9", "eighteen", version=3)]
    items += [Document("s", "9", "an older one", version=2)]
    messages = [world.log.append(item) for item in items]
    return [*messages[:3], world.log.raw(b"no key", b"no value"), *messages[3:]]


def test_with_and_without_it_the_index_is_the_same(world: World) -> None:
    messages = batch(world)
    ahead = indexer(world).handle(messages)
    found, letters = world.snapshot(), len(world.sink.letters)
    world.collection.points.clear()
    plain = indexer(world, look_ahead=False).handle(messages)
    assert found == world.snapshot()
    assert letters == len(world.sink.letters) - letters == 1
    assert (ahead.documents, ahead.deletes, ahead.stale, ahead.chunks_embedded, ahead.chunks_reused) == (
        plain.documents,
        plain.deletes,
        plain.stale,
        plain.chunks_embedded,
        plain.chunks_reused,
    )


def test_what_was_made_ahead_is_not_made_again(world: World) -> None:
    messages = [world.log.append(Document("s", str(number), f"text {number}")) for number in range(8)]
    handled = indexer(world).handle(messages)
    assert sorted(world.embedder.texts) == [f"text {number}" for number in range(8)]
    assert handled.chunks_embedded == 8


def test_a_text_that_is_in_the_index_is_not_embedded_ahead(world: World) -> None:
    messages = batch(world)[:3]
    indexer(world).handle(messages)
    world.embedder.calls.clear()
    indexer(world).handle(messages)
    assert world.embedder.calls == []


def test_the_next_portion_is_embedded_before_this_one_is_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [world.log.append(Document("s", str(number), f"text {number}")) for number in range(4)]
    embedded = threading.Event()
    embed, put_heads = world.embedder.embed, world.collection.put_heads

    def note(texts: Sequence[str], role: Role, token_counts: Sequence[int]) -> Embeddings:
        answer = embed(texts, role, token_counts)
        if "text 3" in texts:
            embedded.set()
        return answer

    def wait_for_the_next(heads: Sequence[Head]) -> None:
        assert embedded.wait(timeout=10)
        put_heads(heads)

    monkeypatch.setattr(world.embedder, "embed", note)
    monkeypatch.setattr(world.collection, "put_heads", wait_for_the_next)
    assert indexer(world).handle(messages).documents == 4


def test_a_failure_ahead_is_met_where_it_counts(world: World) -> None:
    messages = batch(world)
    world.embedder.poison = "fifteen"
    handled = indexer(world).handle(messages)
    assert [letter.stage for letter in handled.dead_letters] == ["index", "decode"]
    assert world.texts("2") == [TEXTS[2]]
    assert world.texts("4") == [TEXTS[4]]


def test_an_attempt_that_ends_early_leaves_nothing_running(world: World) -> None:
    messages = [world.log.append(Document("s", str(number), f"text {number}")) for number in range(8)]
    failing = indexer(world)

    def leave() -> None:
        raise TransientError("told to stop")

    with pytest.raises(TransientError, match="told to stop"):
        failing.handle(messages, leave)
    assert failing.handle(messages) == Handled(documents=8, chunks_embedded=8)


def test_waiting_looks_up_now_and_then() -> None:
    prefetcher, looks, end = new_prefetcher(), [], threading.Event()
    made = Prefetched({("", "text"): []})

    def make(_: object, __: object) -> Prefetched:
        assert end.wait(timeout=10)
        return made

    def look() -> None:
        looks.append(1)
        if len(looks) == 2:
            end.set()

    assert prefetcher.take(look) is NOTHING
    prefetcher.begin(cut_nothing, make)
    assert prefetcher.take(look) is made
    assert len(looks) >= 2
    assert prefetcher.take(look) is NOTHING


@pytest.mark.parametrize("step", ["cut", "embed"])
def test_dropping_ends_the_work_at_its_next_look(step: str) -> None:
    prefetcher, started, looks = new_prefetcher(), threading.Event(), []

    def work(check: Callable[[], object]) -> None:
        started.set()
        for _ in range(10_000):
            looks.append(1)
            threading.Event().wait(0.001)
            check()

    def embed(_: object, check: Callable[[], object]) -> Prefetched:
        work(check)
        return NOTHING

    prefetcher.begin(work if step == "cut" else cut_nothing, embed)
    assert started.wait(timeout=10)
    prefetcher.drop()
    assert 0 < len(looks) < 10_000
    assert prefetcher.take(lambda: None) is NOTHING


def test_dropping_begins_nothing_that_waits_for_its_turn() -> None:
    prefetcher, started, end, begun = new_prefetcher(), threading.Event(), threading.Event(), []

    def hold(check: Callable[[], object]) -> None:
        started.set()
        while True:
            assert not end.wait(0.001)
            check()

    prefetcher.begin(hold, lambda cut, check: NOTHING)
    for _ in range(2):
        prefetcher.begin(begun.append, lambda cut, check: NOTHING)
    assert started.wait(timeout=10)
    prefetcher.drop()
    assert begun == []


def test_one_is_cut_while_another_is_embedded_and_they_are_taken_in_order() -> None:
    prefetcher, second_is_cut, embedding = new_prefetcher(), threading.Event(), []
    first, second = Prefetched({("", "first"): []}), Prefetched({("", "second"): []})

    def embed_first(_: object, __: object) -> Prefetched:
        embedding.append("first")
        assert second_is_cut.wait(timeout=10)
        embedding.append("done")
        return first

    def embed_second(_: object, __: object) -> Prefetched:
        # The encoder is asked for one thing at a time.
        assert embedding == ["first", "done"]
        return second

    prefetcher.begin(cut_nothing, embed_first)
    prefetcher.begin(lambda check: second_is_cut.set(), embed_second)
    assert [prefetcher.take(lambda: None), prefetcher.take(lambda: None)] == [first, second]


def test_after_a_drop_it_works_on() -> None:
    prefetcher, made = new_prefetcher(), Prefetched({("", "text"): []})
    prefetcher.begin(cut_nothing, lambda cut, check: NOTHING)
    prefetcher.drop()
    prefetcher.begin(cut_nothing, lambda cut, check: (check(), made)[1])
    assert prefetcher.take(lambda: None) is made


def test_what_cannot_be_cut_ahead_is_left_to_whoever_applies_it() -> None:
    prefetcher = new_prefetcher()

    def fail(_: object) -> None:
        raise ValueError("a bug that one message brings to light")

    prefetcher.begin(fail, lambda cut, check: NOTHING)
    assert prefetcher.take(lambda: None) is NOTHING


def new_prefetcher() -> Prefetcher[None]:
    return Prefetcher()


def cut_nothing(_: object) -> None:
    pass
