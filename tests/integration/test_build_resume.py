"""A builder killed with -9 in its snapshot, then in its log: the next one goes on from there, and nothing is lost."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest

from streaming.building import build as building
from streaming.building.build import build, find_inputs
from streaming.limits import ConsumerLimits
from tests.checkout import CHECKOUT
from tests.fixtures_streaming import GOLDEN, FakeEmbedder, info_of, preprocessor
from twinline.clients.kafka.connect import ensure_topics, kafka_errors, make_producer
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import Collection
from twinline.contract.documents.records import Deletion, Document, encode_key, encode_value, version_header
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.release.manifest import collection_name, consumer_group

__all__ = ["preprocessor"]

LIMITS = ConsumerLimits(max_messages=8, longest_wait_seconds=0.5, commit_interval_seconds=0.0)
ROWS, LATER = 120, 80


@dataclass
class Progress:
    """Counts what is handled, and kills this process at a place."""

    phase: str = ""
    kill_after: int = 0
    handled: int = 0
    already: int = 0
    seen: int = 0

    def enter(self, phase: str, already_done: int = 0) -> None:
        self.already += already_done
        if phase.split()[0] == self.phase:
            self.seen = 0

    def __call__(self, handled: int) -> None:
        self.handled += handled
        self.seen += handled
        if self.kill_after and self.seen >= self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)


def build_here(settings: Settings, own: Preprocessor, release: str, snapshot: str, progress: Progress) -> bool:
    # Every batch is noted: the places of the kills shall not depend on how quick this machine is.
    building._NOTE_SECONDS = 0.0
    store = EdgeStore(settings.store_folder)
    opened = Release(replace(info_of(own), release=release), own, FakeEmbedder(), GOLDEN)
    return build(opened, store, settings, LIMITS, find_inputs(settings, snapshot), Event(), progress) is not None


def killed_build(settings: Settings, folder: Path, release: str, snapshot: str, phase: str, kill_after: int) -> None:
    own = Preprocessor.load(folder)
    # A phase that an attempt before had finished is entered and passed; only then the kill is armed.
    progress = Progress(phase)

    def enter(name: str, already_done: int = 0) -> None:
        progress.kill_after = kill_after if name.split()[0] == phase else 0
        Progress.enter(progress, name, already_done)

    progress.enter = enter  # type: ignore[method-assign]
    build_here(settings, own, release, snapshot, progress)


def document(number: int, edition: int) -> Document:
    return Document("s", f"k{number}", f"document {number} edition {edition} one two three four five six seven", "t", edition)


@pytest.fixture
def settings(broker: str, tmp_path: Path) -> Settings:
    made = Settings(kafka_bootstrap=broker, topic=f"documents-{uuid4().hex[:8]}", home=tmp_path)
    ensure_topics(made)
    return made


def publish(settings: Settings, *items: Document | Deletion) -> None:
    producer = make_producer(settings)
    with kafka_errors(settings):
        for item in items:
            value = encode_value(item) if isinstance(item, Document) else None
            headers = version_header(item) if isinstance(item, Deletion) else []
            producer.send(settings.topic, key=encode_key(item.source, item.key), value=value, headers=headers)
        producer.flush()
    producer.close()


def test_two_kills_cost_no_document_and_no_second_start(settings: Settings, preprocessor: Preprocessor, tmp_path: Path) -> None:
    publish(settings, *(document(number, 1) for number in range(ROWS)), Deletion("s", "k3", 2))
    snapshot = take_snapshot(settings)
    publish(settings, *(document(number, 2) for number in range(40, 40 + LATER)), Deletion("s", "k50", 3))
    folder = tmp_path / "contract"
    folder.mkdir()
    preprocessor.contract.save(folder, preprocessor.tokenizer_json)
    release = f"r{uuid4().hex[:12]}"

    for phase, after in (("snapshot", 40), ("log", 24)):
        context = multiprocessing.get_context("spawn")
        builder = context.Process(target=killed_build, args=(settings, folder, release, snapshot, phase, after))
        builder.start()
        builder.join(120)
        assert builder.exitcode == -signal.SIGKILL, phase
        assert EdgeStore(settings.store_folder).names() == []
    # what arrives between the kill and the next attempt
    publish(settings, document(1_000, 1))

    progress = Progress()
    assert build_here(settings, preprocessor, release, snapshot, progress)
    total = ROWS + LATER + 2
    # All of the snapshot was done, and some of the log; and none of it is read twice.
    assert progress.already >= ROWS + 8
    assert progress.handled <= total - progress.already + 8

    whole, other = contents(settings, release), f"r{uuid4().hex[:12]}"
    assert build_here(settings, preprocessor, other, snapshot, Progress())
    assert whole == contents(settings, other)
    assert len(whole) > ROWS
    assert consumer_group(release) != consumer_group(other)


def contents(settings: Settings, release: str) -> dict[object, object]:
    """Return all that a collection holds, but for its release's name and what its builds noted."""
    store = EdgeStore(settings.store_folder)
    name = collection_name(release)
    collection: Collection = store.open(name, store.info(name))
    try:
        points, _ = collection.scroll(limit=10_000, with_vectors=True)
        assert collection.read_build()["log_began"] is True
    finally:
        collection.close()
    return {
        point.id: (
            {field: value for field, value in point.payload.items() if field != "release"},
            None if point.dense is None else point.dense.tobytes(),
        )
        for point in points
        if point.payload["kind"] != "build"
    }


def take_snapshot(settings: Settings) -> str:
    environment = {
        "PATH": "/usr/bin:/bin",
        "TWINLINE_HOME": str(settings.home),
        "KAFKA_BOOTSTRAP": settings.kafka_address,
        "TWINLINE_TOPIC": settings.topic,
    }
    command = [sys.executable, "-m", "etl", "ingest", "--source", f"kafka:{settings.topic}", "--store"]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, timeout=240, capture_output=True, text=True)
    return str(json.loads(done.stdout.splitlines()[-1])["snapshot"])
