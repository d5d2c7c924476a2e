"""An answer traced back to its bytes, over a real broker, Triton and store; every hash computed again by the test itself."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, TopicPartition

from bench.workspace import free_ports
from tests.checkout import CHECKOUT
from tests.fixtures_triton import RunningTriton
from tests.integration.test_search import Place, until
from twinline.clients.kafka.connect import ensure_topics
from twinline.clients.settings import Settings
from twinline.contract.release.manifest import Manifest

FAQ = """id,title,text
warm,Warmth,How warm is it inside a hive? Bees keep it at about thirty-five degrees.
q#1/2,Odd,Keys may hold a hash sign.
"""


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of documents: Markdown, and a table of several."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "tea").mkdir()
    (folder / "tea" / "green #1.md").write_bytes(b"# Green tea\r\n\r\nGreen tea is steeped   below boiling point.\r\n")
    (folder / "faq.csv").write_text(FAQ)
    return folder


@pytest.fixture(scope="module")
def served(
    base_release: Path, triton_server: RunningTriton, broker: str, documents: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """The documents published by the command, indexed and searchable."""
    home = tmp_path_factory.mktemp("trace")
    release = Manifest.load(base_release).release
    shutil.copytree(base_release, home / "releases" / release)
    search_port, admin_port = free_ports(2)
    topic = f"documents-{uuid4().hex[:8]}"
    settings = Settings(
        home=home,
        kafka_bootstrap=broker,
        topic=topic,
        triton_grpc=triton_server.grpc,
        search_port=search_port,
        admin_port=admin_port,
    )
    environment = os.environ | {
        "TWINLINE_HOME": str(home),
        "KAFKA_BOOTSTRAP": broker,
        "TWINLINE_TOPIC": topic,
        "TWINLINE_TRITON_GRPC": triton_server.grpc,
        "TWINLINE_SEARCH_PORT": str(search_port),
        "TWINLINE_ADMIN_PORT": str(admin_port),
    }
    place = Place(settings, release, environment)
    ensure_topics(settings)
    published = place.run("twinline", "publish", "--source", f"notes=files:{documents}")
    assert published.returncode == 0, published.stderr
    with place.online():
        built = place.run("streaming", "build", "--release", release)
        assert built.returncode == 0, built.stderr
        place.admin.serve(place.collection)
        place.admin.activate(place.collection)
        until(lambda: place.get("/readyz").is_success)
        yield place


def trace(place: Place, *arguments: str, stdin: str = "") -> tuple[int, dict[str, Any]]:
    """Run `twinline trace` and return its exit code and its steps by section and name."""
    done = subprocess.run(
        [sys.executable, "-m", "twinline", "trace", *arguments, "--json"],
        cwd=CHECKOUT,
        env=place.environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    steps = json.loads(done.stdout)["steps"]
    return done.returncode, {f"{step['section']}: {step['what']}": step for step in steps}


def raw_message(place: Place, partition: int, offset: int) -> Any:
    consumer = KafkaConsumer(bootstrap_servers=place.settings.kafka_bootstrap, enable_auto_commit=False)
    at = TopicPartition(place.settings.topic, partition)
    consumer.assign([at])
    consumer.seek(at, offset)
    try:
        for _ in range(40):
            for record in consumer.poll(timeout_ms=500, max_records=1).get(at, []):
                assert record.offset == offset
                return record
    finally:
        consumer.close()
    raise AssertionError("the log does not have it")


def test_a_hit_leads_to_the_bytes_of_its_source_document(served: Place, documents: Path) -> None:
    searched = served.run("twinline", "search", "how is green tea made", "--limit", "1", "--json")
    hit = json.loads(searched.stdout)["hits"][0]

    code, steps = trace(served, "-", stdin=searched.stdout)

    assert code == 0, [step for step in steps.values() if step["status"] == "DIFFERS"]
    assert not [step for step in steps.values() if step["status"] == "DIFFERS"]
    # the source file, by its own bytes
    file = documents / "tea" / "green #1.md"
    assert steps["source: file"]["value"] == f"file://{file}"
    assert steps["source: file SHA-256"]["status"] == "VERIFIED"
    assert steps["source: file SHA-256"]["value"] == hashlib.sha256(file.read_bytes()).hexdigest()
    # the message, by its own bytes
    record = raw_message(served, hit["lineage"]["kafka"]["partition"], hit["lineage"]["kafka"]["offset"])
    assert steps["message: value SHA-256"]["value"] == hashlib.sha256(record.value).hexdigest()
    assert json.loads(record.key) == ["notes", "tea/green #1.md"]
    text = json.loads(record.value)["text"]
    assert text[hit["chunk"]["start"] : hit["chunk"]["end"]].startswith("Green tea")
    # the release, by its own files
    folder = served.settings.releases / served.release
    tokenizer = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    assert (steps["contract: tokenizer"]["value"], steps["contract: tokenizer"]["status"]) == (tokenizer, "VERIFIED")
    for name in ("chunk: span", "chunk: content hash", "contract: contract", "release: space", "message: content SHA-256"):
        assert steps[name]["status"] == "VERIFIED", steps[name]
    assert "base model" in steps["training: not trained here"]["value"]


def test_a_row_of_a_table_is_traced_by_its_key_or_by_its_points_id(served: Place) -> None:
    _, by_name = trace(served, "notes/q#1/2")
    point = by_name["point: id"]["value"]
    _, by_id = trace(served, point)
    _, by_parts = trace(served, "--source", "notes", "--key", "q#1/2", "--chunk", "0")

    assert by_name == by_id == by_parts
    assert (by_id["source: line"]["value"], by_id["source: file SHA-256"]["status"]) == (3, "VERIFIED")
    assert by_id["source: file SHA-256"]["value"] == hashlib.sha256(FAQ.encode()).hexdigest()


def test_a_document_is_followed_to_its_points(served: Place) -> None:
    code, steps = trace(served, "--document", "warm")

    assert code == 0
    assert steps[f"{served.collection}: chunk 0"]["status"] == "VERIFIED"
    assert steps[f"releases: {served.release}"]["value"] == "not trained here: a base model as it is"


def test_a_person_sees_a_tree(served: Place) -> None:
    done = served.run("twinline", "trace", "notes/warm")
    assert done.returncode == 0, done.stdout
    assert "VERIFIED" in done.stdout
    assert "faq.csv" in done.stdout


def test_a_file_that_was_edited_since_is_said_to_be(served: Place, documents: Path) -> None:
    (documents / "faq.csv").write_text(FAQ + "new,New,A new row.\n")
    code, steps = trace(served, "notes/warm")
    assert code == 0
    assert steps["source: file SHA-256"]["status"] == "NOT HERE"
    assert "changed since" in steps["source: file SHA-256"]["note"]
