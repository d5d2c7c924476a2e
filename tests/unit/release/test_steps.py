"""Each step of a release does its work once, and harmlessly again."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.unit.release.factories import FakeControl, FakeEmbedder, FakeOnline, make_release
from twinline.clients.run import INTERRUPTED
from twinline.contract.artefacts import ENCODER
from twinline.contract.errors import MismatchError, SettingsError, TransientError
from twinline.contract.release.checks import RefusedError, require_pass
from twinline.contract.release.manifest import Manifest
from twinline.registry.fetch import fetch, fetched_releases, open_release
from twinline.registry.versions import Registry
from twinline.release import build, publish, retire, switch
from twinline.release.commit import CollectionAlias


@pytest.fixture
def packaged(tmp_path: Path) -> Manifest:
    return make_release(tmp_path / "packaged")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "no-repository", ENCODER)


def test_fetching_a_folder_puts_it_under_its_id(tmp_path: Path, packaged: Manifest, registry: Registry) -> None:
    releases = tmp_path / "releases"
    assert fetch(str(tmp_path / "packaged"), releases, registry) == packaged
    assert fetched_releases(releases) == [packaged.release]
    assert (releases / packaged.release / "encoder" / "model.safetensors").read_bytes() == b"weights"


def test_a_whole_release_under_another_ones_name_is_refused(tmp_path: Path, packaged: Manifest, registry: Registry) -> None:
    releases = tmp_path / "releases"
    fetch(str(tmp_path / "packaged"), releases, registry)
    (releases / packaged.release).rename(releases / "r000000000000")
    with pytest.raises(MismatchError, match=f"holds release {packaged.release}: remove the folder"):
        open_release(releases, "r000000000000")


def test_fetching_twice_changes_nothing(tmp_path: Path, packaged: Manifest, registry: Registry) -> None:
    releases = tmp_path / "releases"
    fetch(str(tmp_path / "packaged"), releases, registry)
    before = (releases / packaged.release / "manifest.json").stat().st_mtime_ns
    fetch(str(tmp_path / "packaged"), releases, registry)
    fetch(packaged.release, releases, registry)
    assert (releases / packaged.release / "manifest.json").stat().st_mtime_ns == before
    assert [path.name for path in releases.iterdir()] == [packaged.release]


def test_a_changed_byte_is_refused_and_nothing_is_left_under_the_id(
    tmp_path: Path, packaged: Manifest, registry: Registry
) -> None:
    (tmp_path / "packaged" / "encoder" / "model.safetensors").write_bytes(b"weightS")
    with pytest.raises(MismatchError, match=r"model\.safetensors"):
        fetch(str(tmp_path / "packaged"), tmp_path / "releases", registry)
    assert fetched_releases(tmp_path / "releases") == []


def test_a_byte_that_changes_after_the_fetch_is_found_by_the_next_step(
    tmp_path: Path, packaged: Manifest, registry: Registry
) -> None:
    fetch(str(tmp_path / "packaged"), tmp_path / "releases", registry)
    (tmp_path / "releases" / packaged.release / "contract.json").write_text("{ }")
    with pytest.raises(MismatchError, match=r"contract\.json"):
        open_release(tmp_path / "releases", packaged.release)


def test_a_fetch_that_was_cut_short_is_no_release(tmp_path: Path, packaged: Manifest) -> None:
    releases = tmp_path / "releases"
    shutil.copytree(tmp_path / "packaged", releases / "v1-0-0.partial")
    assert fetched_releases(releases) == []
    with pytest.raises(SettingsError, match="fetch it first"):
        open_release(releases, packaged.release)


@pytest.mark.parametrize(
    ("embedder", "refused"),
    [
        (FakeEmbedder(), False),
        # the server gives another vector for one of the texts
        (FakeEmbedder(shifted="beta"), True),
        # or cuts them into other tokens
        (FakeEmbedder(extra_tokens=1), True),
    ],
)
def test_golden_texts_must_come_out_of_the_live_server_as_in_training(
    tmp_path: Path, packaged: Manifest, embedder: FakeEmbedder, refused: bool
) -> None:
    checks = publish.golden_checks(tmp_path / "packaged", packaged, embedder)
    assert [check.name for check in checks] == ["golden query texts", "golden document texts"]
    if refused:
        with pytest.raises(RefusedError, match="golden"):
            require_pass(checks, "release", "remedy")
    else:
        require_pass(checks, "release", "remedy")


def test_a_collection_that_is_served_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise AssertionError("a builder was started")

    monkeypatch.setattr(subprocess, "run", no_process)
    online = FakeOnline(served=["documents_r1"])
    assert build.build("r1", "", online, Path()) is False
    # asked again all the same: its consumer may have given up
    assert online.calls == ["serve documents_r1"]


@pytest.mark.parametrize(("exit_code", "served"), [(0, True), (1, False)])
def test_a_collection_is_handed_over_only_when_its_builder_came_to_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exit_code: int, served: bool
) -> None:
    commands: list[list[str]] = []
    places: list[tuple[Any, str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        places.append((options["cwd"], options["env"]["TWINLINE_PROJECT"]))
        return subprocess.CompletedProcess(command, exit_code)

    monkeypatch.setattr(subprocess, "run", run)
    online = FakeOnline()
    if served:
        assert build.build("r1", "s1", online, tmp_path) is True
    else:
        with pytest.raises(TransientError, match="documents_r1"):
            build.build("r1", "s1", online, tmp_path)
    assert commands[0][1:] == ["-m", "streaming", "build", "--release", "r1", "--snapshot", "s1"]
    assert places == [(tmp_path, str(tmp_path))]
    assert online.served == (["documents_r1"] if served else [])


@pytest.mark.parametrize(("ask", "more"), [(False, []), (True, ["--ask"])])
def test_a_builder_asks_only_when_it_is_told_to_and_a_no_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ask: bool, more: list[str]
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, INTERRUPTED)

    monkeypatch.setattr(subprocess, "run", run)
    online = FakeOnline()
    with pytest.raises(typer.Exit) as caught:
        build.build("r1", "", online, tmp_path, ask=ask)
    assert caught.value.exit_code == INTERRUPTED
    assert commands[0][1:] == ["-m", "streaming", "build", "--release", "r1", *more]
    assert online.served == []


def test_the_switch_says_what_was_active_and_does_nothing_the_second_time() -> None:
    online = FakeOnline(served=["documents_r1", "documents_r2"], active="documents_r1")
    assert switch.activate("r2", online) == "documents_r1"
    assert switch.activate("r2", online) is None
    assert online.calls == ["activate documents_r2"]


def test_the_way_back_is_the_same_call() -> None:
    online = FakeOnline(served=["documents_r1", "documents_r2"], active="documents_r2")
    assert switch.activate("r1", online) == "documents_r2"
    assert online.active == "documents_r1"


def test_a_collection_that_is_not_served_cannot_become_active() -> None:
    online = FakeOnline(served=["documents_r1"], active="documents_r1", refused={"documents_r2": "its encoder is away"})
    with pytest.raises(SettingsError, match="its encoder is away"):
        switch.activate("r2", online)
    assert online.active == "documents_r1"


class FakeModels(FakeControl):
    """A model server that can be told to unload."""

    def unload(self, model: str, *, with_members: bool = False) -> None:
        assert with_members
        self.loaded.remove(model)


class RetirableOnline(FakeOnline):
    """An online process that drops collections."""

    def retire(self, name: str) -> bool:
        self.calls.append(f"retire {name}")
        was_there = name in self.served
        self.served = [served for served in self.served if served != name]
        return was_there


def test_the_active_release_cannot_be_retired(tmp_path: Path) -> None:
    online = RetirableOnline(served=["documents_r1"], active="documents_r1")
    with pytest.raises(SettingsError, match="active"):
        retire.retire("r1", "embed_r1", tmp_path, CollectionAlias(online), FakeModels(["embed_r1"]))
    assert online.served == ["documents_r1"]


def test_a_release_is_retired_once_and_the_others_stay(tmp_path: Path) -> None:
    for release in ("r1", "r2"):
        for model in ("tokenizer", "encoder", "embed"):
            (tmp_path / "models" / f"{model}_{release}").mkdir(parents=True)
            (tmp_path / "models" / f"{model}_{release}" / "config.pbtxt").write_text("")
    online = RetirableOnline(served=["documents_r1", "documents_r2"], active="documents_r2")
    models = FakeModels(["embed_r1", "embed_r2"])
    assert retire.retire("r1", "embed_r1", tmp_path / "models", CollectionAlias(online), models) is True
    assert retire.retire("r1", "embed_r1", tmp_path / "models", CollectionAlias(online), models) is False
    assert (online.served, models.loaded) == (["documents_r2"], ["embed_r2"])
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["embed_r2", "encoder_r2", "tokenizer_r2"]


def test_a_release_that_the_stable_model_still_stands_for_is_not_retired(tmp_path: Path) -> None:
    (tmp_path / "embed").mkdir()
    (tmp_path / "embed" / "config.pbtxt").write_text('model_name: "encoder_r1"')
    online = RetirableOnline(served=["documents_r1", "documents_r2"], active="documents_r2")
    with pytest.raises(SettingsError, match="switch to r2 again"):
        retire.retire("r1", "embed_r1", tmp_path, CollectionAlias(online), FakeModels(["embed_r1"]))
