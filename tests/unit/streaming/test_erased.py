"""The consumer and erased documents, without a broker."""

from streaming.dead_letters import DeadLetter
from tests.fixtures_streaming import World
from twinline.clients.erasure_list import Erasures
from twinline.contract.documents.records import Deletion, Document

SECRET = b"s" * 32
SESAME = "open sesame one two three"
BEGAN_MS = 1_763_800_000_000


class Known:
    """A list that a test changes."""

    def __init__(self) -> None:
        self.erasures = Erasures({}, SECRET)

    def current(self) -> Erasures:
        return self.erasures

    def write(self, act: str, key: str, at_ms: int) -> None:
        event = {"schema": 1, "act": act, "token": self.erasures.token("s", key), "check": self.erasures.check()}
        self.erasures = self.erasures.with_event({**event, "time": "then", "by": "me", "reason": ""}, at_ms)


def test_what_the_log_had_before_is_left_out_without_a_word_and_what_came_after_is_set_aside_empty(world: World) -> None:
    known = Known()
    indexer = world.indexer(known)
    before = world.log.append(Document("s", "ann", SESAME))
    known.write("erase", "ann", before.timestamp_ms)
    world.log.offset += 30
    after = world.log.append(Document("s", "ann", SESAME))
    neighbour = world.log.append(Document("s", "b", "one two"))

    handled = indexer.handle([before, after, neighbour])

    assert (handled.documents, handled.erased, len(handled.dead_letters)) == (1, 1, 1)
    assert world.texts("ann") == []
    assert world.texts("b") == ["one two"]
    assert not any("sesame" in text for text in world.embedder.texts)
    [letter] = world.sink.letters
    assert (letter.reason, letter.stage, letter.message.offset, letter.message.value) == ("erased", "erasure", after.offset, None)
    said = repr(letter) + repr(letter.headers())
    assert "ann" not in said
    assert "sesame" not in said
    assert DeadLetter.read(letter.message.key, None, letter.headers()).reason == "erased"


def test_a_deletion_of_an_erased_document_is_still_one(world: World) -> None:
    known = Known()
    indexer = world.indexer(known)
    indexer.handle([world.log.append(Document("s", "ann", SESAME))])
    known.write("erase", "ann", BEGAN_MS)
    world.log.offset += 30

    assert indexer.handle([world.log.append(Deletion("s", "ann"))]).deletes == 1
    assert world.texts("ann") == []


def test_a_broken_message_of_an_erased_document_is_not_quoted_either(world: World) -> None:
    known = Known()
    indexer = world.indexer(known)
    known.write("erase", "ann", BEGAN_MS)
    world.log.offset += 30
    # The same key as another producer may write it.
    indexer.handle([world.log.raw(b'[ "s", "\\u0061nn" ]', b"sesame, no json")])
    [letter] = world.sink.letters
    assert (letter.reason, letter.message.value) == ("erased", None)


def test_a_lifted_document_comes_back_with_what_is_said_after_that(world: World) -> None:
    known = Known()
    indexer = world.indexer(known)
    old = world.log.append(Document("s", "ann", SESAME))
    known.write("erase", "ann", old.timestamp_ms)
    known.write("lift", "ann", old.timestamp_ms + 1)
    world.log.offset += 30
    handled = indexer.handle([old, world.log.append(Document("s", "ann", "something else"))])
    assert (handled.erased, handled.documents) == (1, 1)
    assert world.texts("ann") == ["something else"]
