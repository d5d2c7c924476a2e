"""What differs between kinds of model is in one table, and the steps of an act are the same for any of them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.release.factories import FakeRevision, make_release, parity, quality, verdict
from twinline.clients.settings import Settings
from twinline.clients.triton import fleet as triton_fleet
from twinline.clients.triton.fleet import TritonFleet
from twinline.contract.artefacts import Artifact
from twinline.contract.errors import SettingsError
from twinline.contract.principal import LOCAL_OPERATOR, NotAllowedError, Principal
from twinline.contract.release.manifest import Manifest
from twinline.contract.release.verdict import EVALUATION_CHECKS
from twinline.registry.versions import Registered
from twinline.release.commit import CommitPoint, Standing
from twinline.release.journal import Journal, Promotion
from twinline.release.kinds import ENCODER, KINDS, Kind
from twinline.release.operations import Operations

OPERATOR = LOCAL_OPERATOR.signing("ada@host")


class Killed(BaseException):
    """What no step catches."""


class Pointer:
    """A commit point that is no collection: one name, and the releases that it may become."""

    def __init__(self, served: list[str]) -> None:
        self.active, self.served = "", served

    def standing(self) -> Standing:
        return Standing(self.active, tuple(self.served), {})

    def require_healthy(self, release: str) -> None: ...

    def switch(self, release: str) -> None:
        if release not in self.served:
            raise SettingsError(f"release {release} is not served")
        self.active = release

    def retire(self, release: str) -> bool:
        self.served = [each for each in self.served if each != release]
        return True


class World:
    """A second kind of model with its commit point, a follower and a registry, each in memory."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.pointer = Pointer([])
        self.followed = ""
        self.stage = ""
        self.asked_for: list[str] = []
        self.kill_follower = False
        self.kind = Kind(
            artifact=replace(ENCODER.artifact, name="reranker", release="models/reranker/release"),
            state="reranker",
            checks=("no nonsense",),
            serve=lambda release: f"rerank_{release}",
            prove=lambda address, folder, manifest: [],
            commit=self._commit,
            followers=(self._follow,),
        )
        self.artifact: Artifact = self.kind.artifact

    def operations(self, principal: Principal = OPERATOR) -> Operations:
        return Operations(self.kind, self.settings, self, principal, lambda _: None)  # type: ignore[arg-type]

    # the registry
    def version_of(self, release: str) -> Registered | None:
        return Registered(1, "c", "", f"release {release}", ("prod",) if release == self.stage else ())

    def assign(self, version: str, message: str) -> bool:
        release = json.loads(message)["release"]
        moved, self.stage = release != self.stage, release
        return moved

    @contextmanager
    def _commit(self, settings: Settings) -> Iterator[CommitPoint]:
        yield self.pointer

    def _follow(self, manifest: Manifest, fleet: TritonFleet, state: Path, say: Callable[[str], None]) -> list[str]:
        if self.kill_follower:
            raise Killed
        moved, self.followed = manifest.release != self.followed, manifest.release
        return [f"follower: {manifest.release}"] if moved else []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path / "home")

    class Control:
        def __init__(self, address: str) -> None: ...

        def ready(self, model: str = "") -> bool:
            world.asked_for.append(model)
            return True

        def unload(self, model: str, *, with_members: bool = False) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr(triton_fleet, "TritonControl", Control)
    for text in ("alpha", "beta"):
        made = make_release(tmp_path / text, (text,))
        world.settings.releases.mkdir(parents=True, exist_ok=True)
        (tmp_path / text).rename(world.settings.releases / made.release)
        world.pointer.served.append(made.release)
    return world


def test_every_kind_stands_under_the_name_that_the_registry_knows() -> None:
    assert KINDS == {"encoder": ENCODER}
    folders = [kind.state for kind in KINDS.values()]
    assert len(folders) == len(set(folders)), "two kinds would share a journal and a lock"


def test_the_encoder_finds_the_journal_of_a_home_from_before_there_were_kinds(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    line = '{"time": "2026-05-01", "before": "", "release": "r1", "kind": "promote", "by": "ada@host"}\n'
    (tmp_path / "release-state").mkdir()
    (tmp_path / "release-state" / "promotions.jsonl").write_text(line)
    assert Journal(ENCODER.state_folder(settings)).read() == [Promotion("2026-05-01", "", "r1", "promote", "ada@host")]


def test_another_kind_takes_the_same_steps_with_a_journal_and_a_lock_of_its_own(world: World) -> None:
    first, second = world.pointer.served
    operations = world.operations()
    assert (operations.promote(first), operations.promote(second)) == ("", first)
    assert (world.pointer.active, world.followed, world.stage) == (second, second, second)
    assert operations.rollback() == (first, second)
    # what a server must have loaded is this kind's model, and no other
    assert {model for model in world.asked_for if model} == {f"rerank_{first}", f"rerank_{second}"}
    state = world.settings.release_state
    assert [entry.kind for entry in Journal(state / "reranker").read()] == ["promote", "promote", "rollback"]
    assert sorted(path.name for path in state.iterdir()) == ["reranker"], "the encoder's files are not touched"
    assert (state / "reranker" / "lock").is_file()
    assert operations.retire(second) is True
    assert world.pointer.served == [first]


def test_a_kill_between_commit_and_follower_of_another_kind_is_repaired(world: World) -> None:
    first, second = world.pointer.served
    world.operations().promote(first)
    world.kill_follower = True
    with pytest.raises(Killed):
        world.operations().promote(second)
    world.kill_follower = False
    assert (world.pointer.active, world.followed, world.stage) == (second, first, first)
    assert world.operations().repair()[0] == second
    assert (world.pointer.active, world.followed, world.stage) == (second, second, second)
    journal = Journal(world.kind.state_folder(world.settings)).read()
    assert [(entry.kind, entry.release) for entry in journal] == [("promote", first), ("promote", second)]


def test_a_verdict_that_lacks_a_check_of_its_kind_is_refused(world: World) -> None:
    artifact = world.artifact
    files = FakeRevision({artifact.verdict: verdict(), artifact.parity: parity(), artifact.quality: quality()})
    assert all(check.passed for check in ENCODER.read_checks(files))
    failed = [check for check in world.kind.read_checks(files) if not check.passed]
    assert [(check.name, check.detail) for check in failed] == [("no nonsense", f"{artifact.verdict} does not say: train again")]
    assert not set(world.kind.checks) & set(EVALUATION_CHECKS)


def test_a_caller_without_the_right_to_release_gets_no_further(world: World) -> None:
    with pytest.raises(NotAllowedError, match="ann has no right to release"):
        world.operations(Principal("ann", frozenset({"search", "publish"})))
    # a release answers for every tenant, so that a part of them is not enough
    with pytest.raises(NotAllowedError, match="not for every tenant"):
        world.operations(Principal("bob", frozenset({"release"}), frozenset({"red"})))
    assert not world.settings.release_state.exists()
