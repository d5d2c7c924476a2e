"""A release stays open for as long as a request uses it."""

import threading
from typing import Any

import pytest

from twinline.contract.errors import SettingsError, TransientError
from twinline.search.opening import release_of
from twinline.search.releases import NotServedError, Releases


def test_a_release_in_use_is_handed_back_only_when_the_request_ends(world: Any) -> None:
    order: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def request() -> None:
        with world.releases.active():
            inside.set()
            go_on.wait(5)
            order.append("request ended")

    thread = threading.Thread(target=request)
    thread.start()
    inside.wait(5)
    threading.Timer(0.05, go_on.set).start()
    removed = world.releases.remove("documents_r1")
    order.append("removed")
    thread.join()
    assert order == ["request ended", "removed"]
    assert removed is world.served["r1"]


def test_a_request_that_does_not_end_is_reported(world: Any) -> None:
    with world.releases.active(), pytest.raises(TransientError, match="documents_r1"):
        world.releases.remove("documents_r1", timeout_seconds=0.01)


def test_a_removed_release_answers_no_more(world: Any) -> None:
    world.releases.remove("documents_r1")
    with pytest.raises(NotServedError, match="documents_r1"), world.releases.active():
        pass


def test_a_release_activated_elsewhere_is_opened_once(world: Any) -> None:
    opened: list[str] = []

    def open_release(name: str) -> Any:
        opened.append(name)
        return world.served["r1"]

    releases = Releases(world.store, open_release)
    for _ in range(3):
        with releases.active() as served:
            assert served is world.served["r1"]
    assert opened == ["documents_r1"]


@pytest.mark.parametrize("name", ["documents", "documents_", "other_r1", "documents_../r1", "documents_r1/x"])
def test_only_names_of_release_collections_reach_the_file_system(name: str) -> None:
    with pytest.raises(SettingsError):
        release_of(name)


def test_whoever_asks_while_a_collection_is_exchanged_waits_and_gets_the_new_one(world: Any) -> None:
    old, held, got = world.served["r1"], threading.Event(), []

    def request() -> None:
        held.wait(5)
        with world.releases.using("documents_r1") as served:
            got.append(served)

    thread = threading.Thread(target=request)
    thread.start()
    with world.releases.held("documents_r1"):
        held.set()
        world.releases.remove("documents_r1")
        thread.join(0.05)
        assert got == []
        world.releases.add(world.served["r1"])
    thread.join(5)
    assert got == [old]
