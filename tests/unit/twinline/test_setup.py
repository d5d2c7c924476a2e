"""Set-up: the promised Pythons are those of one list, no version shuts one of them out, and pip's reasons are shown."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.specifiers import SpecifierSet

from tests.checkout import CHECKOUT

SETTINGS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
PYTHONS: list[str] = SETTINGS["tool"]["twinline"]["pythons"]


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock_of_ops", CHECKOUT / "ops" / "lock.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_names_the_pythons_that_were_tried_and_no_other() -> None:
    [line] = [line for line in (CHECKOUT / "README.md").read_text().splitlines() if "Python 3." in line]
    assert re.findall(r"3\.\d+\.\d+", line) == PYTHONS


def test_the_package_can_be_installed_by_each_promised_python_and_by_no_older_or_newer_one() -> None:
    accepted = SpecifierSet(SETTINGS["project"]["requires-python"])
    assert [python for python in PYTHONS if python not in accepted] == []
    assert [python for python in ("3.10.13", "3.11.1", "3.14.0") if python in accepted] == []


class Package:
    """A package as far as the lock looks at it."""

    def __init__(self, requires: str | None) -> None:
        self.metadata = {"Requires-Python": requires}


@pytest.mark.parametrize(
    ("requires", "shut_out"),
    [
        (None, []),
        ("", []),
        (">=3.9", []),
        (">=3.11", []),
        ("!=3.0.*,>=3.8", []),
        (">=3.11.5", ["3.11.2"]),
        (">3.11.2", ["3.11.2"]),
        (">=3.12", ["3.11.2"]),
        ("~=3.12.0", ["3.11.2", "3.13.0"]),
        ("<3.13", ["3.13.0"]),
        (">=3.11,<3.12", ["3.12.1", "3.13.0"]),
        (">=3.14", ["3.11.2", "3.12.1", "3.13.0"]),
    ],
)
def test_a_version_that_a_promised_python_cannot_install_is_refused(
    lock: ModuleType, requires: str | None, shut_out: list[str]
) -> None:
    found = lock.unfit({"soupsieve": "4.1.2"}, {"soupsieve": Package(requires)}, ["3.11.2", "3.12.1", "3.13.0"])
    assert len(found) == bool(shut_out)
    for line in found:
        assert line.startswith(f"soupsieve 4.1.2 needs Python {requires}, and {', '.join(shut_out)} is promised")
        assert "pip install 'soupsieve<4.1.2'" in line


def test_every_pin_that_is_installed_here_can_be_installed_by_every_promised_python(lock: ModuleType) -> None:
    pinned = dict(line.split("==") for line in (CHECKOUT / "constraints.txt").read_text().split() if "==" in line)
    here = lock.installed(sys.path)
    packages = {name: found for name, found in here.items() if pinned.get(name) == found.version.split("+")[0]}
    assert len(packages) > 100
    assert lock.unfit({name: pinned[name] for name in packages}, packages, PYTHONS) == []


PIP = """#!/bin/sh
cat <<'END'
Looking in links: /opt/wheels
Collecting numpy>=1.26
  Downloading numpy-2.0-cp311.whl (3 MB)
     3.0/3.0 MB 1 MB/s
INFO: pip is looking at multiple versions of twinline to determine which version is compatible
The conflict is caused by:
    beautifulsoup4 4.14 depends on soupsieve>1.2
    The user requested (constraint) soupsieve==4.1.2
END
echo "ERROR: ResolutionImpossible" >&2
exit CODE
"""


@pytest.mark.parametrize("code", [0, 1])
def test_what_pip_says_about_a_failure_is_shown(tmp_path: Path, code: int) -> None:
    for name in ("ops/setup.sh", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((CHECKOUT / name).read_bytes())
    (tmp_path / "ops" / "setup.sh").chmod(0o755)
    pip = tmp_path / ".venv" / "bin" / "pip"
    pip.parent.mkdir(parents=True)
    pip.write_text(PIP.replace("CODE", str(code)))
    pip.chmod(0o755)
    done = subprocess.run(
        [str(tmp_path / "ops" / "setup.sh"), "platform"],
        env={**os.environ, "ROLES": "serve"}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code
    assert "setup:   numpy" in done.stdout
    assert "Downloading" not in done.stdout + done.stderr
    shown = [line.removeprefix("setup: pip: ").strip() for line in done.stderr.splitlines()]
    for reason in (
        "The conflict is caused by:",
        "beautifulsoup4 4.14 depends on soupsieve>1.2",
        "The user requested (constraint) soupsieve==4.1.2",
    ):
        assert (reason in shown) is bool(code)
    assert ("all that pip said is in .venv/pip.log" in done.stderr) is bool(code)
