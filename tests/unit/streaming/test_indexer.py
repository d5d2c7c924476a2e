import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.decode import Message
from tests.fixtures_streaming import World
from twinline.clients.store.conditions import Range
from twinline.clients.store.protocol import Filter
from twinline.contract.documents.filterable import FieldType
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Deletion, Document, Version
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import ContractError, MismatchError, TransientError
from twinline.contract.release.index_settings import IndexSettings

ONE = "one two three four five six seven eight"  # a chunk
TWO = "nine ten eleven twelve thirteen fourteen fifteen sixteen"
THREE = "seventeen eighteen nineteen twenty more words and more"


def document(text: str, version: int | None = None, key: str = "k", **fields: object) -> Document:
    return Document("s", key, text, version=version, **fields)  # type: ignore[arg-type]


def test_a_document_becomes_a_head_and_its_chunks(world: World) -> None:
    handled = world.handle(world.log.append(document(f"{ONE} {TWO}", tenant="t", metadata={"team": "x"}, title="T")))
    assert world.texts("k") == [ONE, TWO]
    head = world.collection.read_heads([head_id("s", "k")])[head_id("s", "k")]
    assert (head.deleted, head.chunk_count, head.version.kind, head.metadata) == (False, 2, "log", {"team": "x"})
    payload = next(p.payload for p in world.collection.points.values() if p.payload.get("chunk_index") == 1)
    assert payload["text"] == f"{ONE} {TWO}"[payload["start"] : payload["end"]]
    assert (payload["tenant"], payload["metadata"], payload["title"]) == ("t", {}, "T")
    assert (payload["release"], payload["space"], payload["offset"]) == ("r0123456789ab", world.embedder.space, 1)
    assert (handled.documents, handled.chunks_embedded) == (1, 2)


def test_lineage_headers_reach_the_points(world: World) -> None:
    message = world.log.append(document(ONE))
    world.handle(Message(0, 1, 5, message.key, message.value, [("run_id", b"run-7"), ("unknown", b"x")]))
    payload = next(p.payload for p in world.collection.points.values() if p.payload["kind"] == "chunk")
    assert payload["headers"] == {"run_id": "run-7"}


def test_delivering_a_batch_twice_changes_nothing_and_embeds_nothing(world: World) -> None:
    batch = [world.log.append(document(f"{ONE} {TWO}")), world.log.append(document(THREE, key="other"))]
    world.handle(*batch)
    before, calls = world.snapshot(), len(world.embedder.calls)
    world.handle(*batch)
    assert world.snapshot() == before
    assert len(world.embedder.calls) == calls


def test_a_shorter_version_leaves_no_surplus(world: World) -> None:
    world.handle(world.log.append(document(f"{ONE} {TWO} {THREE}")))
    world.handle(world.log.append(document(TWO)))
    assert world.texts("k") == [TWO]


def test_only_changed_text_is_embedded_and_every_payload_is_brought_up_to_date(world: World) -> None:
    world.handle(world.log.append(document(f"{ONE} {TWO}", title="old")))
    world.embedder.calls.clear()
    handled = world.handle(world.log.append(document(f"{ONE} {THREE}", title="new")))
    assert world.embedder.texts == [THREE]
    assert (handled.chunks_embedded, handled.chunks_reused) == (1, 1)
    chunks = [p for p in world.collection.points.values() if p.payload["kind"] == "chunk"]
    assert {p.payload["title"] for p in chunks} == {"new"}
    assert {p.payload["version_offset"] for p in chunks} == {2}


def test_a_text_that_moved_keeps_its_vector(world: World) -> None:
    world.handle(world.log.append(document(f"{ONE} {TWO}")))
    world.embedder.calls.clear()
    world.handle(world.log.append(document(f"{THREE} {ONE} {TWO}")))
    assert world.texts("k") == [THREE, ONE, TWO]
    assert world.embedder.texts == [THREE]


def test_vectors_of_another_space_are_not_kept(world: World) -> None:
    world.handle(world.log.append(document(ONE)))
    for id_, point in list(world.collection.points.items()):
        if point.dense is not None:
            stale = type(point)(id_, {**point.payload, "space": "another"}, point.vectors)
            world.collection.points[id_] = stale
    world.embedder.calls.clear()
    world.handle(world.log.append(document(ONE)))
    assert world.embedder.texts == [ONE]


def test_texts_are_embedded_in_small_pieces_of_like_length_and_each_once(world: World) -> None:
    texts = [ONE, "short", "a b c", TWO, "short"]
    world.handle(*(world.log.append(document(text, key=str(number))) for number, text in enumerate(texts)))
    assert [len(call) for call in world.embedder.calls] == [2, 2]
    lengths = [len(text.split()) for text in world.embedder.texts]
    assert lengths == sorted(lengths)


def test_a_deletion_removes_the_chunks_and_keeps_the_head(world: World) -> None:
    world.handle(world.log.append(document(f"{ONE} {TWO}")))
    handled = world.handle(world.log.append(Deletion("s", "k")))
    assert world.texts("k") == []
    assert world.collection.read_heads([head_id("s", "k")])[head_id("s", "k")].deleted
    assert handled.deletes == 1


def test_a_late_update_does_not_revive_a_deleted_document(world: World) -> None:
    world.handle(world.log.append(Deletion("s", "k", version=5)))
    handled = world.handle(world.log.append(document(ONE, version=4)))
    assert world.texts("k") == []
    assert handled.stale == 1
    world.handle(world.log.append(document(TWO, version=6)))
    assert world.texts("k") == [TWO]


def test_an_older_version_does_not_replace_a_newer_one(world: World) -> None:
    world.handle(world.log.append(document(TWO, version=2)))
    world.handle(world.log.append(document(f"{ONE} {THREE}", version=1)))
    assert world.texts("k") == [TWO]


def test_an_older_version_later_in_the_same_batch_does_not_win(world: World) -> None:
    append = world.log.append
    handled = world.handle(append(document(TWO, version=2)), append(document(ONE, version=1)))
    assert world.texts("k") == [TWO]
    assert handled.stale == 1


def test_a_document_whose_head_lost_to_another_consumer_writes_no_chunks(world: World) -> None:
    def overtake(call: str) -> None:
        if call == "put_heads":
            world.collection.before = lambda call: None
            world.handle(world.log.append(document(ONE, version=2)))

    world.collection.before = overtake
    handled = world.handle(world.log.append(document(TWO, version=1)))
    assert (handled.documents, handled.stale) == (0, 1)
    assert world.texts("k") == [ONE]


def test_messages_of_one_key_in_one_batch_are_taken_in_order(world: World) -> None:
    append = world.log.append
    handled = world.handle(append(document(ONE)), append(Deletion("s", "k")), append(document(TWO)))
    assert world.texts("k") == [TWO]
    assert (handled.documents, handled.stale) == (1, 2)
    assert world.embedder.texts == [TWO]


def test_a_bad_message_is_set_aside_and_its_neighbours_go_on(world: World) -> None:
    poison = world.log.raw(b"not json", b"\xff\xfe", [("run_id", b"run-7")])
    handled = world.handle(world.log.append(document(ONE)), poison, world.log.append(document(TWO, key="other")))
    assert (world.texts("k"), world.texts("other")) == ([ONE], [TWO])
    (letter,) = world.sink.letters
    assert letter.message == poison
    assert (letter.stage, letter.release) == ("decode", "r0123456789ab")
    assert handled.dead_letters == [letter]


def test_a_document_without_text_is_set_aside_and_the_version_before_it_stays(world: World) -> None:
    only_controls = document("\u200b\u200b\u0000", title="")
    world.handle(world.log.append(document(ONE)), world.log.append(only_controls))
    assert world.texts("k") == [ONE]
    assert [(letter.stage, letter.reason) for letter in world.sink.letters] == [("chunk", "no_text")]


def test_mixing_explicit_and_log_versions_of_a_key_is_a_dead_letter(world: World) -> None:
    world.handle(world.log.append(document(ONE, version=1)))
    world.handle(world.log.append(document(TWO)))
    assert world.texts("k") == [ONE]
    assert [(letter.stage, letter.reason) for letter in world.sink.letters] == [("version", "mixed_versions")]


@pytest.mark.parametrize("write", ["put_heads", "put_points", "delete_surplus"])
@pytest.mark.parametrize(
    "refused",
    [
        document("\x01\x02"),  # nothing is left of it after cleaning
        document(ONE, version=7),  # its versions come from the log
    ],
)
def test_a_refused_message_is_set_aside_though_a_crash_falls_after_a_newer_one_was_written(
    world: World, write: str, refused: Document
) -> None:
    world.handle(world.log.append(document(TWO)))
    batch = [world.log.append(refused), world.log.append(document(ONE))]

    def crash(call: str) -> None:
        if call == write:
            raise KeyboardInterrupt

    world.collection.before = crash
    with pytest.raises(KeyboardInterrupt):
        world.handle(*batch)
    world.collection.before = lambda call: None
    world.handle(*batch)

    # A redelivery may write it twice. It must not end nowhere.
    assert {letter.message.offset for letter in world.sink.letters} == {batch[0].offset}
    assert world.texts("k") == [ONE]


def test_a_message_that_cannot_be_decoded_is_written_once_however_long_the_encoder_is_away(world: World) -> None:
    batch = [world.log.raw(b"no key", b"{}"), world.log.append(document(ONE))]
    world.embedder.failures = [TransientError("away")] * 3
    for _ in range(3):
        with pytest.raises(TransientError):
            world.handle(*batch)
    world.handle(*batch)
    assert [letter.message.offset for letter in world.sink.letters] == [batch[0].offset]


def test_a_message_timed_by_its_producer_is_ordered_by_its_offset_and_stops_nothing(world: World) -> None:
    """A message that lies in the log from before the topic took its time from the log; its producer's clock was years ahead."""
    first, last, explicit = world.log.append(document(ONE)), world.log.append(document(TWO)), document(THREE, version=1, key="v")
    early = Message(0, first.offset, first.timestamp_ms + 10**12, first.key, first.value, appended_by_log=False)
    versioned = world.log.append(explicit)
    timed = Message(0, versioned.offset, 5, versioned.key, versioned.value, appended_by_log=False)
    for batch in ([early, timed], [last], [early]):
        world.handle(*batch)
    assert (world.texts("k"), world.texts("v"), world.sink.letters) == ([TWO], [THREE], [])


def test_a_sick_encoder_leaves_no_trace(world: World) -> None:
    world.handle(world.log.append(document(ONE)))
    before = world.snapshot()
    world.embedder.failures = [TransientError("away")]
    message = world.log.append(document(TWO))
    with pytest.raises(TransientError):
        world.handle(message)
    assert world.snapshot() == before
    world.handle(message)
    assert world.texts("k") == [TWO]


def test_a_text_that_the_encoder_refuses_is_set_aside_alone(world: World) -> None:
    world.embedder.poison = "poison"
    append = world.log.append
    handled = world.handle(append(document(ONE)), append(document("poison", key="bad")), append(document(TWO, key="other")))
    assert (world.texts("k"), world.texts("bad"), world.texts("other")) == ([ONE], [], [TWO])
    assert [letter.stage for letter in world.sink.letters] == ["index"]
    assert handled.documents == 2


def test_an_encoder_that_refuses_everything_stops_the_consumer_and_blames_no_message(world: World) -> None:
    world.embedder.poison = ""  # in every text, the probe's too
    with pytest.raises(ContractError):
        world.handle(world.log.append(document(ONE)), world.log.append(document(TWO, key="other")))
    assert world.sink.letters == []


def test_an_encoder_that_changes_its_space_stops_the_consumer(world: World) -> None:
    world.embedder.answers_from = "another"
    with pytest.raises(MismatchError, match="another"):
        world.handle(world.log.append(document(ONE)))
    assert world.collection.points == {}


@pytest.mark.parametrize("field", ["space", "contract_fingerprint"])
def test_a_consumer_of_another_release_is_refused_at_the_door(world: World, field: str) -> None:
    from dataclasses import replace

    world.collection.info = replace(world.collection.info, **{field: "something-else"})
    with pytest.raises(MismatchError, match="something-else"):
        world.indexer()


def test_a_crash_at_any_write_is_healed_by_delivering_the_batch_again(world: World) -> None:
    world.handle(world.log.append(document(f"{ONE} {TWO} {THREE}")))
    batch = [world.log.append(document(f"{TWO}", title="new")), world.log.append(document(ONE, key="other"))]
    for call in ("put_heads", "put_points", "delete_surplus"):
        fresh = World(world.collection, world.embedder, world.sink, world.log, world.preprocessor)

        def crash(name: str, at: str = call) -> None:
            if name == at:
                raise TransientError("killed")

        world.collection.before = crash
        with pytest.raises(TransientError):
            fresh.handle(*batch)
        world.collection.before = lambda name: None
        assert world.texts("k"), "a document must never be missing meanwhile"
    world.handle(*batch)
    assert (world.texts("k"), world.texts("other")) == ([TWO], [ONE])


def test_a_consumer_overtaken_between_any_two_steps_leaves_the_newer_document(world: World) -> None:
    """Another consumer indexes a newer, shorter version while this one is under way with an older, longer one."""
    for step in ("read_heads", "put_heads", "put_points", "delete_surplus"):
        for nth in itertools.count(1):
            world.collection.points.clear()
            world.handle(world.log.append(document(THREE, version=1)))
            seen = 0

            def overtake(name: str, step: str = step, nth: int = nth) -> None:
                nonlocal seen
                if name == step:
                    seen += 1
                    if seen == nth:
                        world.collection.before = lambda name: None
                        world.handle(world.log.append(document(ONE, version=3)))

            world.collection.before = overtake
            world.handle(world.log.append(document(f"{TWO} {THREE} {ONE}", version=2)))
            world.collection.before = lambda name: None
            if seen < nth:
                break
            assert world.texts("k") == [ONE], f"overtaken at {step} number {nth}"


_TEXTS = st.sampled_from([ONE, f"{ONE} {TWO}", f"{THREE} {ONE} {TWO}", TWO])
_CHANGES = st.lists(st.tuples(st.sampled_from("ab"), st.one_of(st.none(), _TEXTS)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=_CHANGES, cuts=st.lists(st.integers(1, 4), min_size=1, max_size=8), repeat=st.randoms(use_true_random=False))
def test_any_batching_with_redelivery_ends_in_the_last_state(
    preprocessor: Preprocessor, world: World, changes: list[tuple[str, str | None]], cuts: list[int], repeat: object
) -> None:
    """Messages in log order, cut into any batches, each batch perhaps delivered again later: the newest state stands."""
    world.collection.points.clear()
    log = [world.log.append(Deletion("s", key) if text is None else document(text, key=key)) for key, text in changes]
    batches, start = [], 0
    for size in itertools.cycle(cuts):
        batches.append(log[start : start + size])
        start += size
        if start >= len(log):
            break
    for batch in batches:
        world.handle(*batch)
    for batch in repeat.sample(batches, len(batches)):  # type: ignore[attr-defined]
        world.handle(*batch)
    for key in {key for key, _ in changes}:
        last = [text for changed, text in changes if changed == key][-1]
        expected = [] if last is None else [chunk.text for chunk in preprocessor.chunks(document(last))]
        assert world.texts(key) == expected


def test_versions_of_one_millisecond_are_told_apart_by_offset() -> None:
    assert Version("log", 5, 1) < Version("log", 5, 2)


def test_ten_thousand_updates_of_metadata_and_tenant_embed_nothing_and_are_found_at_once(world: World) -> None:
    """Only metadata, tenant and version change: the vectors stay, and a filter finds the new value after each batch."""
    declared: dict[str, FieldType] = {"metadata.year": "integer", "metadata.team": "keyword"}
    world.collection.info = replace(world.collection.info, index=IndexSettings(filters=declared))
    keys = [f"k{number}" for number in range(1_000)]

    def batch(year: int) -> list[Message]:
        fields = {"metadata": {"year": year, "team": f"t{year}", "note": f"n{year}"}, "tenant": f"tenant-{year}"}
        return [world.log.append(document(ONE, key=key, **fields)) for key in keys]

    indexer = world.indexer()
    indexer.handle(batch(2000))
    world.embedder.calls.clear()
    for year in range(2001, 2011):
        handled = indexer.handle(batch(year))
        assert (handled.documents, handled.chunks_embedded, handled.chunks_reused) == (1_000, 0, 1_000)
        new: Filter = {"metadata.year": Range(gt=year - 1), "metadata.team": f"t{year}", "tenant": f"tenant-{year}"}
        assert world.collection.count({"kind": "chunk", **new}) == 1_000
        assert world.collection.count({"kind": "chunk", "metadata.year": Range(lt=year)}) == 0
    assert world.embedder.texts == []
    head = world.collection.read_heads([head_id("s", "k7")])[head_id("s", "k7")]
    assert head.metadata == {"year": 2010, "team": "t2010", "note": "n2010"}
    assert world.texts("k7") == [ONE]


def test_metadata_go_with_the_document(world: World) -> None:
    world.handle(world.log.append(document(ONE, metadata={"team": "x"})), world.log.append(Deletion("s", "k")))
    world.handle(world.log.append(document(ONE, key="other", metadata={"team": "x"})))
    world.handle(world.log.append(Deletion("s", "other")))
    assert {p.payload["key"]: p.payload.get("metadata") for p in world.collection.points.values()} == {"k": None, "other": None}
