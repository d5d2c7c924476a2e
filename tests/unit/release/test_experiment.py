"""What is handed to DVC and Git arrives as it was meant."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twinline.clients.run import FAILURE_VARIABLE, ended, exit_code
from twinline.commands.train import parse_overrides
from twinline.contract.artefacts import ENCODER
from twinline.contract.errors import SettingsError, TooSmallError, TwinlineError
from twinline.registry.experiment import (
    EXPERIMENTS,
    PipelineFailedError,
    StageRefusedError,
    absolute_source,
    experiment_command,
    hydra_literal,
    pipeline_environment,
    pipeline_failure,
    sweep_leftovers,
)
from twinline.registry.git import identity
from twinline.upkeep.training.experiment import default_name, experiment_name


@pytest.mark.parametrize(
    "value",
    [
        "pydocs:",
        "beir:/data/a folder, with {braces} and [brackets]",
        'a "quoted" word',
        "it's",
        "back\\slash",
        "ends with a backslash\\",
        'a backslash before a quote \\"',
        "${train.max_steps}",
        "null",
        "17",
        "",
    ],
)
def test_a_text_stays_the_same_text_through_hydra(value: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(f"source={hydra_literal(value)}").value() == value


@pytest.mark.parametrize("value", [17, 2.5, None, True])
def test_a_number_stays_a_number_through_hydra(value: int | float | None) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(f"k={hydra_literal(value)}").value() == value


def test_a_local_source_becomes_absolute_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    assert absolute_source("files:docs", tmp_path) == f"files:{tmp_path}/docs"
    assert absolute_source("beir:./docs", tmp_path) == f"beir:{tmp_path}/docs"
    for elsewhere in ("pydocs:", "files:s3://bucket/docs", "kafka:", "", "kb=files:s3://bucket/docs", "kb=pydocs:", "files:"):
        assert absolute_source(elsewhere, tmp_path) == elsewhere


# (as typed, name and kind, path below the folder): a chosen name changes nothing about the path
@pytest.mark.parametrize(
    ("source", "kind", "path"),
    [
        ("docs=files:docs", "docs=files", "docs"),
        ("kb=files:./docs/", "kb=files", "docs"),
        ("kb=beir:docs/../docs", "kb=beir", "docs"),
        ("files:a=b", "files", "a=b"),
        ("kb=files:a=b", "kb=files", "a=b"),
        ("files:my docs", "files", "my docs"),
        ("files:link", "files", "link"),
    ],
)
def test_a_source_with_a_name_becomes_absolute_like_one_without(tmp_path: Path, source: str, kind: str, path: str) -> None:
    for folder in ("docs", "a=b", "my docs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "docs")

    assert absolute_source(source, tmp_path) == f"{kind}:{tmp_path}/{path}"
    assert absolute_source(f"{kind}:{tmp_path}/{path}", Path("/elsewhere")) == f"{kind}:{tmp_path}/{path}"


@pytest.mark.parametrize("source", ["docs", "my docs=files:docs", "ftp:docs", "kb=docs"])
def test_a_text_that_is_no_source_is_refused_before_anything_runs(tmp_path: Path, source: str) -> None:
    with pytest.raises(SettingsError, match=source):
        absolute_source(source, tmp_path)


def test_a_source_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path) -> None:
    for nowhere in ("files:nowhere", "kb=files:nowhere", f"files:{'x' * 5000}"):
        with pytest.raises(SettingsError, match="does not exist"):
            absolute_source(nowhere, tmp_path)


def test_a_run_id_of_a_scheduler_becomes_a_name_that_git_takes() -> None:
    name = experiment_name("asset_triggered__2026-11-22T10:35:04.928268+00:00_fEdoEaVj")
    assert name == "asset_triggered__2026-11-22T10-35-04-928268-00-00_fEdoEaVj"
    subprocess.run(["git", "check-ref-format", f"refs/exps/aa/bb/{name}"], check=True)


def test_a_name_is_made_of_source_and_time() -> None:
    assert default_name("beir:/data/scifact", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "beir-data-scifact-20260102-030405"


def test_overrides_keep_their_types() -> None:
    pairs = ["train.max_steps=3", "train.learning_rate=5e-5", "train.max_tokens=null", "evaluate.look_at_test=true", "source=x=y"]
    assert list(parse_overrides(pairs).values()) == [3, 5e-5, None, True, "x=y"]
    with pytest.raises(SettingsError, match=r"section\.name=value"):
        parse_overrides(["train.max_steps"])


def test_an_experiment_runs_in_a_folder_of_its_own_and_ends_with_the_stages_that_it_is_for() -> None:
    command = experiment_command("nightly", {"snapshot": "s1", "encoder.train.max_steps": 3}, ENCODER.targets)
    assert command[1:] == [
        *("-m", "dvc", "exp", "run", "--temp", "--name", "nightly"),
        *("--set-param", 'snapshot="s1"', "--set-param", "encoder.train.max_steps=3"),
        "encoder-package",
    ]
    assert experiment_command("nightly", {})[-2:] == ["--name", "nightly"], "without targets it is all of the pipeline"


def test_stages_find_our_interpreter_an_absolute_home_and_an_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _without_identity(tmp_path, monkeypatch)
    found = pipeline_environment(tmp_path, Path("var"), {"PATH": "/usr/bin"})
    assert found["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert found["TWINLINE_HOME"] == str(tmp_path / "var")
    assert found["GIT_COMMITTER_EMAIL"] == "twinline@localhost"


def test_a_project_that_is_named_does_not_reach_the_copy_that_stages_run_in(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    found = pipeline_environment(tmp_path, tmp_path / "var", {"PATH": "/usr/bin", "TWINLINE_PROJECT": str(tmp_path)})
    assert "TWINLINE_PROJECT" not in found


def test_the_users_identity_wins_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_identity(tmp_path, monkeypatch)
    subprocess.run(["git", "config", "user.name", "Ada"], cwd=tmp_path, check=True)
    subprocess.run(["git", "config", "user.email", "ada@example.org"], cwd=tmp_path, check=True)
    assert identity(tmp_path) == ("Ada", "ada@example.org")


def test_leftovers_of_killed_runs_go_and_those_of_running_ones_stay(tmp_path: Path) -> None:
    abandoned, used, young = (tmp_path / EXPERIMENTS / name for name in ("tmpabandoned", "tmpused", "tmpyoung"))
    for folder in (abandoned, used, young):
        folder.mkdir(parents=True)
    later = time.time() + 3_600
    os.utime(young, (later, later))
    with subprocess.Popen(["sleep", "60"], cwd=used) as running:
        try:
            assert sweep_leftovers(tmp_path, now=later) == [abandoned]
        finally:
            running.kill()
    assert sorted(path.name for path in (tmp_path / EXPERIMENTS).iterdir()) == ["tmpused", "tmpyoung"]


def _without_identity(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


@pytest.mark.parametrize(
    ("told", "kind", "code", "said"),
    [
        # what a stage says of its own error; what the run ends with
        ({"command": "etl", "error": "TooSmallError", "code": 3, "message": "no pair"}, TooSmallError, 3, r"^no pair$"),
        ({"command": "etl", "error": "ContractError", "code": 3, "message": "bad"}, StageRefusedError, 3, r"`etl` .* 3: bad"),
        ({"command": "train", "error": "RefusedError", "code": 3, "message": "bad"}, StageRefusedError, 3, "bad"),
        ({"command": "train", "error": "SettingsError", "code": 2, "message": "a key"}, SettingsError, 2, "a key"),
        ({"command": "export", "error": "TransientError", "code": 1, "message": "away"}, PipelineFailedError, 1, "away"),
        ({"command": "export", "error": "MismatchError", "code": 1, "message": "other"}, PipelineFailedError, 1, "other"),
        # killed, out of memory, a fault of DVC itself: nobody told
        (None, PipelineFailedError, 1, r"its message stands above \(dvc ended with 255\)"),
    ],
)
def test_a_run_ends_as_its_stage_did(
    tmp_path: Path, told: dict[str, object] | None, kind: type[TwinlineError], code: int, said: str
) -> None:
    place = tmp_path / "failure.json"
    if told:
        place.write_text(json.dumps(told))
    error = pipeline_failure("experiment x", 255, place)
    assert (type(error), exit_code(error)) == (kind, code)
    with pytest.raises(kind, match=said):
        raise error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (TooSmallError("two pages"), {"command": "etl", "error": "TooSmallError", "code": 3, "message": "two pages"}),
        (SettingsError("a key"), {"command": "etl", "error": "SettingsError", "code": 2, "message": "a key"}),
        (None, None),
    ],
)
def test_a_stage_tells_its_caller_why_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: TwinlineError | None, expected: dict[str, object] | None
) -> None:
    place = tmp_path / "failure.json"
    monkeypatch.setenv(FAILURE_VARIABLE, str(place))

    def stage() -> None:
        if raised:
            raise raised

    ended("etl", stage)
    assert (json.loads(place.read_text()) if place.is_file() else None) == expected
