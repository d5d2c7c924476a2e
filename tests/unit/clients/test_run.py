"""Every command ends in one of six ways, each with its code; and the table in the docs is the one in the code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import CHECKOUT
from twinline.clients import run as running
from twinline.clients.hidden import OURS, check_modules, hidden_modules
from twinline.clients.run import BUG, DONE, FAILED, INTERRUPTED, REFUSED, USED_WRONGLY, VerdictError, ended, exit_code
from twinline.commands.erase import IncompleteError
from twinline.commands.publish import ErasedError
from twinline.commands.reconcile import DifferenceError
from twinline.commands.skew import SkewError
from twinline.contract.errors import (
    ContractError,
    DocumentError,
    MismatchError,
    SettingsError,
    TransientError,
    TwinlineError,
)
from twinline.contract.release.checks import RefusedError
from twinline.scheduling import detached

CODES = [
    (TransientError("away"), FAILED),
    (TwinlineError("a stage failed"), FAILED),
    # ends when the other side is made right
    (MismatchError("another space"), FAILED),
    (SettingsError("wrong"), USED_WRONGLY),
    (RefusedError("worse"), REFUSED),
    (ContractError("damaged"), REFUSED),
    (DocumentError("no_text", "empty"), REFUSED),
    # what a command that judges has found
    (VerdictError("found"), FAILED),
    *((error("found"), FAILED) for error in (SkewError, DifferenceError, ErasedError, IncompleteError)),
]


@pytest.mark.parametrize(("error", "code"), CODES)
def test_each_error_of_ours_has_its_code(error: TwinlineError, code: int) -> None:
    assert exit_code(error) == code


def test_what_a_command_returns_is_its_code_and_nothing_means_done() -> None:
    assert (ended("x", lambda: 7), ended("x", lambda: None)) == (7, DONE)


def test_a_bug_is_one_line_and_shows_its_traceback_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ValueError("1 is not 2\nand more")

    assert ended("etl", broken) == BUG
    assert capsys.readouterr().err == "etl: ValueError: 1 is not 2 (a bug, here or in a library: TWINLINE_DEBUG=1 shows where)\n"
    monkeypatch.setenv("TWINLINE_DEBUG", "1")
    assert ended("etl", broken) == BUG
    assert "Traceback" in capsys.readouterr().err


def test_the_traceback_of_a_bug_is_in_the_log_where_there_is_one() -> None:
    program = "from twinline.clients.run import run; run('online', lambda: 1 / 0, logged=True)"
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == BUG
    log, line = done.stderr.splitlines()
    assert "ZeroDivisionError" in json.loads(log)["exception"]
    assert line.startswith("online: ZeroDivisionError: ")


def test_a_package_of_another_role_is_named_with_the_extra_that_brings_it(capsys: pytest.CaptureFixture[str]) -> None:
    def needs_torch() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    def needs_ours() -> None:
        raise ModuleNotFoundError("No module named 'etl.nowhere'", name="etl.nowhere")

    assert ended("train", needs_torch, role="train") == USED_WRONGLY
    assert (
        "package torch is not installed here, and this command needs it: pip install 'twinline[train]'" in capsys.readouterr().err
    )
    assert ended("train", needs_ours) == BUG


def test_telemetry_is_off_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    seen: list[str] = []
    ended("x", lambda: seen.append(os.environ["DO_NOT_TRACK"]))
    assert seen == ["1"]


def test_the_table_in_the_docs_is_the_one_in_the_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", (CHECKOUT / "docs" / "exit-codes.md").read_text(), re.MULTILINE)}
    in_module = {int(code) for code in re.findall(r"^ {4}(\d+) ", running.__doc__ or "", re.MULTILINE)}
    assert listed == in_module == {DONE, FAILED, USED_WRONGLY, REFUSED, BUG, INTERRUPTED}


# Programs inside Triton, and workers that answer on a pipe: their callers read that, not a code.
WITHOUT = {
    *("bench/backlog_worker.py", "bench/growth_store.py", "bench/index_worker.py", "bench/peers/worker.py"),
    *("bench/training_worker.py", "etl/reading/__main__.py", "proofs/chaos/points.py", "proofs/kills/kill_at.py"),
    # its code is its command's, which it writes down
    Path(detached.__file__).relative_to(CHECKOUT).as_posix(),
}


def test_every_program_of_ours_goes_through_it() -> None:
    packages = ("etl", "train", "export", "streaming", "triton_models", "twinline", "bench", "proofs")
    programs = {
        path.relative_to(CHECKOUT).as_posix(): path.read_text()
        for package in packages
        for path in (CHECKOUT / package).rglob("*.py")
        if '\nif __name__ == "__main__":' in path.read_text()
    }
    assert len(programs) > len(WITHOUT)
    assert {name for name, text in programs.items() if not re.search(r"clients\.run import .*\b(run|ended)\b", text)} == WITHOUT


def make_packages(root: Path) -> Path:
    for name in OURS:
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").touch()
    return root


def test_our_modules_are_ours_here() -> None:
    assert hidden_modules() == {}
    check_modules()


def test_a_module_that_hides_one_of_ours_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    program = "from twinline.clients.run import run; run('twinline', lambda: print('ran'))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(CHECKOUT)])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    # The folder that the program is started in comes before that of the other module.
    assert (done.returncode, done.stdout) == (DONE, "ran\n")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (USED_WRONGLY, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"`train` by {tmp_path / 'train.py'}" in done.stderr


def test_another_installation_of_ours_in_front_hides_ours_as_well(tmp_path: Path) -> None:
    assert set(hidden_modules(make_packages(tmp_path))) == set(OURS)
    with pytest.raises(SettingsError, match="`streaming` by"):
        check_modules(tmp_path)


@pytest.mark.integration
@pytest.mark.parametrize("name", [name for name in OURS if name != "twinline"])
@pytest.mark.parametrize("form", ["{}.py", "{}/__init__.py"])
def test_our_modules_come_before_those_of_pythonpath_here_and_in_what_is_started_here(
    tmp_path: Path, name: str, form: str
) -> None:
    other, useful, elsewhere = tmp_path / "other", tmp_path / "useful", tmp_path / "elsewhere"
    for folder in (other, useful, elsewhere):
        folder.mkdir()
    foreign = other / form.format(name)
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("raise SystemExit('the foreign one ran')")
    (useful / "mine.py").touch()
    child = f"import mine, importlib.util as u; print(u.find_spec({name!r}).origin)"
    program = (
        "import subprocess, sys; from twinline.clients.run import run\n"
        f"run('x', lambda: (__import__({name!r}), subprocess.run([sys.executable, '-c', {child!r}], check=True)) and None)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (other, useful, CHECKOUT)))}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (DONE, f"{CHECKOUT / name / '__init__.py'}\n"), done.stderr
    assert done.stderr == f"x: {other} is left out of PYTHONPATH: it would hide ours by `{name}` ({foreign})\n"


@pytest.mark.integration
@pytest.mark.parametrize(
    "name", ["clients", "search", "release", "registry", "commands", "stack", "bench", "proofs", "contract", "dags"]
)
def test_a_module_of_pythonpath_that_has_another_name_hides_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('the foreign one ran')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(CHECKOUT)])}
    done = subprocess.run(
        [sys.executable, "-c", "from twinline.__main__ import main; main()", "doctor", "--help"],
        cwd=tmp_path.parent, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (DONE, "")
