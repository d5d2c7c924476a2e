"""The parts that benches of speed are made of, each once and small, on real processes: that they measure the right work."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from bench.documents import read_documents
from bench.encoders import BARE, REFERENCE, candidates, running
from bench.first_index import measure_first_index
from bench.formats import measure_formats
from bench.growth import measure_growth
from bench.growth_stages import indexing_cost
from bench.in_process import InProcessEncoder
from bench.query import Clients, encoder_latency
from bench.stream import NaiveConsumer, StreamingPath, publish_all
from bench.system import Served, real_words
from bench.words_cost import disk_cost, rate_cost
from bench.workspace import Workspace
from tests.fixtures_triton import RunningTriton
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import CollectionInfo
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.contract.release.manifest import Manifest


@pytest.fixture
def system(base_release: Path, triton_server: RunningTriton, broker: str, tmp_path: Path) -> Served:
    """A bench's view of a stack: a broker, a Triton that serves the base release, and its folder."""
    release = Manifest.load(base_release).release
    shutil.copytree(base_release, tmp_path / "releases" / release)
    topic = f"documents-{uuid4().hex[:8]}"
    settings = Settings(home=tmp_path, kafka_bootstrap=broker, topic=topic, triton_grpc=triton_server.grpc)
    return Served(Workspace(tmp_path, {}), settings, release)


def test_encoders_that_are_compared_give_the_same_vectors(base_release: Path, tmp_path: Path) -> None:
    texts = [f"{document.title} {document.text}" for document in read_documents("pydocs", 6)]
    wanted = [one for one in candidates(base_release, ["fp32"], tmp_path) if not one.environment and "infinity" not in one.name]
    with running(wanted, texts, tmp_path) as (workers, skipped):
        assert skipped == {}
        names = {worker.name for worker in workers}
        assert {REFERENCE, BARE, "OpenVINO fp32, sorted"} <= names
        assert all(worker.turn().units == len(texts) for worker in workers)
        reference, *others = (worker.encode() for worker in workers)
    for vectors in others:
        np.testing.assert_allclose(vectors, reference, atol=1e-5)


def test_a_turn_of_the_whole_path_indexes_every_document_and_one_of_the_naive_consumer_as_many_as_asked_for(
    system: Served, tmp_path: Path
) -> None:
    documents = read_documents("pydocs", 16)
    publish_all(system.settings, documents)
    path = StreamingPath(system.settings, system.release, tmp_path / "collections", len(documents))
    first, second = path.turn(), path.turn()
    assert first.units == second.units > 0
    assert path.chunks >= len(documents)
    assert NaiveConsumer(system.settings, system.release, tmp_path / "collections", 3).turn().units == 3


def test_the_cost_of_words_is_measured_on_the_whole_path_and_on_disk(system: Served, tmp_path: Path) -> None:
    documents = read_documents("pydocs", 16)
    row = rate_cost(system, documents, tmp_path / "rate", 2)
    assert row["with_words"] > 0 < row["without_words"]
    assert row["lowest"] <= row["compared"] <= row["highest"]
    words = real_words(system, documents)
    assert len(words) >= len(documents)
    disk = disk_cost(tmp_path / "disk", CollectionInfo.of(system.manifest), words, 2_000)
    assert disk["with_words"] > disk["without_words"]


def test_the_encoder_in_process_is_the_one_that_is_served(system: Served) -> None:
    local = InProcessEncoder.load(system.settings.releases / system.release)
    with TritonEmbedder(system.settings.triton_grpc_address, system.release, system.manifest.space) as served:
        texts = ["a question", "a question that is somewhat longer than the one before"]
        for text in texts:
            here, there = local.embed([text], "query"), served.embed([text], "query")
            np.testing.assert_allclose(here.vectors, there.vectors, atol=1e-6)
            assert here.token_counts.tolist() == there.token_counts.tolist()
    rows = encoder_latency(system, 3)
    assert [row["encoder"] for row in rows][:2] == ["in process", "through Triton"]  # type: ignore[index,call-overload]
    assert Clients(system, 4, 8).turn().units == 8


def test_a_store_is_measured_at_each_size_and_opened_again(base_release: Path, tmp_path: Path) -> None:
    report = measure_growth(tmp_path, base_release, ["store"], most=3_000, rows=0, say=lambda _: None)
    rows = report["rows"]
    assert isinstance(rows, list)
    assert [row["chunks"] for row in rows] == [1_000, 3_000]
    assert all(row["disk_mib"] > 0 and row["query_p50_ms"] > 0 for row in rows)


def test_a_release_with_words_is_indexed_by_the_benches_of_copies_and_of_changes(base_release: Path, tmp_path: Path) -> None:
    first = measure_first_index(base_release, 50, 2)["contenders"]
    assert {row["chunks"] for row in first.values()} == {max(row["embedded"] for row in first.values())}
    changed = indexing_cost(tmp_path, base_release, 100)
    assert changed["chunks"] > 0 < changed["chunks_embedded_again"]  # type: ignore[operator]


def test_formats_are_compared_by_what_they_answer(tmp_path: Path) -> None:
    texts = [document.text for document in read_documents("pydocs", 12)]
    data = tmp_path / "little"
    (data / "qrels").mkdir(parents=True)
    write_lines(data / "corpus.jsonl", ({"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)))
    write_lines(data / "queries.jsonl", ({"_id": f"q{n}", "text": text.splitlines()[0]} for n, text in enumerate(texts)))
    judged = "".join(f"q{n}\td{n}\t1\n" for n in range(len(texts)))
    (data / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    report = measure_formats(data, tmp_path / "work", ["onnx_fp32", "openvino_fp32", "tensorrt_fp16"])
    rows = {row["format"]: row for row in report["rows"]}  # type: ignore[union-attr, index, call-overload]
    assert set(rows) == {"onnx_fp32", "openvino_fp32"}
    for row in rows.values():
        assert row["ndcg_at_10"] > 0.8
        assert (row["lost"], row["worst_distance"] < 1e-6) == (0.0, True)
        assert row["texts_per_second"] > 0
    assert [row["served"] for row in rows.values()].count("yes") == 1
    if shutil.which("nvidia-smi") is None:
        assert "tensorrt_fp16" in report["skipped"]  # type: ignore[operator]


def write_lines(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
