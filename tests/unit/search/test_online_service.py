"""The online process's releases: served, activated, retired, and what happens when something is away."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from twinline.clients import online as admin_client
from twinline.clients.online import AdminClient
from twinline.contract.documents.ids import point_id
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.errors import ContractError, MismatchError, SettingsError, TransientError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.online.admin import build_admin
from twinline.online.consuming import ConsumerThread
from twinline.online.service import OnlineService
from twinline.search.releases import Releases


def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class FakeConsumer:
    """Fails as told, then runs until it is asked to stop."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.runs = 0
        self.drained = False
        self.embedder: Embedder | None = None
        self.is_busy = False
        self.state = SimpleNamespace(lag={0: 4, 1: 3}, last_error="", succeeded_at=None)

    def run(self, stop: threading.Event) -> None:
        self.runs += 1
        if self.failures:
            raise self.failures.pop(0)
        stop.wait()
        while self.is_busy:
            self.embedder.embed(["a batch without end"], "query")
            time.sleep(0.01)
        self.drained = True


class Online:
    """A service over a world of fakes, with an admin client that reaches it."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.consumer = FakeConsumer()
        self.opening: list[Exception] = []
        self.closed: list[str] = []
        world.store.names = lambda: [f"documents_{release}" for release in world.served]
        world.store.begun = list
        world.store.sweep = lambda: None
        world.store.activate = lambda name: setattr(world.store, "active_name", name)
        world.store.drop = lambda name: world.served.pop(name.removeprefix("documents_"))
        self.releases = Releases(world.store)

        def start_consumer(served: Any) -> ConsumerThread:
            return ConsumerThread(served.info.release, served.embedder, self.make)

        self.service = OnlineService(world.store, self.releases, self.open, start_consumer)
        app = TestClient(build_admin(self.service, principal=LOCAL_OPERATOR), base_url="http://127.0.0.1")

        def forward(request: httpx.Request) -> httpx.Response:
            headers = {"content-type": request.headers.get("content-type", "")}
            answer = app.request(request.method, str(request.url), content=request.content, headers=headers)
            return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)

        self.app = app
        self.admin = AdminClient("http://127.0.0.1", httpx.MockTransport(forward))

    def make(self, embedder: Embedder) -> FakeConsumer:
        self.consumer.embedder = embedder
        return self.consumer

    def open(self, name: str) -> Any:
        if self.opening:
            raise self.opening.pop(0)
        if name.removeprefix("documents_") not in self.world.served:
            raise SettingsError(f"there is no {name}")
        served = self.world.served[name.removeprefix("documents_")]
        served.collection.close = lambda: self.closed.append(name)
        return served


@pytest.fixture
def online(world: Any) -> Iterator[Online]:
    online = Online(world)
    yield online
    online.service.stop(2)


def test_what_the_store_has_is_served_from_the_start(online: Online) -> None:
    online.service.tend()
    status = online.admin.status()
    assert status.active == "documents_r1"
    [listed] = status.collections
    assert (listed.name, listed.active, listed.documents, listed.chunks, listed.lag) == ("documents_r1", True, 3, 3, 7)
    assert listed.consumer_running
    assert online.service.faults() == []


def test_a_dependency_that_is_away_at_the_start_is_waited_for(online: Online) -> None:
    online.opening = [TransientError("Triton is away", 0.05)]
    online.service.tend()
    assert online.service.faults() == ["collection `documents_r1`: Triton is away"]
    online.service.tend()  # not due yet
    assert online.releases.names() == []
    time.sleep(0.06)
    online.service.tend()
    assert online.releases.names() == ["documents_r1"]


def test_a_mismatch_keeps_that_release_out_and_says_why(online: Online) -> None:
    online.opening = [MismatchError("contract a is not contract b")]
    online.service.tend()
    online.service.tend()
    assert online.admin.status().refused == {"documents_r1": "contract a is not contract b"}
    assert "contract a is not contract b" in online.service.faults()[0]


def test_a_consumer_is_started_again_after_a_dependency_was_away(online: Online) -> None:
    online.consumer = FakeConsumer(TransientError("broker away", 0.01), TransientError("broker away", 0.01))
    online.service.tend()
    until(lambda: online.consumer.runs == 3)
    online.service.tend()
    assert online.service.faults() == ["release r1 is not being indexed: broker away"]  # until it has run for a while


def test_what_a_running_consumer_is_waiting_for_is_a_fault(online: Online) -> None:
    online.service.tend()
    until(lambda: online.consumer.runs == 1)
    online.consumer.state.last_error = "no Kafka answers"
    assert online.service.faults() == ["release r1 is not being indexed: no Kafka answers"]
    online.consumer.state.last_error = ""
    assert online.service.faults() == []


def test_a_consumer_that_cannot_go_on_leaves_search_running(online: Online) -> None:
    online.consumer = FakeConsumer(ContractError("another one took its place"))
    online.service.tend()
    until(online.service.faults)
    online.service.tend()
    assert "another one took its place" in online.service.faults()[0]
    assert online.releases.names() == ["documents_r1"]
    until(lambda: not online.service.consumer("documents_r1").is_running)  # type: ignore[union-attr]
    online.admin.serve("documents_r1")  # once the cause is gone
    until(lambda: online.consumer.runs == 2)


class MeasuredLag:
    """The broker's word, which goes on after a consumer has ended."""

    lag: int | None = 3_500
    notes: ClassVar = ["an open transaction of 'flink-7' holds partition 1 up"]
    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_consumer_that_gave_up_is_red_and_its_lag_is_the_brokers_word(online: Online) -> None:
    shown: list[bool] = []
    measured = MeasuredLag()
    partitions: list[Callable[[], Any]] = []

    def start_consumer(served: Any) -> ConsumerThread:
        def measure(own: Callable[[], Any]) -> MeasuredLag:
            partitions.append(own)
            return measured

        return ConsumerThread(served.info.release, served.embedder, online.make, measure, shown.append)

    online.consumer = FakeConsumer(ContractError("another one took its place"))
    online.service._start_consumer = start_consumer
    online.service.tend()
    until(lambda: shown == [True, False])
    until(online.service.faults)

    [listed] = online.admin.status().collections
    assert (listed.consumer_running, listed.lag, listed.notes) == (False, 3_500, measured.notes)
    assert listed.idle_seconds is not None
    [fault] = listed.faults
    assert "its consumer gave up" in fault
    assert "another one took its place" in fault
    # What is shown as a metric is the whole group's: nobody else shows it now.
    assert partitions[0]() == {}
    measured.lag = None
    assert online.admin.status().collections[0].lag is None
    online.service.stop(1)
    assert measured.closed


def test_a_busy_consumer_tells_when_it_last_succeeded(online: Online) -> None:
    online.service.tend()
    online.consumer.state.succeeded_at = time.time() - 64
    # Since this thread began at the latest.
    assert online.admin.status().collections[0].idle_seconds < 5
    online.service.consumer("documents_r1")._began_at -= 1_000  # type: ignore[union-attr]
    assert 63 < online.admin.status().collections[0].idle_seconds < 70
    online.consumer.state.succeeded_at = time.time()
    assert online.admin.status().collections[0].idle_seconds < 5


def test_a_bug_in_a_consumer_reaches_the_main_thread(online: Online) -> None:
    online.consumer = FakeConsumer(ZeroDivisionError("a bug"))

    def raised() -> bool:
        try:
            online.service.tend()
        except ZeroDivisionError:
            return True
        return False

    until(raised)


def test_a_release_is_served_then_activated_then_the_old_one_retired(online: Online) -> None:
    online.service.tend()
    online.world.release("r2")
    online.admin.serve("documents_r2")
    online.admin.serve("documents_r2")  # twice is harmless
    online.admin.activate("documents_r2")
    assert online.admin.retire("documents_r1") is True
    assert online.admin.retire("documents_r1") is False
    status = online.admin.status()
    assert (status.active, [listed.name for listed in status.collections]) == ("documents_r2", ["documents_r2"])
    assert online.consumer.drained
    assert online.closed == ["documents_r1"]


def test_the_active_release_is_not_retired(online: Online) -> None:
    online.service.tend()
    with pytest.raises(SettingsError, match="active"):
        online.admin.retire("documents_r1")
    assert online.releases.names() == ["documents_r1"]


def test_a_release_that_is_not_served_is_not_activated(online: Online) -> None:
    online.service.tend()
    with pytest.raises(SettingsError, match="serve it first"):
        online.admin.activate("documents_r9")
    assert online.world.store.active_name == "documents_r1"


def test_a_release_whose_encoder_does_not_answer_is_not_activated(online: Online, away: Exception) -> None:
    online.service.tend()
    online.world.release("r2").embedder.failure = away
    online.admin.serve("documents_r2")
    with pytest.raises(TransientError, match="18001"):
        online.admin.activate("documents_r2")
    assert online.world.store.active_name == "documents_r1"


def test_another_collection_than_the_active_one_can_be_asked(online: Online) -> None:
    online.service.tend()
    online.world.release("r2")
    online.world.add("r2", "only here", "cats everywhere")
    online.admin.serve("documents_r2")
    assert online.admin.search("documents_r2", "cats")["hits"][0]["key"] == "only here"


def test_points_are_read_by_their_ids_in_pieces(online: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_client, "MOST_POINTS", 2)
    online.service.tend()
    ids = [point_id("notes", key, 0) for key in ("cats", "nobody", "dogs", "fish")]
    found = online.admin.read_points("documents_r1", ids, with_vectors=True)
    stored = online.world.served["r1"].collection.points
    assert set(found) == {ids[0], ids[2], ids[3]}
    assert all(np.array_equal(point.dense, stored[id_].dense) for id_, point in found.items())
    assert online.admin.read_points("documents_r1", ids[:1])[ids[0]].dense is None


def test_golden_vectors_come_over_to_the_last_bit_and_broken_ones_too(online: Online) -> None:
    online.service.tend()
    stored = online.world.served["r1"].collection.read_golden()
    found = online.admin.golden("documents_r1")
    assert {name: vector.tobytes() for name, vector in found.items()} == {n: v.tobytes() for n, v in stored.items()}


def test_a_fault_keeps_its_kind_on_the_way_to_the_client(online: Online) -> None:
    for fault in (MismatchError("a is not b"), TransientError("away", 3), ContractError("refused")):
        online.opening = [fault]
        with pytest.raises(type(fault), match=str(fault)):
            online.admin.serve("documents_r1")


def test_nothing_on_the_admin_port_is_said_with_the_remedy() -> None:
    with pytest.raises(TransientError, match="twinline up"):
        AdminClient("http://127.0.0.1:9").status()


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}])
def test_a_page_in_a_browser_cannot_act(online: Online, headers: dict[str, str]) -> None:
    online.service.tend()
    assert online.app.post("/collections/documents_r1/retire", headers=headers).status_code in (400, 403)


def test_a_batch_that_takes_too_long_is_given_up_rather_than_killed(online: Online) -> None:
    online.consumer.is_busy = True
    online.service.tend()
    until(lambda: online.consumer.runs == 1)
    assert online.service.stop(0.5)
    assert not online.consumer.drained
    assert online.closed == ["documents_r1"]


def test_stopping_drains_every_consumer_and_closes_every_collection(online: Online) -> None:
    online.service.tend()
    assert online.service.stop(2)
    assert online.consumer.drained
    assert online.closed == ["documents_r1"]
