"""The parts of the proof `strange-machine`: what it calls green, refused and failed. No set-up is run."""

import subprocess
from pathlib import Path

import pytest

from proofs.strange_machine import machines, run
from proofs.strange_machine.machines import ODD, interpreter, machine
from twinline.clients.hidden import OURS
from twinline.contract.errors import SettingsError
from twinline.registry.git import git


def done(code: int, said: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, said, "")


def test_a_step_that_ends_well_is_told_by_its_last_line() -> None:
    assert run._last_line(done(0, "a\nb\n")) == "b"


def test_a_refusal_in_words_is_no_failure_and_a_traceback_always_is() -> None:
    with pytest.raises(SettingsError, match="too long"):
        run._last_line(done(2, "twinline: the path is too long"))
    for code in (0, 1, 2, 70):
        with pytest.raises(run.StepFailedError, match="a traceback"):
            run._last_line(done(code, "Traceback (most recent call last):\n  ..."))
    for code in (1, 3, 70, 130, 99):
        with pytest.raises(run.StepFailedError, match=f"ended with {code}"):
            run._last_line(done(code, "words"))


@pytest.mark.parametrize(("name", "verdict"), [("up", "refused"), ("doctor", "refused"), ("train", "FAILED"), ("down", "FAILED")])
def test_a_machine_may_be_refused_only_before_anything_has_started(name: str, verdict: str) -> None:
    def refuse(_: machines.Machine) -> str:
        raise SettingsError("not here")

    made = machines.Machine("odd", "python", Path(), {})
    assert run._step(made, name, refuse).verdict == verdict


def test_a_python_that_is_not_here_is_a_failure_and_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"Python 3\.11\.99 is promised and not on this machine"):
        interpreter("3.11.99")
    monkeypatch.setattr(run, "promised", lambda: ["3.11.99"])
    report = run.measure_machines(tmp_path, ["3.11.99"])
    assert not run.passed(report)
    assert not run.passed({"steps": []})


def test_the_odd_machine_has_every_oddity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "interpreter", lambda version: f"python{version}")
    for _ in range(2):  # a second run finds it
        made = machine(ODD, tmp_path)
    assert "(1)" in str(made.project)
    assert " " in str(made.project)
    assert made.proxies["http_proxy"] == made.proxies["HTTPS_PROXY"] == "http://127.0.0.1:9"
    assert made.variables["LC_ALL"] == "POSIX"
    assert not Path(made.variables["HOME"]).exists()
    assert made.umask == 0o077
    assert {name for name in OURS if (Path(made.variables["PYTHONPATH"]) / name / "__init__.py").is_file()} == {*OURS} - {
        "twinline"
    }
    assert Path(made.variables["PATH"].split(":")[0]).parent == Path(made.variables["VIRTUAL_ENV"])
    assert git(made.project, "tag").split() == ["encoder#prod#1", "encoder@v1.0.0"]
    assert not (made.project / "dvc.lock").exists()
    assert made.run("sh", "-c", "umask; echo $http_proxy", limit_seconds=10).stdout.split() == ["0077", "http://127.0.0.1:9"]
    assert made.run("sh", "-c", "echo $http_proxy", limit_seconds=10, is_set_up=True).stdout.strip() == ""
