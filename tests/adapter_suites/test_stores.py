"""The store suite on Edge, on qdrant-client's local mode, and on a server when QDRANT_URL names one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapter_suites.memory_store import MemoryStore
from tests.adapter_suites.store_suite import INFO, NAME, OTHER, StoreSuite, chunk, explicit, head, texts
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import Collection, Store
from twinline.clients.store.qdrant import QdrantStore, connect

_SERVER = os.environ.get("QDRANT_URL")


class OwnedStoreSuite(StoreSuite):
    """What a store with one owner promises on top: it can look at a document's head and write its chunks as one."""

    def test_chunks_that_a_newer_head_has_overtaken_are_not_written(self, collection: Collection) -> None:
        collection.put_heads([head("a", explicit(2), 1), head("b", explicit(2), 0, deleted=True), head("c", explicit(1))])
        collection.put_points([chunk(key, index, explicit(1)) for key in "abcd" for index in range(2)])
        assert texts(collection) == {"c 0 v1", "c 1 v1", "d 0 v1", "d 1 v1"}

    def test_a_store_with_one_owner_says_so(self, store: Store) -> None:
        assert store.has_one_owner


class SharedStoreSuite(StoreSuite):
    """A store whose collections several processes may open at once."""

    def test_a_store_without_an_owner_says_so(self, store: Store) -> None:
        assert not store.has_one_owner


class TestEdge(OwnedStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return EdgeStore(tmp_path / "store")


class TestQdrantLocalMode(SharedStoreSuite):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        client = connect(":memory:")
        yield QdrantStore(client)
        client.close()


def test_installations_with_a_prefix_share_a_server_and_see_nothing_of_one_another() -> None:
    client = connect(":memory:")
    plain, other = QdrantStore(client), QdrantStore(client, prefix="team-a_")
    for store in (plain, other):
        store.create(NAME, INFO)
        store.activate(NAME)
    other.begin(OTHER, INFO)
    other.open(NAME, INFO).put_points([chunk("a", 0, explicit(1))])
    assert (plain.names(), plain.begun(), plain.active()) == ([NAME], [], NAME)
    assert (other.names(), other.begun(), other.active()) == ([NAME], [OTHER], NAME)
    assert (plain.open(NAME, INFO).count(), other.open(NAME, INFO).count()) == (0, 1)
    other.finish(OTHER)
    other.activate(OTHER)
    other.drop(NAME)
    assert (plain.names(), plain.active(), other.names(), other.active()) == ([NAME], NAME, [OTHER], OTHER)
    assert sorted(found.name for found in client.get_collections().collections) == sorted([NAME, f"team-a_{OTHER}"])
    client.close()


@pytest.mark.integration
@pytest.mark.skipif(_SERVER is None, reason="QDRANT_URL names no server")
class TestQdrantServer(SharedStoreSuite):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        client = connect(_SERVER or "", os.environ.get("QDRANT_API_KEY"))
        # An alias of its own: the server may be somebody's.
        store = QdrantStore(client, alias="twinline-test-suite")
        yield store
        for name in (NAME, OTHER):
            client.delete_collection(name)
        client.close()


class TestMemory(OwnedStoreSuite):
    """The fake that other tests build on keeps the promises too."""

    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()
