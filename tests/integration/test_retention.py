"""The log expires what a snapshot covers: a collection that is built then is complete, and equal to the live one."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from streaming.building.build import build, find_inputs
from tests.checkout import CHECKOUT
from tests.fixtures_log import LIMITS, Keeping
from tests.fixtures_streaming import Counted, preprocessor
from twinline.clients.kafka.connect import beginning_offsets, kafka_errors, make_admin
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.upkeep.dead_letters.entries import read_entries

__all__ = ["preprocessor"]

ONE = "one two three four five six seven eight"
TWO = "nine ten eleven twelve thirteen fourteen fifteen sixteen"
_EXPIRES_SECONDS = 90.0


@pytest.fixture
def keeping(broker: str, broker_variables: Mapping[str, str], tmp_path: Path, preprocessor: Preprocessor) -> Iterator[Keeping]:
    # The least size of a segment of Apache Kafka is a mebibyte: there, a segment ends with its time.
    small = {"segment.bytes": "1048576", "segment.ms": "300"} if broker_variables else {"segment.bytes": "2000"}
    made = Keeping.start(broker, tmp_path, preprocessor, lambda settings: make_topic_that_expires(settings, small))
    yield made
    made.close()


def take_snapshot(keeping: Keeping) -> str:
    """Take a snapshot of the topic by the very command that a person or a DAG runs."""
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith("TWINLINE_KAFKA_")},
        "PATH": "/usr/bin:/bin",
        "TWINLINE_HOME": str(keeping.settings.home),
        "KAFKA_BOOTSTRAP": keeping.settings.kafka_address,
        "TWINLINE_TOPIC": keeping.settings.topic,
    }
    command = [sys.executable, "-m", "etl", "ingest", "--source", f"kafka:{keeping.settings.topic}", "--store"]
    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, timeout=240, capture_output=True)
    folders = [path.parent for path in keeping.settings.snapshots.glob("s*/snapshot.json")]
    return max(folders, key=lambda folder: folder.stat().st_mtime).name


def make_topic_that_expires(settings: Settings, small: Mapping[str, str]) -> None:
    """Make the topic as the platform does, but with small segments, of which the broker keeps a few."""
    configs = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "retention.bytes": "70000",
        **small,
    }
    admin = make_admin(settings)
    with closing(admin), kafka_errors(settings):
        admin.create_topics({settings.topic: {"num_partitions": 2, "replication_factor": 1, "configs": configs}})


def has_expired(settings: Settings) -> bool:
    """Say whether every partition has lost its beginning."""
    return all(begin > 0 for begin in beginning_offsets(settings, settings.topic).values())


def test_a_collection_built_after_retention_is_equal_to_the_live_one(keeping: Keeping) -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
    first = [Document("s", f"k{n}", " ".join(f"{word}{n}" for word in words), title=f"T{n}", tenant="t") for n in range(300)]
    keeping.publish(
        *first,
        Document("s", "v", ONE, version=5),
        Deletion("s", "k0"),
        Document("s", "k1", TWO),
        (b"poison", b"no json"),
    )
    keeping.consume()
    snapshot = take_snapshot(keeping)
    assert not has_expired(keeping.settings)
    # After the snapshot: changed, deleted, late, one more that is set aside; and new ones until the broker lets go of the old.
    keeping.publish(Document("s", "k2", TWO), Deletion("s", "k3"), Document("s", "v", TWO, version=4), (b"poison", b"nor this"))
    new, deadline = 0, time.monotonic() + _EXPIRES_SECONDS
    while not has_expired(keeping.settings):
        assert time.monotonic() < deadline, "the broker has expired nothing"
        texts = (" ".join(f"{word}{number}" for word in reversed(words)) for number in range(new, new + 20))
        keeping.publish(*(Document("s", f"new{new + n}", text, metadata={"n": n}) for n, text in enumerate(texts)))
        new += 20
        keeping.consume()

    beside = EdgeStore(keeping.settings.home / "beside")
    inputs = find_inputs(keeping.settings, snapshot)
    assert build(keeping.release, beside, keeping.settings, LIMITS, inputs, Event(), Counted())

    rebuilt = beside.open(keeping.release.collection_name, keeping.release.info)
    try:
        live, found = keeping.points(), keeping.points(rebuilt)
    finally:
        rebuilt.close()
    assert found.keys() == live.keys()
    for id_, point in live.items():
        assert said(found[id_].payload) == said(point.payload)
        if point.dense is not None:
            np.testing.assert_allclose(np.asarray(found[id_].dense), point.dense, atol=1e-6)
    assert found[head_id("s", "k0")].payload["deleted"]
    assert found[head_id("s", "k3")].payload["deleted"]
    # The dead letters are as they were: the build set nothing aside that was not, and lost none.
    assert {entry.reason for entry in read_entries(keeping.settings)} == {"invalid_json"}
    assert len(read_entries(keeping.settings)) == 2
    # Reconciliation finds the same by itself: it begins with the snapshot that covers what the log has lost.
    compared = keeping.compare()
    assert (compared.clean, compared.snapshot, compared.documents) == (True, snapshot, 301 + new)


def said(payload: object) -> dict[str, object]:
    """Return a payload without the producer's headers, of which a snapshot keeps only the content's hash."""
    assert isinstance(payload, dict)
    return {name: value for name, value in payload.items() if name != "headers"}
