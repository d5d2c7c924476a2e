"""The doors of words: what another release, another hand or another process made of them is refused, before it finds less."""

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from proofs.skew import faults_code, faults_release
from proofs.skew.faults import Fault
from proofs.skew.system import System
from streaming.indexer import Indexer
from tests.fixtures_streaming import NothingErased
from tests.unit.doors.conftest import Plant, Platform, edit
from tests.unit.doors.test_five_doors import Encoder, NoDeadLetters
from twinline.clients.release import open_release
from twinline.clients.store.vectors import VectorSpec
from twinline.contract.errors import MismatchError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.release.folder import ReleaseFolder
from twinline.contract.release.manifest import MANIFEST_FILE, Manifest, collection_name, hash_files, release_id
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.golden import GOLDEN_WORDS_FILE
from twinline.contract.sparse.statistics import STATISTICS_FILE, Statistics
from twinline.registry.fetch import open_release as verify_release
from twinline.search import opening
from twinline.search.query import answer_from
from twinline.search.results import Question


@pytest.fixture
def words(platform: Platform) -> Platform:
    """A release with words, and its collection."""
    return platform.with_words()


def open_for_search(platform: Platform) -> Any:
    return opening.open_served(platform.settings, platform.store, collection_name(platform.manifest.release))


def test_a_release_with_words_passes_all_doors(words: Platform) -> None:
    verify_release(words.settings.releases, words.manifest.release)
    served = open_for_search(words)
    release = replace(served.release, embedder=Encoder(words.manifest.space))
    assert (release.fusion, release.words is not None) == (Fusion(), True)
    Indexer(served.collection, release, NoDeadLetters(), NothingErased())
    for mode in ("hybrid", "dense", "words"):
        assert answer_from(replace(served, release=release), Question("the lease", mode=mode), LOCAL_OPERATOR).hits == []  # type: ignore[arg-type]


def test_words_make_another_release_of_the_same_space(platform: Platform, words: Platform) -> None:
    assert words.manifest.space == platform.manifest.space
    assert words.manifest.release != platform.manifest.release
    assert words.manifest.fingerprints.vector == platform.manifest.fingerprints.vector


def test_another_fusion_is_another_release(platform: Platform) -> None:
    manifest = platform.with_words(Fusion("ranks")).manifest
    identity = manifest.space, manifest.fingerprints.contract, manifest.serving, manifest.files, manifest.index
    assert manifest.release == release_id(*identity, Fusion("ranks"))
    assert len({release_id(*identity, fusion) for fusion in (None, Fusion(), Fusion("ranks"), Fusion("dense"))}) == 4


def statistics_of_another_corpus(platform: Platform) -> None:
    (platform.release / STATISTICS_FILE).write_bytes(Statistics.count([["lease"]] * 4).to_bytes())


def weigh_a_golden_word(platform: Platform) -> None:
    place = platform.release / GOLDEN_WORDS_FILE
    value = json.loads(place.read_bytes())
    next(entry for entry in value["golden"] if entry["document"])["document"][0][1] += 1
    place.write_text(json.dumps(value))


def repackage(platform: Platform, change: Plant) -> None:
    """Change files of the release, and let its manifest agree with them under an id of their own."""
    change(platform)
    manifest = Manifest.load(platform.release)
    files = hash_files(platform.release)
    new = release_id(manifest.space, manifest.fingerprints.contract, manifest.serving, files, manifest.index, manifest.fusion)
    replace(manifest, files=files, release=new).save(platform.release)


FOLDER: list[tuple[Plant, str]] = [
    (statistics_of_another_corpus, r"words\.safetensors has SHA-256 .* the contract says .*fetch the release again"),
    (lambda p: (p.release / STATISTICS_FILE).write_bytes(b"no tensors"), r"words\.safetensors has SHA-256"),
    (lambda p: (p.release / STATISTICS_FILE).unlink(), r"words\.safetensors is missing"),
    (weigh_a_golden_word, r"words\.json has SHA-256 .*its manifest says .*fetch the release again"),
    (lambda p: (p.release / GOLDEN_WORDS_FILE).unlink(), r"words\.json has SHA-256 none"),
    (lambda p: edit(p.release / GOLDEN_WORDS_FILE, {"schema": 2}), r"words\.json has SHA-256"),
    (lambda p: repackage(p, weigh_a_golden_word), "has the terms .* the release says"),
    (lambda p: repackage(p, lambda q: edit(q.release / GOLDEN_WORDS_FILE, {"schema": 2})), "schema is 2, this code reads 1"),
    (lambda p: edit(p.release / MANIFEST_FILE, {"fusion.rule": "ranks"}), "it was edited"),
    (lambda p: edit(p.release / MANIFEST_FILE, {"fusion.dense_percent": 51}), "it was edited"),
    (lambda p: edit(p.release / MANIFEST_FILE, {"fusion.rule": "magic"}), "fusion rule is 'magic'"),
    (lambda p: edit(p.release / MANIFEST_FILE, {"fusion.version": 1}), "it was edited"),
    (lambda p: edit(p.release / MANIFEST_FILE, {"fusion.version": 3}), "fusion version is 3, this code knows"),
    (lambda p: edit(p.release / MANIFEST_FILE, {"fusion": {"rule": "scores", "share": 3}}), "not a manifest of schema"),
    (lambda p: edit(p.release / MANIFEST_FILE, {"fusion": None}), "it was edited"),
    (lambda p: edit(p.release / "contract.json", {"index.sparse": None}), "its contract has fingerprint"),
    (lambda p: edit(p.release / "contract.json", {"index.sparse.language": "german"}), "its contract has fingerprint"),
    (lambda p: edit(p.release / "contract.json", {"index.sparse.k1_percent": 120}), "its contract has fingerprint"),
    (lambda p: edit(p.release / "contract.json", {"index.sparse.statistics_sha256": "0" * 64}), "its contract has fingerprint"),
    (lambda p: edit(p.release / "contract.json", {"index.sparse.analyzer": 2}), r"sparse analyzer is 2, this code knows \[1\]"),
    (lambda p: edit(p.release / "contract.json", {"index.sparse.language": "elvish"}), "sparse language is 'elvish'"),
]


@pytest.mark.parametrize(("plant", "message"), FOLDER)
def test_a_release_whose_words_are_not_its_own_is_not_opened(words: Platform, plant: Plant, message: str) -> None:
    plant(words)
    with pytest.raises(MismatchError, match=message):
        open_for_search(words)
    with pytest.raises(MismatchError, match=message):
        ReleaseFolder.load(words.release)


def test_words_in_the_contract_alone_or_in_the_manifest_alone_are_no_release(platform: Platform, words: Platform) -> None:
    for other, named in ((None, "contract"), (Fusion(), "manifest")):
        source = words if other is None else platform
        manifest = Manifest.load(source.release)
        identity = manifest.space, manifest.fingerprints.contract, manifest.serving, manifest.files, manifest.index
        replace(manifest, fusion=other, release=release_id(*identity, other)).save(source.release)
        with pytest.raises(MismatchError, match=f"its {named} has words, its .* has none"):
            ReleaseFolder.load(source.release)


def built_with(**vectors: Any) -> Plant:
    def plant(platform: Platform) -> None:
        info = platform.collection.info
        kept = {name: spec for name, spec in {**info.vectors, **vectors}.items() if spec is not None}
        platform.collection.info = replace(info, vectors=kept)

    return plant


@pytest.mark.parametrize(
    "plant",
    [
        built_with(words=None),
        built_with(words=None, terms=VectorSpec("sparse", None, "dot")),
        built_with(words=VectorSpec("dense", 4, "cosine")),
        built_with(other=VectorSpec("sparse", None, "dot")),
    ],
)
def test_a_collection_with_other_vectors_than_the_release_is_not_opened(words: Platform, plant: Plant) -> None:
    plant(words)
    with pytest.raises(MismatchError, match=r"has vectors .* needs .*build the collection of release"):
        open_for_search(words)


def test_a_collection_of_the_release_without_words_is_not_opened_with_words(platform: Platform, words: Platform) -> None:
    """And the other way round: the contracts differ, whatever the vectors are."""
    for own, other in ((platform, words.collection.info), (words, platform.collection.info)):
        own.collection.info = replace(other, release=own.manifest.release)
        with pytest.raises(MismatchError, match="has contract_fingerprint"):
            open_for_search(own)


RULES = [fault for fault in faults_code.FAULTS if fault.name.startswith("words_")]


@pytest.mark.parametrize("fault", RULES, ids=lambda fault: fault.name)
def test_a_process_with_another_rule_of_words_opens_no_release(words: Platform, fault: Fault) -> None:
    with fault.plant(cast(System, None)), pytest.raises(MismatchError, match=r"golden check of words|has the terms"):
        open_release(words.settings, words.manifest.release)
    open_release(words.settings, words.manifest.release)


class Places:
    """The system of planted faults, as far as a fault of a release folder needs it."""

    def __init__(self, platform: Platform) -> None:
        self.settings, self.a, self.encoder = platform.settings, platform.manifest, platform.encoder
        self.scratch = platform.folder / "scratch"
        self.scratch.mkdir()

    def release(self) -> Any:
        return self.settings.releases / self.a.release


FILES = [
    fault
    for fault in faults_release.FAULTS
    if any(part in fault.name for part in ("words", "fusion")) or fault.name == "repackaged_under_old_id"
]


@pytest.mark.parametrize("fault", FILES, ids=lambda fault: fault.name)
def test_a_planted_change_of_a_releases_words_is_found_with_its_files(words: Platform, fault: Fault) -> None:
    assert fault.expected == ("release files",)
    before = hash_files(words.release), (words.release / MANIFEST_FILE).read_bytes()
    with fault.plant(cast(System, Places(words))), pytest.raises(MismatchError) as refused:
        verify_release(words.settings.releases, words.manifest.release)
    if fault.name.startswith("repackaged") and "old_id" not in fault.name:
        assert "holds release" in str(refused.value), "whole, and another one"
    assert (hash_files(words.release), (words.release / MANIFEST_FILE).read_bytes()) == before
    verify_release(words.settings.releases, words.manifest.release)


def test_there_are_planted_changes_of_words() -> None:
    assert (len(RULES), len(FILES)) == (12, 13)
