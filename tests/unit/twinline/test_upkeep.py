"""The online process's upkeep over HTTP, on a real embedded store: audit, removal, messages applied again, and an exchange."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from streaming import opening
from streaming.indexer import Indexer
from streaming.limits import ConsumerLimits
from streaming.message_json import json_of_message
from tests.fixtures_streaming import GOLDEN, RELEASE, FakeEmbedder, ListSink, Log, NothingErased, info_of, preprocessor
from twinline.clients.erasure_list import Erasures
from twinline.clients.online import AdminClient
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.edge import REBUILT, EdgeStore
from twinline.clients.store.protocol import CollectionInfo, StoredPoint
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import SettingsError, TransientError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.release.manifest import collection_name
from twinline.online.admin import build_admin
from twinline.online.applying import Applier
from twinline.online.consuming import ConsumerThread
from twinline.online.service import OnlineService
from twinline.search.releases import Releases, Served

__all__ = ["preprocessor"]

NAME = collection_name(RELEASE)
TEXT = "one two three four five six seven eight nine"


class IdleConsumer:
    """Runs until it is asked to stop."""

    state = SimpleNamespace(lag={0: 0}, last_error="", succeeded_at=None)

    def run(self, stop: threading.Event) -> None:
        stop.wait()


class Online:
    """A service over a real embedded store, with an admin client that reaches it."""

    def __init__(self, home: Path, preprocessor: Preprocessor) -> None:
        self.store, self.preprocessor, self.embedder = EdgeStore(home / "store"), preprocessor, FakeEmbedder()
        self.info: CollectionInfo = info_of(preprocessor)
        self.release = Release(self.info, preprocessor, self.embedder, GOLDEN)
        self.refusal: Exception | None = None
        self.releases = Releases(self.store)
        self.service = OnlineService(self.store, self.releases, self.open, self.start)
        applier = Applier(self.releases, Settings(home=home), ConsumerLimits())
        app = TestClient(build_admin(self.service, applier, principal=LOCAL_OPERATOR), base_url="http://127.0.0.1")

        def forward(request: httpx.Request) -> httpx.Response:
            headers = {"content-type": request.headers.get("content-type", "")}
            answer = app.request(request.method, str(request.url), content=request.content, headers=headers)
            return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)

        self.admin = AdminClient("http://127.0.0.1", httpx.MockTransport(forward))

    def open(self, name: str) -> Served:
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal
        return Served(self.release, self.store.open(name, self.info))

    def start(self, served: Served) -> ConsumerThread:
        return ConsumerThread(RELEASE, self.embedder, lambda embedder: IdleConsumer())

    def fill(self, store: EdgeStore, *documents: Document) -> None:
        collection = store.create(NAME, self.info)
        log = Log()
        Indexer(collection, self.release, ListSink(), NothingErased()).handle([log.append(each) for each in documents])
        collection.close()

    def keys(self) -> set[str]:
        points, _ = self.admin.points(NAME, kind="chunk")
        return {str(point.payload["key"]) for point in points}


@pytest.fixture
def online(tmp_path: Path, preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Online]:
    lists = SimpleNamespace(current=Erasures, close=lambda: None)
    monkeypatch.setattr(opening, "ErasureTopic", lambda settings: lists)
    monkeypatch.setattr(opening, "claim", lambda settings, collection: None)
    made = Online(tmp_path, preprocessor)
    made.fill(made.store, Document("s", "a", TEXT), Document("s", "b", "nine ten"))
    made.service.serve(NAME)
    yield made
    assert made.service.stop(10)


def test_an_audit_says_what_is_stored_page_by_page_and_of_one_document(online: Online) -> None:
    first, following = online.admin.audit(NAME, 3, None, {})
    rest, end = online.admin.audit(NAME, 100, following, {})
    assert (len(first), end) == (3, None)
    assert {facts.id for facts in [*first, *rest]} == {
        head_id("s", "a"), head_id("s", "b"), point_id("s", "a", 0), point_id("s", "a", 1), point_id("s", "b", 0),
    }  # fmt: skip
    assert {facts.vector_fault for facts in [*first, *rest]} == {""}
    of_a, _ = online.admin.audit(NAME, 100, None, {"source": "s", "key": "a"})
    assert sorted(str(facts.kind) for facts in of_a) == ["chunk", "chunk", "head"]


def test_a_point_is_removed_and_comes_back_by_applying_its_message_again(online: Online) -> None:
    lost = online.admin.point(NAME, point_id("s", "b", 0))
    assert lost is not None
    other = {**lost.payload, "version": lost.payload["version"] - 1}
    online.admin.remove_points(NAME, [StoredPoint(lost.id, other)])
    assert online.keys() == {"a", "b"}, "it was not what was looked at"
    online.admin.remove_points(NAME, [StoredPoint(lost.id, lost.payload)])
    assert online.keys() == {"a"}

    log = Log()
    messages = [log.append(Document("s", "a", TEXT)), log.append(Document("s", "b", "nine ten"))]
    done = online.admin.apply(NAME, [json_of_message(message) for message in messages])

    assert (done["documents"], done["dead_letters"], done["chunks_embedded"]) == (2, 0, 1)
    again = online.admin.point(NAME, lost.id)
    assert again is not None
    assert (again.payload, online.keys()) == (lost.payload, {"a", "b"})
    np.testing.assert_allclose(np.asarray(again.dense), np.asarray(lost.dense), atol=1e-6)


def test_a_collection_built_beside_takes_the_place_while_requests_wait(online: Online) -> None:
    online.fill(EdgeStore(online.store.folder / REBUILT), Document("s", "c", "nine ten"))
    failures: list[Exception] = []
    answers: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                with online.releases.using(NAME) as served:
                    answers.append(served.collection.count({"kind": "chunk"}))
            except Exception as error:  # noqa: BLE001 (whatever it is, it is a failed request)
                failures.append(error)
            time.sleep(0.001)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        online.admin.replace(NAME)
    finally:
        time.sleep(0.1)
        stop.set()
        asking.join()
    assert failures == []
    assert set(answers) == {3, 1}
    assert online.keys() == {"c"}
    consumer = online.service.consumer(NAME)
    assert consumer is not None
    assert consumer.is_running


def test_a_collection_that_cannot_be_opened_leaves_the_old_one_in_service(online: Online) -> None:
    online.fill(EdgeStore(online.store.folder / REBUILT), Document("s", "c", "nine ten"))
    online.refusal = SettingsError("the new one is refused")
    with pytest.raises(SettingsError, match="the new one is refused"):
        online.admin.replace(NAME)
    assert online.keys() == {"a", "b"}
    consumer = online.service.consumer(NAME)
    assert consumer is not None
    assert consumer.is_running


def test_nothing_takes_the_place_of_what_has_no_other(online: Online) -> None:
    with pytest.raises(Exception, match="replay --new"):
        online.admin.replace(NAME)
    assert online.keys() == {"a", "b"}
    with pytest.raises(SettingsError, match="not served"):
        online.admin.replace("documents_r00000000000f")


def test_a_collection_that_is_still_used_stays(online: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    online.fill(EdgeStore(online.store.folder / REBUILT), Document("s", "c", "nine ten"))
    from twinline.online import service

    monkeypatch.setattr(service, "_RETIRE_SECONDS", 0.2)
    with online.releases.using(NAME), pytest.raises(TransientError, match="still answers"):
        online.service.replace(NAME)
    assert online.keys() == {"a", "b"}
