"""A release is published on every server or on none; the model servers are fakes, the repositories are real folders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.unit.release.factories import make_release
from triton_models.names import embed_model
from twinline.contract.errors import ContractError, SettingsError, TransientError, TwinlineError
from twinline.contract.release.checks import Check, RefusedError
from twinline.contract.release.manifest import Manifest
from twinline.release import publish

RELEASE = "r1"


@dataclass
class FakeServer:
    """A server that remembers what it was told; `fails` is raised by the next load or unload of that name."""

    address: str
    repository: Path
    loaded: set[str] = field(default_factory=set)
    fails: dict[str, TwinlineError] = field(default_factory=dict)
    is_up: bool = True
    told: list[str] = field(default_factory=list)

    @property
    def control(self) -> "FakeServer":
        return self

    def ready(self, model: str = "") -> bool:
        return self.is_up and (not model or model in self.loaded)

    def load(self, model: str) -> None:
        self.told.append(f"load {model}")
        if "load" in self.fails:
            raise self.fails.pop("load")
        assert (self.repository / model).is_dir(), "loaded before it was written"
        self.loaded.add(model)

    def unload(self, model: str, *, with_members: bool = False) -> None:
        assert with_members
        self.told.append(f"unload {model}")
        if "unload" in self.fails:
            raise self.fails.pop("unload")
        self.loaded.discard(model)


@dataclass
class World:
    packaged: Path
    manifest: Manifest
    servers: list[FakeServer]
    written: list[Path]
    whole: bool = True

    @property
    def model(self) -> str:
        return f"embed_{self.manifest.release}"

    def publish(self, confirm: Callable[[str], Sequence[Check]] = lambda address: []) -> list[str]:
        return publish.publish(self.packaged, self.manifest, embed_model(self.manifest.release), self.servers, "cpu", confirm)


@pytest.fixture(params=["shared", "own"])
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> World:
    manifest = make_release(tmp_path / "packaged")
    folders = [tmp_path / ("models" if request.param == "shared" else name) / "models" for name in ("one", "two")]
    made = World(
        tmp_path / "packaged", manifest, [FakeServer(f"{n}:1", folder) for n, folder in zip("ab", folders, strict=True)], []
    )

    def write(folder: Path, repository: Path, device: str) -> None:
        made.written.append(repository)
        for part in ("tokenizer", "encoder", "embed"):
            (repository / f"{part}_{manifest.release}").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(publish, "write_models", write)

    def is_whole(release: str, repository: Path, device: str | None) -> bool:
        return made.whole and (repository / f"embed_{release}").is_dir()

    monkeypatch.setattr(publish, "is_whole", is_whole)
    return made


def everything_gone(world: World) -> bool:
    folders = {server.repository for server in world.servers}
    return not any(any(folder.glob("*_r*")) for folder in folders) and not any(server.loaded for server in world.servers)


def test_what_a_call_that_was_cut_short_had_written_is_loaded_as_it_lies(world: World) -> None:
    for server in world.servers:
        (server.repository / world.model).mkdir(parents=True, exist_ok=True)
    assert world.publish() == ["a:1", "b:1"]
    assert world.written == []


def test_every_server_loads_and_each_repository_is_written_once(world: World) -> None:
    assert world.publish() == ["a:1", "b:1"]
    assert all(world.model in server.loaded for server in world.servers)
    assert sorted(world.written) == sorted({server.repository for server in world.servers})
    # again: nothing to do
    world.written.clear()
    assert world.publish() == []
    assert world.written == []


@pytest.mark.parametrize("failure", [ContractError("a byte changed"), TransientError("gone")])
@pytest.mark.parametrize("which", [0, 1])
def test_one_that_cannot_load_leaves_the_others_as_they_were(world: World, failure: TwinlineError, which: int) -> None:
    world.servers[which].fails["load"] = failure
    with pytest.raises(type(failure), match=r"a byte changed|gone"):
        world.publish()
    assert everything_gone(world)
    # and repaired, the same call finishes
    assert world.publish() == ["a:1", "b:1"]


def test_one_that_answers_otherwise_is_named_and_nothing_stays(world: World) -> None:
    with pytest.raises(RefusedError, match=r"Triton at b:1 is refused.*0\.2 away.*of 2 servers"):
        world.publish(lambda address: [Check("golden query texts", address == "a:1", "0.2 away")])
    assert everything_gone(world)


def test_what_cannot_be_undone_is_said(world: World) -> None:
    world.servers[1].fails = {"load": ContractError("a byte changed"), "unload": TransientError("b:1 is away")}
    with pytest.raises(ContractError, match=r"a byte changed.*not undone: b:1 is away"):
        world.publish()
    assert not world.servers[0].loaded


def test_a_server_that_had_the_release_keeps_it_when_another_refuses(world: World) -> None:
    first, second = world.servers
    (first.repository / world.model).mkdir(parents=True)
    first.loaded.add(world.model)
    second.fails["load"] = ContractError("a byte changed")
    with pytest.raises(ContractError):
        world.publish()
    assert world.model in first.loaded
    assert (first.repository / world.model).is_dir()
    assert first.told == []


def test_the_files_of_a_loaded_release_are_written_again_only_when_they_are_damaged(world: World) -> None:
    first, second = world.servers
    first.loaded.add(world.model)
    (first.repository / world.model).mkdir(parents=True)
    world.publish()
    assert (first.repository in world.written) is (first.repository == second.repository and not world.whole)
    second.loaded.clear()
    world.whole = False
    world.written.clear()
    world.publish()
    assert world.written == [second.repository]


@pytest.mark.parametrize(
    ("up", "loaded", "error"),
    [
        ((True, True), (True, True), None),
        ((True, True), (True, False), SettingsError),
        # one that is away loads it as it starts
        ((True, False), (True, True), None),
        ((False, False), (True, True), TransientError),
    ],
)
def test_a_switch_asks_every_server_that_answers(
    world: World, up: Sequence[bool], loaded: Sequence[bool], error: type[TwinlineError] | None
) -> None:
    for server, is_up, has_it in zip(world.servers, up, loaded, strict=True):
        server.is_up = is_up
        server.loaded = {world.model} if has_it else set()
    if error is None:
        publish.require_everywhere(world.manifest.release, embed_model(world.manifest.release), world.servers)
    else:
        with pytest.raises(error, match="b:1"):
            publish.require_everywhere(world.manifest.release, embed_model(world.manifest.release), world.servers)
