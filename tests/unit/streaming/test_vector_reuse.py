"""A build takes the vectors of texts that did not change from a collection of the same space, and counts them."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from streaming.building.vector_reuse import VectorSource, find_vector_source
from streaming.indexer import Handled
from tests.adapter_suites.memory_store import MemoryCollection, MemoryStore
from tests.fixtures_streaming import GOLDEN, SPACE, World, info_of
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import StoredPoint
from twinline.contract.documents.records import Document
from twinline.contract.errors import ContractError, TransientError, TwinlineError

ONE = "one two three four five six seven eight"
TWO = "nine ten eleven twelve thirteen fourteen fifteen sixteen"
SERVER = Settings(store="qdrant", qdrant_url="http://127.0.0.1:9")


def filled(world: World, text: str) -> MemoryCollection:
    """Return a collection of the same encoder, with document `k`, and forget that it was ever embedded."""
    other = MemoryCollection("documents_other", replace(info_of(world.preprocessor), release="other", index_fingerprint="other"))
    World(other, world.embedder, world.sink, world.log, world.preprocessor).handle(world.log.append(Document("s", "k", text)))
    world.embedder.calls.clear()
    return other


def build(world: World, reuse: VectorSource, text: str, key: str = "k") -> Handled:
    return world.indexer(reuse=reuse).handle([world.log.append(Document("s", key, text))])


def test_texts_that_the_other_collection_has_are_not_embedded_again(world: World) -> None:
    reuse = VectorSource("documents_other", filled(world, f"{ONE} {TWO}"))
    handled = build(world, reuse, f"new words {ONE} {TWO} of k".replace("new words ", ""))
    assert world.texts("k") == [ONE, TWO, "of k"]
    assert world.embedder.texts == ["of k"]
    assert (handled.chunks_embedded, handled.chunks_reused) == (1, 2)


def test_the_points_are_those_of_the_new_release(world: World) -> None:
    build(world, VectorSource("documents_other", filled(world, ONE)), ONE)
    [point] = [point for point in world.collection.points.values() if point.payload["kind"] == "chunk"]
    assert (point.payload["release"], point.payload["contract"]) == (
        world.collection.info.release,
        world.collection.info.contract_fingerprint,
    )


def test_a_document_that_the_other_collection_does_not_have_is_embedded(world: World) -> None:
    handled = build(world, VectorSource("documents_other", filled(world, ONE)), TWO, key="another")
    assert (handled.chunks_embedded, handled.chunks_reused) == (1, 0)


def test_vectors_of_another_space_are_not_taken(world: World) -> None:
    other = filled(world, ONE)
    other.points = {
        id_: StoredPoint(id_, {**point.payload, "space": "another"}, point.vectors) for id_, point in other.points.items()
    }
    assert build(world, VectorSource("documents_other", other), ONE).chunks_embedded == 1


def test_one_text_twice_is_embedded_once_and_reused_not_at_all(world: World) -> None:
    handled = world.handle(world.log.append(Document("s", "k", f"{ONE} {ONE}")))
    assert (handled.chunks_embedded, handled.chunks_reused) == (1, 0)


@pytest.mark.parametrize("failure", [TransientError("the online process is away"), ContractError("it was retired")])
def test_a_collection_that_is_gone_is_asked_once_and_the_build_goes_on(world: World, failure: TwinlineError) -> None:
    asked: list[Sequence[UUID]] = []

    class Gone:
        def read_points(self, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
            asked.append(ids)
            raise failure

    reuse = VectorSource("documents_other", Gone())
    for key, text in (("a", ONE), ("b", TWO)):
        assert build(world, reuse, text, key).chunks_embedded == 1
    assert (len(asked), world.texts("a"), world.texts("b")) == (1, [ONE], [TWO])


@pytest.mark.parametrize(
    ("space", "shift", "found"),
    [
        (SPACE, 0.0, True),
        # of other weights
        ("another space", 0.0, False),
        # of the same weights at a lower precision
        (SPACE, 0.1, False),
    ],
)
def test_a_collection_to_reuse_is_of_the_same_space_and_as_exact_as_the_release_that_is_built(
    world: World, space: str, shift: float, found: bool
) -> None:
    store, info = MemoryStore(has_one_owner=False), info_of(world.preprocessor)
    other = store.create("documents_other", replace(info, release="other", space=space))
    other.put_golden(
        {entry.name: entry.vector + np.float32(shift) * np.eye(1, 8, dtype=np.float32)[0] for entry in GOLDEN.entries}
    )
    reuse = find_vector_source(SERVER, store, info, GOLDEN)
    assert (reuse is not None and reuse.name == "documents_other") is found


def test_the_active_collection_is_preferred(world: World) -> None:
    store, info = MemoryStore(has_one_owner=False), info_of(world.preprocessor)
    for release in ("a", "b", "c"):
        made = store.create(f"documents_{release}", replace(info, release=release))
        made.put_golden({entry.name: entry.vector for entry in GOLDEN.entries})
    store.activate("documents_b")
    reuse = find_vector_source(SERVER, store, info, GOLDEN)
    assert reuse is not None
    assert reuse.name == "documents_b"


def test_no_online_process_means_no_reuse_and_no_failure(world: World) -> None:
    store, info = MemoryStore(), info_of(world.preprocessor)
    store.create("documents_other", replace(info, release="other"))
    assert find_vector_source(Settings(store="edge", admin_port=9), store, info, GOLDEN) is None
