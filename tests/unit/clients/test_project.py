"""The project is a folder that a setting names, and never the folder that the code lies in."""

import os
from pathlib import Path

import pytest

from tests.checkout import CHECKOUT
from twinline.clients.settings import PROJECT_FILES, Settings, in_project, load_settings
from twinline.contract.errors import SettingsError


def make_project(folder: Path) -> Path:
    folder.mkdir()
    for name in PROJECT_FILES:
        (folder / name).touch()
    return folder


def test_the_project_is_the_working_folder_and_state_and_model_server_lie_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.project == tmp_path
    assert settings.home == tmp_path / "var"
    assert settings.server_environment == tmp_path / ".venv-server"


def test_a_project_that_is_named_is_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "mine")
    monkeypatch.setenv("TWINLINE_PROJECT", str(project))
    monkeypatch.chdir("/")
    assert load_settings().find_project() == project
    assert load_settings().home == project / "var"


def test_home_and_model_server_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINLINE_PROJECT", str(make_project(tmp_path / "mine")))
    monkeypatch.setenv("TWINLINE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TWINLINE_SERVER_ENVIRONMENT", str(tmp_path / "server"))
    settings = load_settings()
    assert (settings.home, settings.server_environment) == (tmp_path / "state", tmp_path / "server")


def test_a_relative_project_is_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWINLINE_PROJECT", "mine")
    assert load_settings().find_project() == tmp_path / "mine"


def test_a_folder_that_is_no_project_is_named_with_what_it_lacks_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    with pytest.raises(SettingsError, match=rf"{tmp_path} is no Twinline project \(no params.yaml\).*TWINLINE_PROJECT"):
        Settings(project=tmp_path).find_project()


def test_state_is_not_looked_for_in_a_folder_that_is_no_project_unless_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TWINLINE_PROJECT"):
        Settings(project=tmp_path).find_home()
    assert Settings(project=tmp_path, home=tmp_path / "state").find_home() == tmp_path / "state"


def test_a_command_that_is_started_for_a_project_finds_it_wherever_it_runs(tmp_path: Path) -> None:
    assert in_project(tmp_path, {"PATH": "/bin"}) == {"PATH": "/bin", "TWINLINE_PROJECT": str(tmp_path)}
    assert in_project(tmp_path)["PATH"] == os.environ["PATH"]


# What stands beside the code is found by the code's own place: package data, and hashes over code.
OWN_PLACE = {
    # the process that reads files imports this code, and may read it
    "etl/reading/__main__.py",
    "etl/reading/child.py",
    "triton_models/repository.py",
    "triton_models/server.py",
    "triton_models/encoder/tokenizer/model.py",
    "triton_models/generator/generate/model.py",
    "triton_models/backends/onnxruntime/model.py",
    "triton_models/backends/openvino/model.py",
    "twinline/clients/code.py",
    "twinline/contract/answers/packaged_model.py",
    "twinline/search/page.py",
    "twinline/stack/airflow.py",
}


def test_no_module_takes_the_folder_of_the_code_for_the_project() -> None:
    packages = ("etl", "train", "export", "streaming", "triton_models", "twinline")
    found = {
        str(path.relative_to(CHECKOUT))
        for package in packages
        for path in (CHECKOUT / package).rglob("*.py")
        if "__file__" in path.read_text()
    }
    assert found == OWN_PLACE
