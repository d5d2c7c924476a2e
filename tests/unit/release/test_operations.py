"""The acts on the active release, step by step: refused where they must be, and right whichever step a kill cut off."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.release.factories import FakeOnline, make_release
from twinline.clients.files import locked
from twinline.clients.online import OnlineStatus
from twinline.clients.settings import Settings
from twinline.clients.triton import fleet as triton_fleet
from twinline.contract.errors import ContractError, SettingsError, TransientError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.release.checks import Check, RefusedError
from twinline.contract.release.manifest import collection_name
from twinline.registry.versions import Registered
from twinline.release import commit, switch
from twinline.release.journal import Journal, who
from twinline.release.kinds import ENCODER
from twinline.release.operations import Operations
from twinline.release.verify.record import Verification, last_verification


class Killed(BaseException):
    """What no step catches."""


class Parts(FakeOnline):
    """Online process, Triton and registry in one, each act a step that can be the last."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = ""
        self.unloaded: set[str] = set()
        self.stage = ""
        self.messages: list[str] = []
        self.versions = {"a": 1, "b": 2}
        self.killed_before = ""
        self.consuming = True

    def step(self, name: str) -> None:
        if self.killed_before == name:
            raise Killed

    # the online process
    def status(self) -> OnlineStatus:
        found = super().status()
        listed = [replace(each, release=each.name.removeprefix("documents_")) for each in found.collections]
        return replace(found, collections=[replace(each, consumer_running=self.consuming) for each in listed])

    def activate(self, name: str) -> None:
        self.step("alias")
        super().activate(name)

    def retire(self, name: str) -> bool:
        self.step("drop")
        was_there = name in self.served
        self.served = [served for served in self.served if served != name]
        return was_there

    def close(self) -> None: ...

    # the registry
    def version_of(self, release: str) -> Registered | None:
        number = self.versions.get(release)
        stages = ("prod",) if release == self.stage else ()
        return Registered(number, "c", "", f"release {release}", stages) if number else None

    def assign(self, version: str, message: str) -> bool:
        release = next(name for name, number in self.versions.items() if version == f"v{number}.0.0")
        if release == self.stage:
            return False
        self.step("stage")
        self.stage = release
        self.messages.append(message)
        return True


class Models:
    """The model server: what `embed` was loaded as."""

    def __init__(self, parts: Parts, repository: Path) -> None:
        self._parts, self._repository = parts, repository

    def ready(self, model: str = "") -> bool:
        return bool(self._parts.embed) if model == "embed" else model not in self._parts.unloaded

    def unload(self, model: str, *, with_members: bool = False) -> None:
        self._parts.unloaded.add(model)

    def load(self, model: str) -> None:
        self._parts.step("load")
        config = (self._repository / "embed" / "config.pbtxt").read_text()
        self._parts.embed = config.split("encoder_")[1].split('"')[0]

    def space(self, model: str) -> str:
        return "space-1"

    def close(self) -> None: ...


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def releases(tmp_path: Path, settings: Settings, parts: Parts) -> tuple[str, str, str]:
    """Three fetched releases, all served; the first two are registered."""
    made = []
    for size in (8, 16, 32):
        manifest = make_release(tmp_path / f"packaged-{size}")
        serving = replace(manifest.serving, max_batch_size=size)
        name = replace(manifest, serving=serving).content_id
        folder = settings.releases / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"packaged-{size}").rename(folder)
        replace(manifest, release=name, serving=serving).save(folder)
        made.append(name)
    parts.served = [collection_name(name) for name in made]
    parts.versions = {made[0]: 1, made[1]: 2}
    return made[0], made[1], made[2]


@pytest.fixture
def operations(settings: Settings, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Operations:
    def point(release: str, repository: Path) -> str:
        parts.step("embed")
        (repository / "embed").mkdir(parents=True, exist_ok=True)
        (repository / "embed" / "config.pbtxt").write_text(f'model_name: "encoder_{release}"')
        return "embed"

    monkeypatch.setattr(commit, "AdminClient", lambda _: parts)
    monkeypatch.setattr(triton_fleet, "TritonControl", lambda _: Models(parts, settings.model_repository))
    monkeypatch.setattr(switch, "point_stable_model", point)
    by = who({"AIRFLOW_CTX_DAG_ID": "d", "AIRFLOW_CTX_DAG_RUN_ID": "r"})
    return Operations(ENCODER, settings, parts, LOCAL_OPERATOR.signing(by), lambda _: None)  # type: ignore[arg-type]


def kinds(settings: Settings) -> list[tuple[str, str]]:
    return [(entry.kind, entry.release) for entry in Journal(settings.release_state).read()]


def assert_whole(parts: Parts, settings: Settings, release: str) -> None:
    """All four say the same."""
    assert parts.active == collection_name(release)
    assert parts.embed == release
    assert parts.stage == release or release not in parts.versions
    assert Journal(settings.release_state).read()[-1].release == release


def test_a_promotion_is_signed_in_the_journal_and_in_the_tag(
    operations: Operations, parts: Parts, settings: Settings, releases: tuple[str, str, str]
) -> None:
    first, second, _ = releases
    assert operations.promote(first) == ""
    assert operations.promote(second) == first
    assert operations.promote(second) == ""
    assert_whole(parts, settings, second)
    journal = Journal(settings.release_state).read()
    assert [(entry.before, entry.release, entry.by) for entry in journal] == [
        ("", first, "airflow d r"),
        (first, second, "airflow d r"),
    ]
    assert parts.messages == [entry.line() for entry in journal]


@pytest.mark.parametrize("step", ["alias", "embed", "load", "stage"])
@pytest.mark.parametrize("act", ["promote", "rollback"])
def test_a_kill_between_any_two_steps_leaves_one_release_and_the_next_act_makes_it_whole(
    operations: Operations, parts: Parts, settings: Settings, releases: tuple[str, str, str], step: str, act: str
) -> None:
    first, second, _ = releases
    operations.promote(first)
    if act == "rollback":
        operations.promote(second)
    before, after = (first, second) if act == "promote" else (second, first)
    parts.killed_before = step
    with pytest.raises(Killed):
        operations.promote(second) if act == "promote" else operations.rollback()
    parts.killed_before = ""
    # search answers from one of the two, which is served
    stands = before if step == "alias" else after
    assert parts.active == collection_name(stands)
    operations.repair()
    assert_whole(parts, settings, stands)
    assert kinds(settings)[-1][1] == stands
    # what was cut short after the commit point is recorded as what it was
    if step != "alias":
        assert kinds(settings)[-1][0] == act
    assert operations.repair() == (stands, [])


@pytest.mark.parametrize("step", ["alias", "embed", "load", "stage"])
def test_a_roll_back_that_was_cut_short_and_is_repeated_goes_one_release_back_and_not_two(
    operations: Operations,
    parts: Parts,
    settings: Settings,
    releases: tuple[str, str, str],
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts.versions[releases[2]] = 3
    for release in releases:
        operations.promote(release)
    # by a person: nothing tells the repeat from another wish but that the first was not finished
    monkeypatch.setattr(operations, "_by", "ada@host")
    parts.killed_before = step
    with pytest.raises(Killed):
        operations.rollback()
    parts.killed_before = ""
    assert operations.rollback() == (releases[1], releases[2])
    assert_whole(parts, settings, releases[1])
    # and what is asked for again after that is another step
    assert operations.rollback() == (releases[0], releases[1])


def test_a_dag_run_that_is_tried_again_goes_back_once(
    operations: Operations, parts: Parts, settings: Settings, releases: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for release in releases:
        operations.promote(release)
    assert operations.rollback() == (releases[1], releases[2])
    assert operations.rollback() == (releases[1], releases[2])
    monkeypatch.setattr(operations, "_by", "airflow rollback_release another-run")
    assert operations.rollback() == (releases[0], releases[1])


def test_the_way_back_is_open_when_the_active_release_is_the_one_that_is_broken(
    operations: Operations, parts: Parts, settings: Settings, releases: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = releases
    operations.promote(first)
    operations.promote(second)
    # Triton has lost the model, and cannot load it again
    parts.embed = ""
    load = Models.load

    def cannot(self: Models, model: str) -> None:
        if f"encoder_{second}" in (settings.model_repository / "embed" / "config.pbtxt").read_text():
            raise ContractError("the file is damaged")
        load(self, model)

    monkeypatch.setattr(Models, "load", cannot)
    with pytest.raises(ContractError, match="damaged"):
        operations.repair()
    assert operations.rollback() == (first, second)
    assert_whole(parts, settings, first)


def test_a_line_that_was_not_written_after_the_switch_is_written_by_the_next_act(
    operations: Operations, parts: Parts, settings: Settings, releases: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = releases
    operations.promote(first)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        with pytest.raises(Killed):
            operations.promote(second)
    assert kinds(settings) == [("promote", first)]
    operations.promote(third)
    assert kinds(settings) == [("promote", first), ("promote", second), ("promote", third)]


def test_embed_of_the_same_space_is_not_taken_for_the_right_one(
    operations: Operations, parts: Parts, settings: Settings, releases: tuple[str, str, str]
) -> None:
    first, second, _ = releases
    operations.promote(first)
    parts.killed_before = "load"
    with pytest.raises(Killed):
        operations.promote(second)
    parts.killed_before = ""
    # its file names the second, and its answers are in the space of both
    assert parts.embed == first
    assert operations.repair()[1][0] == f"embed: stands for {second} at 127.0.0.1:18001"
    assert parts.embed == second


def test_a_change_behind_our_back_is_repaired_and_recorded(
    operations: Operations, parts: Parts, settings: Settings, releases: tuple[str, str, str]
) -> None:
    first, second, _ = releases
    operations.promote(first)
    parts.active = collection_name(second)
    assert operations.repair()[0] == second
    assert kinds(settings) == [("promote", first), ("repair", second)]
    assert_whole(parts, settings, second)


def test_a_release_that_no_version_holds_leaves_the_stage_where_it_is(
    operations: Operations, parts: Parts, releases: tuple[str, str, str]
) -> None:
    operations.promote(releases[0])
    operations.promote(releases[2])
    assert parts.stage == releases[0]


def test_a_roll_back_goes_to_the_one_before_and_again_further_back(
    operations: Operations, parts: Parts, settings: Settings, releases: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for release in releases:
        operations.promote(release)
    first, second, third = releases
    monkeypatch.setattr(operations, "_by", "ada@host")
    assert operations.rollback() == (second, third)
    assert operations.rollback() == (first, second)
    assert_whole(parts, settings, first)
    with pytest.raises(RefusedError, match="no release was active before"):
        operations.rollback()
    assert parts.active == collection_name(first)


def test_a_roll_back_to_a_release_by_name_must_have_been_active(
    operations: Operations, parts: Parts, releases: tuple[str, str, str]
) -> None:
    first, second, third = releases
    operations.promote(first)
    operations.promote(second)
    with pytest.raises(RefusedError, match=f"{third} was not active before this one.*still served: {first}"):
        operations.rollback(third)
    with pytest.raises(SettingsError, match="already"):
        operations.rollback(second)
    assert operations.rollback(first) == (first, second)


def test_a_roll_back_to_a_retired_release_is_refused_and_says_what_is_left(
    operations: Operations, parts: Parts, releases: tuple[str, str, str]
) -> None:
    for release in releases:
        operations.promote(release)
    operations.retire(releases[1], force=True)
    with pytest.raises(RefusedError, match=f"it was retired.*still served: {releases[0]}"):
        operations.rollback()
    assert parts.active == collection_name(releases[2])


def test_a_release_that_does_not_keep_up_is_not_promoted(
    operations: Operations, parts: Parts, releases: tuple[str, str, str]
) -> None:
    parts.consuming = False
    with pytest.raises(RefusedError, match="its consumer does not run"):
        operations.promote(releases[0])
    assert parts.active is None


def test_neither_the_active_release_nor_the_way_back_is_retired_by_mistake(
    operations: Operations, parts: Parts, releases: tuple[str, str, str]
) -> None:
    for release in releases[:2]:
        operations.promote(release)
    with pytest.raises(SettingsError, match="active one"):
        operations.retire(releases[1], force=True)
    with pytest.raises(RefusedError, match="no way back; --force"):
        operations.retire(releases[0])
    assert len(parts.served) == 3
    assert operations.retire(releases[0], force=True) is True
    assert operations.retire(releases[0], force=True) is False


def test_retiring_forgets_the_verification_so_that_a_new_collection_does_not_inherit_it(
    operations: Operations, parts: Parts, settings: Settings, releases: tuple[str, str, str]
) -> None:
    first, _, third = releases
    operations.promote(first)
    Verification.of(third, "ada", first, [Check("whole", True, "all there")]).save(settings.release_state)
    assert operations.verified(third) is not None
    parts.killed_before = "drop"
    with pytest.raises(Killed):
        operations.retire(third)
    assert last_verification(settings.release_state, third) is None
    parts.killed_before = ""
    assert operations.retire(third) is True


@pytest.mark.parametrize(
    ("against", "passed", "counts"),
    [
        ("active", True, True),
        # it was the active one itself
        ("itself", True, True),
        ("active", False, False),
        # another release has become active since: it was compared with the wrong one
        ("other", True, False),
    ],
)
def test_a_promotion_rests_on_a_verification_beside_the_release_that_is_active(
    operations: Operations, settings: Settings, releases: tuple[str, str, str], against: str, passed: bool, counts: bool
) -> None:
    first, second, third = releases
    operations.promote(first)
    beside = {"active": first, "itself": second, "other": third}[against]
    Verification.of(second, "ada", beside, [Check("whole", passed, "")]).save(settings.release_state)
    assert (operations.verified(second) is not None) is counts


def test_what_is_older_than_the_last_ones_is_retired_and_what_is_on_its_way_is_not(
    operations: Operations, parts: Parts, settings: Settings, releases: tuple[str, str, str]
) -> None:
    first, second, third = releases
    parts.served.append(collection_name("rbuilding"))
    parts.served.append(collection_name("rpassedover"))
    Verification.of("rpassedover", "ada", "", [Check("whole", False, "")]).save(settings.release_state)
    for release in releases:
        operations.promote(release)
    gone, left = operations.retire_older(keep=1)
    assert gone == [first, "rpassedover"]
    assert left == [second, third, "rbuilding"]
    assert operations.retire_older(keep=1) == ([], left)


def test_two_acts_at_once_wait_for_each_other_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    holds = "import sys, time; from pathlib import Path; from twinline.clients.files import locked\n"
    holds += "with locked(Path(sys.argv[1]), 1, 'ada'):\n    print('held', flush=True); time.sleep(60)"
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", holds, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(TransientError, match=f"process {holder.pid} of ada"), locked(lock, 0.3, "bob"):
                pass
        finally:
            holder.kill()
    with locked(lock, 0.3, "bob"):
        pass
