"""A release that DVC trained in a copy of the checkout, traced to the commit, the snapshot and the pairs it was made from."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.integration.test_pipeline import copy_checkout, write_beir
from tests.unit.train.conftest import write_tiny_base
from twinline.clients.settings import Settings
from twinline.contract.artefacts import ENCODER
from twinline.registry.experiment import run_experiment, take_snapshot
from twinline.registry.fetch import fetch
from twinline.registry.remote import ensure_remote
from twinline.registry.versions import Registered, Registry
from twinline.upkeep.trace.forward import find_use
from twinline.upkeep.trace.reach import Reach
from twinline.upkeep.trace.release import contract_section, release_section
from twinline.upkeep.trace.steps import Step
from twinline.upkeep.trace.training import training_section

# The pipeline runs first.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reach, Registered]:
    """A registered and fetched release of an experiment on a small data set."""
    folder = tmp_path_factory.mktemp("trained")
    changes = {
        "encoder.base_model": str(write_tiny_base(folder / "base")),
        "encoder.contract.overlap_tokens": 4,
        "encoder.contract.title_max_tokens": 8,
        "encoder.train.max_steps": 2,
        "encoder.train.batch_size": 8,
        "encoder.train.mini_batch_size": 8,
        "encoder.evaluate.margin": 1.0,
        "encoder.evaluate.min_queries": 2,
        "encoder.evaluate.bootstrap_samples": 100,
        "encoder.export.formats": ["onnx_fp32"],
        "encoder.package.serve": ["onnx_fp32"],
    }
    checkout = copy_checkout(folder / "checkout", changes)
    home = folder / "home"
    environment = os.environ | {"PYTHONPATH": str(checkout), "AIRFLOW_CTX_DAG_RUN_ID": "scheduled__1"}
    ensure_remote(checkout, home)
    snapshot = take_snapshot(checkout, home, f"beir:{write_beir(folder / 'set')}", environment)
    revision = run_experiment(checkout, home, "first", {"snapshot": snapshot}, environment)
    settings = Settings(home=home)
    registry = Registry(checkout, ENCODER)
    entry = registry.register(revision, "traced")
    fetch(entry.version, settings.releases, registry)
    return Reach(settings, checkout, None, None), entry  # type: ignore[arg-type]  # no collection and no log are looked at


def by_name(steps: list[Step]) -> dict[str, Step]:
    return {step.what: step for step in steps}


def test_training_is_traced_to_commit_parameters_snapshot_and_pairs(trained: tuple[Reach, Registered]) -> None:
    reach, entry = trained
    release = Registry(reach.repository, ENCODER).release_of(entry)
    sections = [
        contract_section(reach, release, None),
        release_section(reach, release, None),
        training_section(reach, release),
    ]
    assert not [step for section in sections for step in section.steps if step.status in ("DIFFERS", "NOT HERE")]
    release_steps, steps = by_name(sections[1].steps), by_name(sections[2].steps)
    assert release_steps["version"].value == "v1.0.0"
    assert (steps["DVC experiment"].value, steps["Airflow run"].value) == ("first", "scheduled__1")
    assert entry.revision in steps["DVC experiment"].note
    assert steps["Git revision"].note == "copy"
    for name in ("parameters", "data/pairs/train.parquet", "data/snapshot in dvc.lock", "data/pairs in dvc.lock"):
        assert steps[name].status == "VERIFIED"
    # by the bytes themselves
    folder = reach.settings.snapshots / str(steps["snapshot"].value)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.parquet")}
    for name, digest in files.items():
        assert (steps[f"snapshot {name}"].value, steps[f"snapshot {name}"].status) == (digest, "VERIFIED")
    canonical = json.dumps(files, sort_keys=True, separators=(",", ":")).encode()
    assert folder.name == "s" + hashlib.sha256(canonical).hexdigest()[:12]


@pytest.mark.parametrize(("key", "words"), [("d3", "training pair"), ("d50", "held out in test"), ("nothing", "not in its data")])
def test_the_release_says_what_it_did_with_a_document(trained: tuple[Reach, Registered], key: str, words: str) -> None:
    reach, entry = trained
    release = Registry(reach.repository, ENCODER).release_of(entry)
    assert words in find_use(reach, release, entry, None, key).summary()


def test_a_release_that_was_not_fetched_is_asked_too(trained: tuple[Reach, Registered], tmp_path: Path) -> None:
    reach, entry = trained
    release = Registry(reach.repository, ENCODER).release_of(entry)
    elsewhere = Reach(Settings(home=tmp_path), reach.repository, reach.online, reach.read_message)
    use = find_use(elsewhere, release, entry, None, "d50")
    assert (dict(use.held_out), use.in_corpus) == ({"test": 1}, True)


def test_a_byte_of_the_snapshot_that_was_changed_is_found(trained: tuple[Reach, Registered]) -> None:
    reach, entry = trained
    release = Registry(reach.repository, ENCODER).release_of(entry)
    steps = by_name(training_section(reach, release).steps)
    place = reach.settings.snapshots / str(steps["snapshot"].value) / "documents-00000.parquet"
    content = place.read_bytes()
    place.chmod(0o644)
    place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        found = {step.what for step in training_section(reach, release).steps if step.status == "DIFFERS"}
    finally:
        place.write_bytes(content)
    assert found == {"snapshot", "snapshot documents-00000.parquet", "data/snapshot in dvc.lock"}
