"""The wheel holds our packages with their data, and nothing that could hide somebody's module of the same name."""

import zipfile
from pathlib import Path

import pytest

from proofs.roles import wheel as wheels
from twinline.clients.hidden import OURS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_each_file_of_our_packages_and_no_other(wheel: Path) -> None:
    assert wheels.wheel_faults(wheel) == []


def test_no_name_but_ours_is_put_beside_other_peoples_modules(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(OURS)


def test_a_file_that_was_forgotten_is_found(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = wheels.tracked_files()
    monkeypatch.setattr(wheels, "tracked_files", lambda: [*names, "twinline/search/static/new.css"])
    [missing] = wheels.wheel_faults(wheel)
    assert missing.startswith("twinline/search/static/new.css is not in the wheel: add it to package-data")
    monkeypatch.setattr(wheels, "tracked_files", lambda: [name for name in names if name != "etl/pair.py"])
    assert wheels.wheel_faults(wheel) == ["etl/pair.py is in the wheel and in no package of ours"]
