"""The store suite on Edge, on qdrant-client's local mode, and on a server when QDRANT_URL names one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.edge import EdgeStore
from clients.qdrant import QdrantStore, connect
from clients.store import Store
from tests.adapter_suites.memory_store import MemoryStore
from tests.adapter_suites.store_suite import NAME, OTHER, StoreSuite

_SERVER = os.environ.get("QDRANT_URL")


class TestEdge(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return EdgeStore(tmp_path / "store")


class TestQdrantLocalMode(StoreSuite):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        client = connect(":memory:")
        yield QdrantStore(client)
        client.close()


@pytest.mark.integration
@pytest.mark.skipif(_SERVER is None, reason="QDRANT_URL names no server")
class TestQdrantServer(StoreSuite):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        client = connect(_SERVER or "", os.environ.get("QDRANT_API_KEY"))
        # An alias of its own: the server may be somebody's.
        store = QdrantStore(client, alias="twinline-test-suite")
        yield store
        for name in (NAME, OTHER):
            client.delete_collection(name)
        client.close()


class TestMemory(StoreSuite):
    """The fake that other tests build on keeps the promises too."""

    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()
