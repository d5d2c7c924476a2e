"""The commands that keep an index right, on real parts: a broker, Triton, the online process and its store."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import CHECKOUT
from tests.integration.conftest import Stack
from twinline.clients.kafka.connect import committed_offsets, end_offsets
from twinline.clients.kafka.stretch import read_topic
from twinline.clients.online import AdminClient
from twinline.clients.store.protocol import StoredPoint
from twinline.contract.documents.ids import point_id
from twinline.contract.release.manifest import Manifest, collection_name, consumer_group

TEXTS = {
    "quinces": "The ferry Amaranth carries crates of quinces from pier nine to Saltholm every morning.",
    "glacier": "Measurements show that the glacier above the valley has lost a third of its length in forty years.",
    "sourdough": "A sourdough starter needs flour, water, warmth and patience before it raises a loaf of bread.",
    "ann": "Ann Example of 3 Harbour Lane keeps bees and sells heather honey on market days.",
}


class Kept:
    """A stack with one active release and four documents."""

    def __init__(self, stack: Stack, release: str) -> None:
        self.stack, self.release = stack, release
        self.collection = collection_name(release)

    def run(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run `twinline ARGUMENTS --json`; return the object on its last line."""
        done = self.stack.run(*arguments, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    def publish(self, *keys: str, code: int = 0) -> str:
        """Publish documents as a person does; return what the command says of it."""
        lines = "".join(json.dumps({"source": "test", "key": key, "title": key, "text": TEXTS[key]}) + "\n" for key in keys)
        command = [sys.executable, "-m", "twinline", "publish", "-", "--all"]
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env=self.stack.environment,
            input=lines,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def catch_up(self) -> None:
        """Wait until the consumer has committed all that the log has."""
        settings, group = self.stack.settings, consumer_group(self.release)
        ends = end_offsets(settings, settings.topic)
        for _ in range(300):
            committed = committed_offsets(settings, group, settings.topic)
            if all(committed.get(number, 0) >= end for number, end in ends.items()):
                return
            time.sleep(0.2)
        pytest.fail("the consumer does not catch up")

    def admin(self) -> Any:
        """Speak to the online process."""
        return closing(AdminClient(self.stack.settings.admin_url))

    def stored_keys(self) -> set[str]:
        """Return the keys that the collection has chunks of."""
        with self.admin() as admin:
            points, _ = admin.points(self.collection, kind="chunk", limit=1_000)
        return {str(point.payload["key"]) for point in points}


@pytest.fixture(scope="module")
def kept(make_stack: Callable[[str], Stack], base_release: Path, broker_variables: Mapping[str, str]) -> Iterator[Kept]:
    stack = make_stack("keeping").on_broker(broker_variables)
    up = stack.run("up", "--no-scheduler")
    assert up.returncode == 0, up.stderr
    made = Kept(stack, Manifest.load(base_release).release)
    deployed = stack.run("release", "deploy", str(base_release))
    assert deployed.returncode == 0, deployed.stderr
    made.publish(*TEXTS)
    made.catch_up()
    yield made
    stack.run("down")


def test_damage_is_found_repaired_and_gone(kept: Kept) -> None:
    healthy = kept.run("reconcile")
    assert (healthy["clean"], healthy["collections"][0]["after"]["documents"]) == (True, len(TEXTS))
    with kept.admin() as admin:
        lost = admin.point(kept.collection, point_id("test", "glacier", 0))
        assert lost is not None
        admin.remove_points(kept.collection, [StoredPoint(lost.id, lost.payload)])
    found = kept.run("reconcile", code=1)
    assert found["collections"][0]["before"]["counts"] == {"missing": 1}
    log_before = end_offsets(kept.stack.settings, kept.stack.settings.topic)

    repaired = kept.run("reconcile", "--repair")

    [one] = repaired["collections"]
    assert (one["before"]["counts"], one["repair"], one["after"]["clean"]) == ({"missing": 1}, {"removed": 0, "applied": 1}, True)
    assert end_offsets(kept.stack.settings, kept.stack.settings.topic) == log_before, "a repair published something"
    with kept.admin() as admin:
        again = admin.point(kept.collection, lost.id)
    assert again is not None
    assert again.payload == lost.payload


def test_a_stretch_of_the_log_is_applied_again(kept: Kept) -> None:
    with kept.admin() as admin:
        points, _ = admin.points(kept.collection, kind="chunk", key="quinces", limit=10)
        admin.remove_points(kept.collection, points)
    assert "quinces" not in kept.stored_keys()
    place = f"{points[0].payload['partition']}:{points[0].payload['offset']}"
    done = kept.run("replay", "--from-offset", place)
    assert done["release"] == kept.release
    assert "quinces" in kept.stored_keys()
    assert kept.run("reconcile")["clean"]
    assert kept.run("replay", "--from-time", "1h")["messages"] >= len(TEXTS)
    assert "write PARTITION:OFFSET" in kept.stack.run("replay", "--from-offset", "9:0").stderr


def test_a_collection_is_built_anew_and_takes_its_own_place_under_searches(kept: Kept) -> None:
    failures: list[str] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            done = kept.stack.run("search", "who keeps bees?", "--json")
            if done.returncode != 0 or not json.loads(done.stdout)["hits"]:
                failures.append(done.stderr or done.stdout)

    searching = threading.Thread(target=search)
    searching.start()
    try:
        done = kept.run("replay", "--new", "--embed-again")
    finally:
        stop.set()
        searching.join()
    assert done["counts"]["chunks_embedded"] >= len(TEXTS)
    assert failures == []
    kept.catch_up()
    assert kept.run("reconcile")["clean"]
    assert kept.stored_keys() == set(TEXTS)
    assert not (kept.stack.settings.store_folder / ".rebuilt").exists()
    partial = kept.stack.run("replay", "--new", "--from-offset", "0:1")
    assert (partial.returncode, "--partial" in partial.stderr) == (2, True)


def test_an_erased_document_is_gone_stays_out_and_has_a_receipt(kept: Kept, tmp_path: Path) -> None:
    settings = kept.stack.settings
    snapshot = subprocess.run(
        [sys.executable, "-m", "etl", "ingest", "--source", "kafka:", "--store"],
        cwd=CHECKOUT,
        env=kept.stack.environment,
        check=True,
        timeout=240,
        capture_output=True,
        text=True,
    )
    taken = json.loads(snapshot.stdout.splitlines()[-1])["snapshot"]

    receipt = kept.run("erase", "--document", "ann", "--source", "test", "--reason", "request 17", "--yes")

    assert receipt["complete"]
    assert kept.stored_keys() == set(TEXTS) - {"ann"}
    removed = receipt["removed"]
    assert [(one["collection"], one["removed"], one["left"]) for one in removed["collections"]] == [(kept.release, 1, 0)]
    assert removed["published_state"] == 1
    held = {holder["what"]: holder for holder in receipt["still_holds_it"]}
    assert f"snapshot {taken}" in held
    log = held[f"topic {settings.topic}"]
    assert len(log["messages"]) == 1
    assert "never by itself" in log["gone"]
    assert json.loads(Path(receipt["receipt"]).read_text())["document"] == receipt["document"]
    # Only the snapshots and the log may name it from here on.
    assert "ann" not in (settings.erasures / "list.json").read_text()
    # Publishing again is refused, also for whoever asks nobody; and it is not searched again after any of it.
    assert "refused, because they were erased" in kept.publish("ann", "quinces", code=1)
    kept.catch_up()
    assert kept.stored_keys() == set(TEXTS) - {"ann"}
    assert kept.run("reconcile")["clean"]
    # The same command again finishes what there is to finish, and removes nothing more.
    again = kept.run("erase", "--document", "ann", "--source", "test", "--yes")
    assert (again["removed"]["collections"][0]["removed"], again["number"]) == (0, 2)
    assert again["previous_sha256"] == receipt["sha256"]
    assert len(kept.run("erase", "--receipt", "--document", "ann", "--source", "test")["receipts"]) == 2
    # A collection that is built anew reads the old text in the log, and leaves it out.
    assert kept.run("replay", "--new")["counts"]["erased"] >= 1
    assert kept.stored_keys() == set(TEXTS) - {"ann"}
    # What a snapshot without it covers is expired, and then the log has nothing of it.
    kept.catch_up()
    later = subprocess.run(
        [sys.executable, "-m", "etl", "ingest", "--source", "kafka:", "--store"],
        cwd=CHECKOUT,
        env=kept.stack.environment,
        check=True,
        timeout=240,
        capture_output=True,
        text=True,
    )
    without = json.loads(later.stdout.splitlines()[-1])["snapshot"]
    kept.run("erase", "--expire-log", without, "--yes")
    assert not any(b"heather honey" in (record.value or b"") for record in read_topic(settings, settings.topic))
    compared = kept.run("reconcile")
    assert (compared["clean"], compared["collections"][0]["after"]["snapshot"]) == (True, without)
    # Lifted, it may come back.
    assert kept.run("erase", "--lift", "--document", "ann", "--source", "test", "--reason", "withdrawn")["act"] == "lift"
    kept.publish("ann")
    kept.catch_up()
    assert kept.stored_keys() == set(TEXTS)
