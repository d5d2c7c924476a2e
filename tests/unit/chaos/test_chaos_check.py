"""The check of the chaos runs can fail: each damage is planted in a copy of a finished index, and is counted as what it is."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import qdrant_edge as engine
from numpy.typing import NDArray

from proofs.chaos.check import PlainPoint, Verdict, check
from proofs.chaos.law import Name, Record, UnusableError
from proofs.chaos.reading import read_edge
from streaming.decode import Message
from streaming.indexer import Indexer
from tests.fixtures_streaming import GOLDEN, RELEASE, FakeEmbedder, ListSink, Log, NothingErased, info_of, preprocessor, vector_of
from twinline.clients.release import Release
from twinline.clients.store.edge import EdgeStore
from twinline.contract.documents.records import Deletion, Document, encode_key
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import DocumentError
from twinline.contract.release.manifest import collection_name

__all__ = ["preprocessor"]

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
Plant = Callable[[Any, Sequence[PlainPoint]], None]


class Finished:
    """An index that the platform's own consumer made of a log, and the log."""

    def __init__(self, folder: Path, preprocessor: Preprocessor) -> None:
        self._preprocessor = preprocessor
        log = Log()
        self.messages = [
            log.append(Document("s", "long", WORDS, title="t", version=1)),
            log.append(Document("s", "long", WORDS + " seventeen", title="t", metadata={"a": 1}, version=3)),
            log.append(Document("s", "long", "an older one", version=2)),
            log.append(Document("s", "short", WORDS)),
            log.append(Document("s", "short", "one two", tenant="red")),
            log.append(Document("s", "gone", WORDS)),
            log.append(Deletion("s", "gone")),
            log.raw(encode_key("s", "bad"), b"{"),
            log.append(Document("s", "long", "of the other kind")),
        ]
        sink = ListSink()
        collection = EdgeStore(folder).create(collection_name(RELEASE), info_of(preprocessor))
        release = Release(collection.info, preprocessor, FakeEmbedder(), GOLDEN)
        Indexer(collection, release, sink, NothingErased()).handle(self.messages)
        collection.close()
        self.folder = folder / collection_name(RELEASE)
        self.points = read_edge(self.folder)
        self.letters = [(letter.message.partition, letter.message.offset) for letter in sink.letters]

    @property
    def records(self) -> list[Record]:
        return [plain(message) for message in self.messages]

    def check(self, folder: Path | None = None, **changes: Any) -> Verdict:
        inputs: dict[str, Any] = {
            "records": self.records,
            "points": read_edge(folder) if folder else self.points,
            "letters": self.letters,
        }
        return check(**(inputs | changes), cut=self._cut, embed=embed)

    def _cut(self, name: Name, said: Mapping[str, Any]) -> Sequence[Any]:
        try:
            return self._preprocessor.chunks(Document(*name, text=said["text"], title=said["title"]))
        except DocumentError as exc:
            raise UnusableError(str(exc)) from exc


def plain(message: Message) -> Record:
    return Record(message.partition, message.offset, message.timestamp_ms, message.key, message.value, tuple(message.headers))


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([vector_of(text) for text in texts])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, preprocessor: Preprocessor) -> Finished:
    """One for all tests here: none changes it, and opening a shard takes its time."""
    return Finished(tmp_path_factory.mktemp("finished"), preprocessor)


def chunk_of(points: Sequence[PlainPoint], key: str) -> PlainPoint:
    return next(point for point in points if point.payload["kind"] == "chunk" and point.payload["key"] == key)


def head_of(points: Sequence[PlainPoint], key: str) -> PlainPoint:
    return next(point for point in points if point.payload["kind"] == "head" and point.payload["key"] == key)


def put(shard: Any, id_: Any, payload: Mapping[str, Any], vector: Any = None) -> None:
    vectors = {} if vector is None else {"dense": np.asarray(vector, np.float32)}
    shard.update(engine.UpdateOperation.upsert_points([engine.Point(id=id_, vector=vectors, payload=dict(payload))]))


def remove(shard: Any, point: PlainPoint) -> None:
    shard.update(engine.UpdateOperation.delete_points([engine_id(point)]))


def engine_id(point: PlainPoint) -> Any:
    return UUID(point.id)


def delete_a_chunk(shard: Any, points: Sequence[PlainPoint]) -> None:
    remove(shard, chunk_of(points, "long"))


def delete_a_head(shard: Any, points: Sequence[PlainPoint]) -> None:
    remove(shard, head_of(points, "gone"))


def store_twice(shard: Any, points: Sequence[PlainPoint]) -> None:
    point = chunk_of(points, "short")
    put(shard, 7, point.payload, point.vector)


def store_a_head_twice(shard: Any, points: Sequence[PlainPoint]) -> None:
    put(shard, 7, head_of(points, "short").payload)


def put_the_old_version_back(shard: Any, points: Sequence[PlainPoint]) -> None:
    point = chunk_of(points, "long")
    put(shard, engine_id(point), {**point.payload, "version": 1, "metadata": {}}, point.vector)


def forget_the_tenant(shard: Any, points: Sequence[PlainPoint]) -> None:
    point = chunk_of(points, "short")
    put(shard, engine_id(point), {**point.payload, "tenant": None}, point.vector)


def forget_the_deletion(shard: Any, points: Sequence[PlainPoint]) -> None:
    point = head_of(points, "gone")
    put(shard, engine_id(point), {**point.payload, "deleted": False})


def spoil_a_vector(shard: Any, points: Sequence[PlainPoint]) -> None:
    point = chunk_of(points, "short")
    assert point.vector is not None
    put(shard, engine_id(point), point.payload, point.vector + np.linspace(0, 0.01, point.vector.size, dtype=np.float32))


def swap_in_another_texts_vector(shard: Any, points: Sequence[PlainPoint]) -> None:
    point = chunk_of(points, "short")
    put(shard, engine_id(point), point.payload, chunk_of(points, "long").vector)


def bring_a_deleted_one_back(shard: Any, points: Sequence[PlainPoint]) -> None:
    put(shard, 7, {**chunk_of(points, "short").payload, "key": "gone"}, chunk_of(points, "short").vector)


def leave_a_surplus_chunk(shard: Any, points: Sequence[PlainPoint]) -> None:
    put(shard, 7, {**chunk_of(points, "short").payload, "chunk_index": 1}, chunk_of(points, "short").vector)


def add_a_stranger(shard: Any, points: Sequence[PlainPoint]) -> None:
    put(shard, 7, {**chunk_of(points, "short").payload, "source": "nobody"}, chunk_of(points, "short").vector)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("plant", "counted"),
    [
        (delete_a_chunk, "lost"),
        (delete_a_head, "lost"),
        (store_twice, "duplicated"),
        (store_a_head_twice, "duplicated"),
        (put_the_old_version_back, "stale"),
        (forget_the_tenant, "stale"),
        (forget_the_deletion, "stale"),
        (spoil_a_vector, "wrong_vector"),
        (swap_in_another_texts_vector, "wrong_vector"),
        (bring_a_deleted_one_back, "orphaned"),
        (leave_a_surplus_chunk, "orphaned"),
        (add_a_stranger, "orphaned"),
    ],
)
def test_each_damage_planted_in_a_copy_of_a_finished_index_is_counted(
    finished: Finished, tmp_path: Path, plant: Plant, counted: str
) -> None:
    copy = shutil.copytree(finished.folder, tmp_path / "copy")
    shard = engine.EdgeShard.load(str(copy / "shard"))
    plant(shard, finished.points)
    shard.close()

    counts = finished.check(copy).damage.counts

    assert {name: count for name, count in counts.items() if count} == {counted: 1}


def test_an_index_that_the_consumer_finished_has_no_damage(finished: Finished) -> None:
    verdict = finished.check()
    assert set(verdict.damage.counts.values()) == {0}, verdict.damage.examples
    assert (verdict.documents, verdict.deleted, verdict.truth.stale) == (2, 1, 1)
    assert verdict.chunks == verdict.vectors == 4
    assert verdict.dead_letters == 2, "the broken one, and the one of the other kind of version"


def test_a_document_of_which_nothing_is_left_is_lost_with_its_head(finished: Finished) -> None:
    kept = [point for point in finished.points if point.payload["key"] != "short"]
    damage = finished.check(points=kept).damage
    assert damage.counts["lost"] == 2, damage.examples


def test_dead_letters_are_counted_by_their_place_so_that_a_redelivered_one_counts_once(finished: Finished) -> None:
    verdict = finished.check(letters=[*finished.letters, finished.letters[0]])
    assert set(verdict.damage.counts.values()) == {0}
    assert (verdict.dead_letters, verdict.dead_letters_redelivered) == (2, 1)


def test_a_missing_and_an_unexpected_dead_letter_are_both_counted(finished: Finished) -> None:
    damage = finished.check(letters=[*finished.letters[1:], (0, 1)]).damage
    assert (damage.dead_letters_missing, damage.unexpected_dead_letters) == (1, 1)


def test_a_message_that_was_acknowledged_and_is_not_in_the_log_is_the_brokers_loss(finished: Finished) -> None:
    damage = finished.check().damage
    damage.count_broker_losses([(0, 1), (0, 99), (1, 1)], finished.records)
    assert damage.counts["lost_by_broker"] == 2
