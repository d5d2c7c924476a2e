"""Equal chunks are embedded once: across documents, batches and restarts, within one release and a bound."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from streaming.indexer import Indexer
from streaming.known_vectors import KnownVectors
from streaming.limits import ConsumerLimits
from tests.fixtures_streaming import DIMENSION, NothingErased, World, vector_of
from twinline.clients.erasure_list import Erased, Erasures
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Document

ONE = "one two three four five six seven eight"
TWO = "nine ten eleven twelve thirteen fourteen fifteen sixteen"


class OneErased(NothingErased):
    def current(self) -> Erasures:
        return Erasures({"t": Erased("t", 1, "2026-01-01", "somebody", "asked for")}, b"secret")


@pytest.fixture
def known(tmp_path: Path) -> KnownVectors:
    return KnownVectors(tmp_path, "r1", DIMENSION, 1024 * 1024)


def indexer(world: World, known: KnownVectors, erasures: NothingErased | None = None, *, look_ahead: bool = True) -> Indexer:
    limits = ConsumerLimits(texts_per_request=2, look_ahead=look_ahead)
    return Indexer(world.collection, world.release, world.sink, erasures or NothingErased(), limits, known=known)


@pytest.mark.parametrize("look_ahead", [True, False])
def test_a_chunk_of_another_document_is_not_embedded_again(world: World, known: KnownVectors, look_ahead: bool) -> None:
    first = indexer(world, known, look_ahead=look_ahead)
    first.handle([world.log.append(Document("s", "a", f"{ONE} {TWO}"))])
    handled = first.handle([world.log.append(Document("s", "b", f"{TWO} {ONE} of b"))])
    assert world.embedder.texts == [ONE, TWO, "of b"]
    assert (handled.chunks_embedded, handled.chunks_reused) == (1, 2)
    assert world.texts("b") == [TWO, ONE, "of b"]  # with its own vectors, which `texts` compares


def test_nor_after_a_restart(world: World, tmp_path: Path) -> None:
    for key in "ab":
        known = KnownVectors(tmp_path, "r1", DIMENSION, 1024 * 1024)
        indexer(world, known).handle([world.log.append(Document("s", key, ONE))])
    assert world.embedder.texts == [ONE]


def test_the_vector_is_the_same_to_the_last_bit(known: KnownVectors) -> None:
    vectors = {f"h{n}": np.random.default_rng(n).standard_normal(DIMENSION).astype(np.float32) for n in range(1200)}
    known.write(vectors.items())
    found = known.read([*vectors, "unknown"])
    assert found.keys() == vectors.keys()
    assert all(found[name].tobytes() == vector.tobytes() for name, vector in vectors.items())


def test_another_release_has_its_own(known: KnownVectors, tmp_path: Path) -> None:
    known.write([("h", vector_of("h"))])
    assert KnownVectors(tmp_path, "r2", DIMENSION, 1024).read(["h"]) == {}
    # nor does one whose name begins alike
    KnownVectors(tmp_path, "r", DIMENSION, 1024).forget()
    assert known.read(["h"])


def test_the_oldest_go_once_the_bound_is_reached(tmp_path: Path) -> None:
    known = KnownVectors(tmp_path, "r1", DIMENSION, 100 * (4 * DIMENSION + 320))
    for start in range(0, 1000, 50):
        known.write((f"h{n}", vector_of(str(n))) for n in range(start, start + 50))
    names = [f"h{n}" for n in range(1000)]
    assert sorted(known.read(names)) == sorted(names[-100:])
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 100 * (4 * DIMENSION + 320)


def test_an_erasure_forgets_everything(world: World, known: KnownVectors, tmp_path: Path) -> None:
    indexer(world, known).handle([world.log.append(Document("s", "a", ONE))])
    handled = indexer(world, known, OneErased()).handle([world.log.append(Document("s", "b", ONE))])
    assert (handled.chunks_embedded, handled.chunks_reused) == (1, 0)
    [file] = tmp_path.iterdir()
    assert Erasures.fingerprint(OneErased().current())[:16] in file.name
    # the next batch finds what the one after the erasure has made, and does not forget again
    handled = indexer(world, known, OneErased()).handle([world.log.append(Document("s", "c", ONE))])
    assert (handled.chunks_embedded, handled.chunks_reused) == (0, 1)


def test_a_stored_vector_comes_first(world: World, known: KnownVectors) -> None:
    document = Document("s", "a", ONE)
    world.handle(world.log.append(document))
    handled = indexer(world, known).handle([world.log.append(document)])
    assert (handled.chunks_embedded, handled.chunks_reused) == (0, 1)
    assert len(world.embedder.calls) == 1


def _cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def _no_database(file: Path) -> None:
    file.write_bytes(b"something else" * 1000)


def _other_table(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE vectors")
        database.execute("CREATE TABLE vectors (name TEXT)")


def _flipped_bit(file: Path) -> None:
    with sqlite3.connect(file) as database:
        [(packed,)] = database.execute("SELECT vector FROM vectors")
        database.execute("UPDATE vectors SET vector = ?", (bytes([packed[0] ^ 1]) + packed[1:],))


def _another_hash(file: Path) -> None:
    with sqlite3.connect(file) as database:
        [(known,)] = database.execute("SELECT hash FROM vectors")
        database.execute("INSERT INTO vectors (hash, vector) SELECT 'x', vector FROM vectors")
        database.execute("DELETE FROM vectors WHERE hash = ?", (known,))
        database.execute("UPDATE vectors SET hash = ?", (known,))
        packed = database.execute("SELECT vector FROM vectors").fetchone()[0]
        database.execute("UPDATE vectors SET vector = ?", (packed[4:-4] + packed[:4] + packed[-4:],))


def _shorter_vector(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("UPDATE vectors SET vector = substr(vector, 1, 20)")


def _a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "damage", [_cut_short, _no_database, _other_table, _flipped_bit, _another_hash, _shorter_vector, _a_folder]
)
def test_a_damaged_file_costs_time_and_nothing_else(
    world: World, known: KnownVectors, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    indexer(world, known).handle([world.log.append(Document("s", "a", ONE))])
    [file] = tmp_path.iterdir()
    damage(file)
    handled = indexer(world, known).handle([world.log.append(Document("s", "b", ONE))])
    assert (handled.chunks_embedded, handled.dead_letters) == (1, [])
    assert world.texts("b") == [ONE]
    assert "known_vectors_lost" in caplog.text


def test_an_answer_of_another_space_is_not_kept(world: World, known: KnownVectors) -> None:
    world.embedder.answers_from = "another"
    with pytest.raises(Exception, match="another"):
        indexer(world, known).handle([world.log.append(Document("s", "a", ONE))])
    world.embedder.answers_from = None
    world.embedder.calls.clear()
    indexer(world, known).handle([world.log.append(Document("s", "a", ONE))])
    assert world.embedder.texts == [ONE]


def test_several_threads_write_and_read_at_once(known: KnownVectors) -> None:
    def work(thread: int) -> None:
        for number in range(40):
            known.write([(f"{thread}-{number}", vector_of(str(number)))])
            known.read([f"{other}-{number}" for other in range(4)])

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(known.read([f"{thread}-{number}" for thread in range(4) for number in range(40)])) == 160


def test_zero_mebibytes_turn_it_off(world: World, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert KnownVectors.of(settings, world.release, 0) is None
    on = KnownVectors.of(settings, world.release, 1)
    assert on is not None
    on.write([("h", vector_of("h"))])
    # an erasure removes this folder
    assert list((tmp_path / "cache" / "vectors").rglob("*.sqlite"))
    other = replace(world.release, info=replace(world.release.info, release="r9"))
    assert KnownVectors.of(settings, other, 1).read(["h"]) == {}  # type: ignore[union-attr]


def test_a_retired_release_leaves_no_file(world: World, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    others = replace(world.release, info=replace(world.release.info, release="r9"))
    for release in (world.release, others):
        KnownVectors.of(settings, release, 1).write([("h", vector_of("h"))])  # type: ignore[union-attr]
    KnownVectors.drop(settings, world.release.info.release)
    assert KnownVectors.of(settings, world.release, 1).read(["h"]) == {}  # type: ignore[union-attr]
    assert KnownVectors.of(settings, others, 1).read(["h"])  # type: ignore[union-attr]
