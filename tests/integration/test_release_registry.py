"""The registry on a real Git and DVC repository: experiments, versions, stages, and the files behind them."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twinline.contract.artefacts import ENCODER
from twinline.contract.errors import SettingsError, TwinlineError
from twinline.registry.experiment import PipelineFailedError, StageRefusedError, run_experiment
from twinline.registry.git import git
from twinline.registry.remote import ensure_remote
from twinline.registry.revisions import GitRevision, NotHereError
from twinline.registry.versions import Registry
from twinline.release.journal import Promotion
from twinline.upkeep.trace.git import folder_md5

# A pipeline of the shape of ours, without its work: a parameter decides what is in the release.
PIPELINE = """
stages:
  ingest:
    cmd: python stage.py ingest
    deps: [stage.py]
    params: [snapshot]
    outs: [data/snapshot]
  package:
    cmd: python stage.py package
    deps: [stage.py, data/snapshot]
    outs: [models/release]
    metrics: [models/evaluation.json]
artifacts:
  encoder: {path: models/release, type: model}
"""
STAGE = """
import json, pathlib, sys, time
with open("params.yaml") as file:
    snapshot = file.read().split(":", 1)[1].strip().strip("'\\"")
if snapshot == "broken":
    sys.exit("this snapshot is broken")
if sys.argv[1] == "package" and snapshot.startswith("error "):
    from twinline.clients import run
    from twinline.contract import errors
    from twinline.contract.release import checks

    def fail():
        raise eval(snapshot.removeprefix("error "))

    run.run("export", fail)
if sys.argv[1] == "ingest":
    pathlib.Path("data/snapshot").mkdir(parents=True)
    pathlib.Path("data/snapshot/id").write_text(snapshot)
else:
    pathlib.Path("models/release").mkdir(parents=True)
    pathlib.Path("models/release/manifest.json").write_text(json.dumps({"release": "r" + snapshot}))
    pathlib.Path("models/evaluation.json").write_text(json.dumps({"made_at": time.time_ns()}))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project of a user whom Git cannot name, with work that is not committed."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "stage.py").write_text(STAGE)
    (folder / "params.yaml").write_text("snapshot: ''\n")
    (folder / ".gitignore").write_text("/data\n/models\n")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-q", "-m", "start")
    (folder / "notes.txt").write_text("mine\n")
    ensure_remote(folder, tmp_path / "home")
    return folder


def run(project: Path, name: str, snapshot: str, *targets: str) -> str:
    return run_experiment(project, project.parent / "home", name, {"snapshot": snapshot}, targets=targets)


def state_of(project: Path) -> tuple[str, str, str]:
    """Return what an experiment must leave alone: branch, commit, and the workspace with its changes."""
    return git(project, "branch", "--show-current"), git(project, "rev-parse", "HEAD"), git(project, "status", "--porcelain")


def test_an_experiment_is_registered_and_its_files_come_back_without_the_cache(project: Path, tmp_path: Path) -> None:
    before = state_of(project)
    registry = Registry(project, ENCODER)
    commit = run(project, "first", "s1")
    entry = registry.register("first", "nDCG 0.7")
    assert (entry.version, entry.revision, entry.stages) == ("v1.0.0", commit, ())
    assert state_of(project) == before

    shutil.rmtree(project / ".dvc" / "cache")
    registry.revision("v1.0.0").download("models/release", tmp_path / "found")
    assert json.loads((tmp_path / "found" / "manifest.json").read_text()) == {"release": "rs1"}


def test_registering_again_is_the_same_version_and_another_release_the_next(project: Path) -> None:
    registry = Registry(project, ENCODER)
    run(project, "first", "s1")
    run(project, "same-data", "s1")
    run(project, "other-data", "s2")
    assert registry.register("first", "").version == "v1.0.0"
    assert registry.register("first", "").version == "v1.0.0"
    # another experiment that came to the very same release
    assert registry.register("same-data", "").version == "v1.0.0"
    assert registry.register("other-data", "").version == "v2.0.0"
    assert [registry.release_of(entry) for entry in registry.versions()] == ["rs2", "rs1"]


def test_a_stage_moves_from_version_to_version_and_back(project: Path) -> None:
    registry = Registry(project, ENCODER)
    for snapshot in ("s1", "s2"):
        registry.register(run(project, f"train-{snapshot}", snapshot), "")
    # as fast as they come: tags have times of whole seconds, and the youngest one counts
    moved = []
    for version in ("v1.0.0", "v2.0.0", "v2.0.0", "v1.0.0"):
        moved.append(registry.assign(version, f"to {version}"))
        assert registry.find("prod").version == version
    assert moved == [True, True, False, True]
    assert [(entry.version, entry.message) for entry in registry.assignments()] == [
        ("v1.0.0", "to v1.0.0"),
        ("v2.0.0", "to v2.0.0"),
        ("v1.0.0", "to v1.0.0"),
    ]


def test_any_version_is_fetched_on_another_machine_that_has_the_repository_and_the_remote(project: Path, tmp_path: Path) -> None:
    before = state_of(project)
    registry = Registry(project, ENCODER)
    promotion = Promotion("2026-05-01", "", "rs2", "promote", "ada@host")
    for snapshot in ("s1", "s2"):
        registry.register(run(project, f"train-{snapshot}", snapshot), "nDCG 0.7")
    registry.assign("v2.0.0", promotion.line())
    assert state_of(project) == before

    # the other machine: a clone, no cache, no working folder of the first, and the address of the remote
    elsewhere = tmp_path / "elsewhere"
    git(tmp_path, "clone", "-q", str(project), str(elsewhere))
    (tmp_path / "home" / "dvc-remote").rename(tmp_path / "bucket")
    project.rename(tmp_path / "gone")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "remote", "add", "-q", "--local", "-d", "team", str(tmp_path / "bucket")], cwd=elsewhere, check=True)
    for chosen, wanted in ((("--rev", "v1.0.0"), "rs1"), (("--rev", "v2.0.0"), "rs2"), (("--stage", "prod"), "rs2")):
        out = tmp_path / f"got-{chosen[1]}"
        command = [*dvc, "artifacts", "get", ".", "encoder", *chosen, "-o", str(out)]
        done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads((out / "manifest.json").read_text()) == {"release": wanted}
    # and who promoted it is known there too
    (assignment,) = Registry(elsewhere, ENCODER).assignments()
    assert Promotion.parse(assignment.message, "tag") == promotion
    assert json.loads(Registry(elsewhere, ENCODER).revision("v1.0.0").read_text("models/release/manifest.json")) == {
        "release": "rs1"
    }


def test_an_experiment_with_a_target_runs_what_leads_to_it_and_nothing_beside(project: Path) -> None:
    before = state_of(project)
    registry = Registry(project, ENCODER)
    whole, until_package = run(project, "whole", "s1"), run(project, "targeted", "s1", "package")
    found = [registry.revision(commit).read_text("models/release/manifest.json") for commit in (whole, until_package)]
    assert found[0] == found[1]
    ingested = registry.revision(run(project, "ingested", "s2", "ingest"))
    assert ingested.read_text("data/snapshot/id") == "s2"
    with pytest.raises(SettingsError, match=r"has no models/release/manifest\.json"):
        ingested.read_text("models/release/manifest.json")
    assert state_of(project) == before


def test_what_a_commit_holds_is_read_by_git_and_by_dvc_and_what_is_not_here_says_how_to_get_it(project: Path) -> None:
    revision = GitRevision(project, run(project, "first", "s1"))
    assert revision.tracked("params.yaml") == b"snapshot: s1\n"
    assert revision.json("models/release/manifest.json") == {"release": "rs1"}
    assert revision.held("data/snapshot") == ["id"]
    with revision.open("data/snapshot/id") as stream:
        assert stream.read() == b"s1"
    # the hash in dvc.lock is the one that is computed from the bytes
    assert revision.lock()["data/snapshot"] == folder_md5(revision.hashes("data/snapshot"))
    with pytest.raises(NotHereError, match="git fetch"):
        revision.tracked("data/snapshot/id")

    shutil.rmtree(project / ".dvc" / "cache")
    elsewhere = GitRevision(project, revision.name)
    for look in (elsewhere.held, elsewhere.hashes, elsewhere.open, elsewhere.json):
        with pytest.raises(NotHereError, match=f"dvc get . data/gone --rev {revision.name[:12]}"):
            look("data/gone")
    with pytest.raises(NotHereError, match="neither DVC's cache nor its remote has models/release/manifest"):
        elsewhere.json("models/release/manifest.json")


def test_a_name_used_again_gives_way_and_the_work_comes_from_the_cache(project: Path) -> None:
    registry = Registry(project, ENCODER)
    first = run(project, "nightly", "s1")
    registry.register(first, "")
    second = run(project, "nightly", "s1")
    made = [registry.revision(commit).read_text("models/evaluation.json") for commit in (first, second)]
    assert made[0] == made[1], "the stage ran a second time"
    assert registry.find("v1.0.0").revision == first


def test_a_stage_that_fails_leaves_no_experiment_and_what_is_registered_stays(project: Path) -> None:
    registry = Registry(project, ENCODER)
    registry.register(run(project, "good", "s1"), "")
    with pytest.raises(PipelineFailedError, match="bad"):
        run(project, "bad", "broken")
    with pytest.raises(SettingsError, match="no experiment or commit 'bad'"):
        registry.revision("bad")
    assert [entry.version for entry in registry.versions()] == ["v1.0.0"]


def test_two_experiments_at_once_do_not_disturb_each_other(project: Path) -> None:
    before = state_of(project)
    with ThreadPoolExecutor(2) as pool:
        commits = list(pool.map(lambda snapshot: run(project, f"at-once-{snapshot}", snapshot), ("s1", "s2")))
    registry = Registry(project, ENCODER)
    found = [json.loads(registry.revision(commit).read_text("models/release/manifest.json"))["release"] for commit in commits]
    assert found == ["rs1", "rs2"]
    assert state_of(project) == before


def test_the_remote_of_a_project_is_left_alone(project: Path, tmp_path: Path) -> None:
    local = project / ".dvc" / "config.local"
    assert str(tmp_path / "home" / "dvc-remote") in local.read_text()
    # another home is another folder
    assert ensure_remote(project, tmp_path / "elsewhere") == tmp_path / "elsewhere" / "dvc-remote"
    assert str(tmp_path / "elsewhere" / "dvc-remote") in local.read_text()
    local.unlink()
    with (project / ".dvc" / "config").open("a") as file:
        file.write("[core]\n    remote = team\n['remote \"team\"']\n    url = s3://bucket/dvc\n")
    assert ensure_remote(project, tmp_path / "home") is None
    assert not local.exists()


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        ("errors.SettingsError('no such format')", SettingsError),
        ("errors.ContractError('three pages are too few')", StageRefusedError),
        ("errors.DocumentError('no_text', 'nothing to read')", StageRefusedError),
        ("checks.RefusedError('worse than before')", StageRefusedError),
        # another try may help
        ("errors.TransientError('the hub is away')", PipelineFailedError),
        ("errors.MismatchError('another space')", PipelineFailedError),
        ("ValueError('a bug')", PipelineFailedError),
        ("MemoryError()", PipelineFailedError),
        ("ModuleNotFoundError('no torch', name='torch')", SettingsError),
    ],
)
def test_an_experiment_fails_as_its_stage_did_although_dvc_passes_no_code_on(
    project: Path, raised: str, kind: type[TwinlineError]
) -> None:
    with pytest.raises(TwinlineError) as failure:
        run(project, "fails", f"error {raised}")
    assert type(failure.value) is kind
    if kind is not PipelineFailedError:
        assert str(failure.value).startswith("experiment fails: stage command `export` ended with ")


def test_a_stage_that_failed_in_an_earlier_run_does_not_decide_about_the_next(project: Path) -> None:
    with pytest.raises(StageRefusedError):
        run(project, "first", "error errors.ContractError('three pages')")
    with pytest.raises(PipelineFailedError):
        run(project, "second", "broken")
