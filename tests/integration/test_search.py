"""The online process as people run it: real broker, real Triton, real Edge store; documents in, hits with lineage out."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest

from bench.workspace import free_ports
from tests.checkout import CHECKOUT
from tests.fixtures_triton import RunningTriton
from triton_models.repository import write_models
from twinline.clients.kafka.connect import ensure_topics, make_producer
from twinline.clients.online import AdminClient
from twinline.clients.settings import Settings
from twinline.clients.triton.control import TritonControl
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.contract.documents.records import Deletion, Document, encode_key, encode_value
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import Contract
from twinline.contract.release.manifest import Fingerprints, Manifest, collection_name, hash_files, release_id

PATIENCE_SECONDS = 60
LONG = " ".join(f"Paragraph {number} explains how bees make honey and why a hive needs a queen." for number in range(120))
DOCUMENTS = [
    Document("notes", "cats", "Cats sleep for most of the day and hunt at dusk.", title="On cats", version=1),
    Document("notes", "bees", LONG, title="The beekeeper's handbook", version=1),
    Document("notes", "rust", "Iron rusts when water and oxygen meet its surface.", title="Corrosion", version=4, tenant="lab"),
    Document("wiki", "tea", "Green tea is steeped in water below boiling point.", title="Tea", metadata={"country": "Japan"}),
]


@dataclass(frozen=True)
class Place:
    """A home with a published release, and the addresses of everything in it."""

    settings: Settings
    release: str
    environment: dict[str, str]

    @property
    def collection(self) -> str:
        return collection_name(self.release)

    @property
    def admin(self) -> AdminClient:
        return AdminClient(self.settings.admin_url)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return httpx.get(self.settings.search_url + path, params=params, timeout=30, trust_env=False)

    def search(self, query: str, **fields: Any) -> dict[str, Any]:
        body = {"query": query, **fields}
        response = httpx.post(f"{self.settings.search_url}/v1/search", json=body, timeout=30, trust_env=False)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def keys(self, query: str, **fields: Any) -> list[str]:
        return [hit["key"] for hit in self.search(query, **fields)["hits"]]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=CHECKOUT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @contextmanager
    def online(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the online process; it must be up, and it is ended however the test ends."""
        with (self.settings.home / "online.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "twinline.online"],
                cwd=CHECKOUT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            until(lambda: answers(self.settings.search_url), process)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(timeout=25)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


def until(condition: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process is None or process.poll() is None, "the process has ended"
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.1)


def publish(settings: Settings, *items: Document | Deletion) -> None:
    producer = make_producer(settings)
    for item in items:
        value = encode_value(item) if isinstance(item, Document) else None
        headers = [("run_id", b"run-7")]
        if isinstance(item, Deletion):
            headers.append(("version", str(item.version).encode()))
        producer.send(settings.topic, key=encode_key(item.source, item.key), value=value, headers=headers).get(timeout=30)
    producer.close()


@pytest.fixture(scope="module")
def place(base_release: Path, triton_server: RunningTriton, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("search")
    release = Manifest.load(base_release).release
    shutil.copytree(base_release, home / "releases" / release)
    search_port, admin_port = free_ports(2)
    settings = Settings(
        home=home,
        kafka_bootstrap=broker,
        topic=f"documents-{uuid4().hex[:8]}",
        triton_grpc=triton_server.grpc,
        search_port=search_port,
        admin_port=admin_port,
    )
    environment = os.environ | {
        "TWINLINE_HOME": str(home),
        "KAFKA_BOOTSTRAP": broker,
        "TWINLINE_TOPIC": settings.topic,
        "TWINLINE_TRITON_GRPC": triton_server.grpc,
        "TWINLINE_SEARCH_PORT": str(search_port),
        "TWINLINE_ADMIN_PORT": str(admin_port),
    }
    ensure_topics(settings)
    publish(settings, *DOCUMENTS)
    return Place(settings, release, environment)


@pytest.fixture(scope="module")
def served(place: Place) -> Iterator[Place]:
    """The place with its collection built beside a running online process, handed over and activated."""
    with place.online():
        assert place.get("/v1/search", q="cats").json()["error"] == "no_active_release"
        built = place.run("streaming", "build", "--release", place.release)
        assert built.returncode == 0, built.stderr
        place.admin.serve(place.collection)
        place.admin.activate(place.collection)
        until(lambda: place.get("/readyz").is_success)
        yield place


def test_a_document_is_found_and_says_where_it_came_from(served: Place) -> None:
    answer = served.search("what do cats do at night")
    hit = answer["hits"][0]
    manifest = Manifest.load(served.settings.releases / served.release)
    assert (hit["source"], hit["key"], hit["title"], hit["version"]["number"]) == ("notes", "cats", "On cats", 1)
    assert hit["chunk"]["text"] == DOCUMENTS[0].text
    lineage = hit["lineage"]
    assert (lineage["release"], lineage["space"]) == (served.release, manifest.space) == (answer["release"], answer["space"])
    assert lineage["contract"] == manifest.fingerprints.contract
    assert lineage["ingest"]["run_id"] == "run-7"
    assert lineage["kafka"]["offset"] >= 0


def test_a_chunk_is_the_span_of_the_document_that_it_says(served: Place) -> None:
    [hit] = [hit for hit in served.search("honey and the queen of the hive")["hits"] if hit["key"] == "bees"]
    chunk = hit["chunk"]
    assert LONG[chunk["start"] : chunk["end"]] == chunk["text"] != LONG
    marked = {chunk["text"][start:end].casefold() for start, end in hit["highlights"]}
    assert {"honey", "queen", "hive"} >= marked > set()


def test_scores_are_those_of_vectors_compared_in_process(served: Place) -> None:
    """From the text to the score, nothing on the way may change what the encoder says."""
    folder = served.settings.releases / served.release
    preprocessor, manifest = Preprocessor.load(folder), Manifest.load(folder)
    with TritonEmbedder(served.settings.triton_grpc, served.release, manifest.space) as embedder:
        query = embedder.embed([preprocessor.query_text("hot drinks")], "query").vectors[0]
        expected = {
            document.key: max(
                float(np.dot(query, vector))
                for vector in embedder.embed([c.encoder_text for c in preprocessor.chunks(document)], "document").vectors
            )
            for document in DOCUMENTS
        }
    answer = served.search("hot drinks", exact=True, mode="dense")
    found = {hit["key"]: hit["dense"]["score"] for hit in answer["hits"] if hit["key"] in expected}
    assert found == pytest.approx(expected, abs=1e-4)


def test_only_documents_of_the_tenant_and_source_that_were_named_are_found(served: Place) -> None:
    assert served.keys("water", tenant="lab") == ["rust"]
    assert served.keys("water", source="wiki") == ["tea"]


def test_a_new_document_is_found_seconds_later_and_a_deleted_one_no_more(served: Place) -> None:
    began = time.monotonic()
    publish(served.settings, Document("notes", "comet", "A comet's tail points away from the sun.", version=1))
    until(lambda: served.keys("the tail of a comet")[0] == "comet")
    assert time.monotonic() - began < 30
    publish(served.settings, Deletion("notes", "comet", version=2))
    until(lambda: "comet" not in served.keys("the tail of a comet"))


def test_the_page_shows_the_hits(served: Place) -> None:
    page = served.get("/", q="why does iron rust").text
    assert "<mark>Iron</mark>" in page
    assert served.release in page


def test_the_command_prints_hits_for_people_and_for_programs(served: Place) -> None:
    for_people = served.run("twinline", "search", "steeping tea", "--limit", "1")
    assert for_people.returncode == 0
    assert "Tea" in for_people.stdout
    for_programs = served.run("twinline", "search", "steeping tea", "--limit", "1", "--json")
    assert [hit["key"] for hit in json.loads(for_programs.stdout)["hits"]] == ["tea"]


def test_the_admin_api_tells_what_is_stored(served: Place) -> None:
    head = served.admin.head(served.collection, "notes", "bees")
    assert head is not None
    points, _ = served.admin.points(served.collection, source="notes", key="bees", kind="chunk", with_vectors=True)
    assert len(points) == head.chunk_count > 1
    assert all(point.dense is not None and abs(np.linalg.norm(point.dense) - 1) < 1e-3 for point in points)
    # The broker is asked for the lag every few seconds.
    give_up = time.monotonic() + 20
    while (status := served.admin.status().collection(served.collection)) is None or status.lag != 0:
        assert time.monotonic() < give_up, status
        time.sleep(0.2)
    assert (status.documents, status.lag, status.faults) == (len(DOCUMENTS), 0, [])


def test_the_active_release_cannot_be_retired(served: Place) -> None:
    with pytest.raises(Exception, match="active"):
        served.admin.retire(served.collection)


def test_another_chunker_alone_embeds_no_unchanged_text_again(
    served: Place, base_release: Path, triton_server: RunningTriton
) -> None:
    other = release_with_other_chunker(base_release, served.settings.releases)
    *_, ensemble = write_models(served.settings.releases / other.release, triton_server.repository)
    with closing(TritonControl(triton_server.grpc)) as control:
        control.load(ensemble)
        built = served.run("streaming", "build", "--release", other.release)
        control.unload(ensemble, with_members=True)
    assert built.returncode == 0, built.stderr
    said = re.search(r"(\d+) chunks embedded, (\d+) kept their vectors, with (\w+) at hand", built.stdout)
    assert said, built.stdout + built.stderr
    assert said[3] == served.collection
    # the handbook is cut otherwise now, the short documents are as they were
    assert int(said[1]) > 0
    assert int(said[2]) >= 3


def release_with_other_chunker(release: Path, releases: Path) -> Manifest:
    """Copy a release as another one, equal but for the overlap of its chunks."""
    folder = releases / "other.partial"
    shutil.copytree(release, folder)
    contract, tokenizer_json = Contract.load(folder)
    chunker = replace(contract.index.chunker, overlap_tokens=contract.index.chunker.overlap_tokens // 2)
    contract = replace(contract, index=replace(contract.index, chunker=chunker))
    contract.save(folder, tokenizer_json)
    manifest, prints, files = Manifest.load(release), Fingerprints.of(contract), hash_files(folder)
    name = release_id(manifest.space, prints.contract, manifest.serving, files, manifest.index, manifest.fusion)
    made = replace(manifest, release=name, fingerprints=prints, files=files)
    made.save(folder)
    folder.rename(releases / name)
    return made


def test_a_second_process_says_who_has_the_port(served: Place) -> None:
    second = served.run("twinline.online")
    assert second.returncode != 0
    assert "TWINLINE_ADMIN_PORT" in second.stderr
    assert str(served.settings.admin_port) in second.stderr


@pytest.fixture
def elsewhere(served: Place, tmp_path: Path) -> Place:
    """A copy of the place with ports of its own, to end and start as a test likes; its consumer is the same group's."""
    search_port, admin_port = free_ports(2)
    home = tmp_path / "home"
    shutil.copytree(served.settings.releases, home / "releases")
    settings = served.settings.model_copy(update={"home": home, "search_port": search_port, "admin_port": admin_port})
    environment = served.environment | {
        "TWINLINE_HOME": str(home),
        "TWINLINE_SEARCH_PORT": str(search_port),
        "TWINLINE_ADMIN_PORT": str(admin_port),
        "TWINLINE_TOPIC": f"documents-{uuid4().hex[:8]}",
    }
    settings = settings.model_copy(update={"topic": environment["TWINLINE_TOPIC"]})
    ensure_topics(settings)
    publish(settings, *DOCUMENTS)
    made = Place(settings, served.release, environment)
    built = made.run("streaming", "build", "--release", made.release)
    assert built.returncode == 0, built.stderr
    return made


def test_what_was_activated_is_served_again_after_a_stop_and_after_a_kill(elsewhere: Place) -> None:
    with elsewhere.online() as process:
        until(lambda: elsewhere.admin.status().collection(elsewhere.collection))
        elsewhere.admin.activate(elsewhere.collection)
        process.terminate()
        assert process.wait(timeout=20) == 0
    with elsewhere.online() as process:
        until(lambda: elsewhere.get("/readyz").is_success)
        assert elsewhere.keys("cats")[0] == "cats"
        publish(elsewhere.settings, Document("notes", "comet", "A comet's tail points away from the sun.", version=1))
        until(lambda: elsewhere.keys("the tail of a comet")[0] == "comet")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with elsewhere.online():
        until(lambda: elsewhere.get("/readyz").is_success)
        assert elsewhere.keys("the tail of a comet")[0] == "comet"


def test_without_triton_the_process_runs_and_says_so(elsewhere: Place) -> None:
    (nobody,) = free_ports(1)
    without = Place(
        elsewhere.settings, elsewhere.release, elsewhere.environment | {"TWINLINE_TRITON_GRPC": f"127.0.0.1:{nobody}"}
    )
    (elsewhere.settings.store_folder / "active").write_text(elsewhere.collection)
    with without.online():
        until(lambda: without.admin.status().collection(without.collection))
        answer = without.get("/v1/search", q="cats")
        assert answer.status_code == 503
        assert str(nobody) in answer.json()["detail"]
        assert "retry-after" in answer.headers
        assert str(nobody) in without.get("/readyz").json()["missing"][0]
