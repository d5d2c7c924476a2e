"""Skew, measured on real parts: a base release served by Triton, its collection on Edge, its documents on a real broker."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.integration.conftest import Stack
from tests.integration.test_release import DOCUMENTS, Platform
from tests.integration.test_search import until
from twinline.clients.online import AdminClient
from twinline.clients.store.open import make_store
from twinline.clients.store.protocol import CollectionInfo
from twinline.clients.store.vectors import DENSE
from twinline.contract.documents.ids import point_id
from twinline.contract.release.manifest import Manifest, collection_name
from twinline.upkeep.skew.opening import measure_release

# Long enough for chunks that differ from the document.
LONG = " ".join(f"Paragraph {number} explains how bees make honey and why a hive needs a queen." for number in range(90))
HOPS = ["rules", "release files", "tokens", "words", "training framework", "onnx_fp32", "openvino_fp32", "triton tokenizer",
        "triton grpc", "triton http", "triton embed", "stored golden", "search", "query words", "fusion"]  # fmt: skip


@pytest.fixture(scope="module")
def platform(make_stack: Callable[[str], Stack], base_release: Path) -> Iterator[Platform]:
    stack = make_stack("skew")
    up = stack.run("up", "--no-scheduler")
    assert up.returncode == 0, up.stderr
    started = Platform(stack, base_release, base_release)
    nothing = stack.run("skew", "--json")
    assert nothing.returncode == 0, nothing.stderr
    assert "no release is active" in json.loads(nothing.stdout)["skipped"]
    for key, text in {**DOCUMENTS, "bees": LONG}.items():
        started.publish(key, text)
    done = started.release("deploy", str(base_release))
    assert done.returncode == 0, done.stderr
    yield started
    stack.run("down")


def test_a_fresh_release_agrees_at_every_hop(platform: Platform) -> None:
    report = measure_release(platform.stack.settings)
    assert report is not None
    assert (report.ok, report.broken_hop) == (True, None), report.sentence()
    assert [hop.name for hop in report.hops] == HOPS
    assert {hop.state for hop in report.hops} == {"ok"}
    assert sum(hop.other_ids for hop in report.hops) == 0
    assert max(hop.worst for hop in report.hops if hop.worst is not None) <= 1e-6
    sample = report.sample
    assert sample is not None
    assert (sample.compared, sample.expired, sample.moved) == (len(DOCUMENTS) + 1, 0, 0)
    assert sample.chunks > sample.compared
    assert sample.spans == sample.tokens == sample.vectors == sample.chunks
    assert sample.worst is not None
    assert sample.worst <= 1e-6


def test_the_command_says_so_in_a_table(platform: Platform) -> None:
    shown = platform.stack.run("skew", "--sample", "2")
    assert shown.returncode == 0, shown.stderr
    assert "no skew in release" in shown.stdout


def test_a_vector_that_was_changed_in_the_store_breaks_the_live_sample_and_nothing_else(platform: Platform) -> None:
    _roll_a_vector(platform)
    said = platform.stack.run("skew", "--json")
    assert said.returncode == 1
    assert "first at hop `live sample`: [test, glacier]: chunk 0" in said.stderr
    report = json.loads(said.stdout)
    assert (report["ok"], report["broken_hop"]) == (False, "live sample")
    assert {hop["state"] for hop in report["hops"]} == {"ok"}
    sample = report["sample"]
    assert (sample["spans"], sample["tokens"], sample["vectors"]) == (sample["chunks"], sample["chunks"], sample["chunks"] - 1)
    assert sample["worst_document"] == "[test, glacier]"


def test_what_is_away_is_named_and_is_no_skew(platform: Platform) -> None:
    platform.stack.run("down")
    said = platform.stack.run("skew")
    assert said.returncode == 2
    assert "could not be measured" in said.stderr


def _roll_a_vector(platform: Platform) -> None:
    """Overwrite one stored vector, as a wrong writer would: the process that owns the shard is stopped for that."""
    stack = platform.stack
    manifest = Manifest.load(platform.folders[0])
    assert stack.run("down").returncode == 0
    with closing(make_store(stack.settings).open(collection_name(manifest.release), CollectionInfo.of(manifest))) as collection:
        id_ = point_id("test", "glacier", 0)
        point = collection.read_points([id_], with_vectors=True)[id_]
        assert point.dense is not None
        collection.put_points([type(point)(id_, point.payload, {**point.vectors, DENSE: np.roll(point.dense, 1)})])
    up = stack.run("up", "--no-scheduler")
    assert up.returncode == 0, up.stderr
    with closing(AdminClient(stack.settings.admin_url)) as admin:
        until(lambda: admin.status().collection(collection_name(manifest.release)))
