"""The command line: a table of contents, and one clear line when something cannot work."""

import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.testing import CliRunner

from twinline import __main__ as entry
from twinline.contract.errors import SettingsError, TransientError, TwinlineError
from twinline.contract.release.checks import RefusedError, refusal_line


@pytest.mark.parametrize("name", entry.COMMANDS)
def test_every_command_of_the_overview_exists(name: str) -> None:
    module = import_module(entry.COMMANDS[name].module)
    assert callable(getattr(module, "command", None)) or isinstance(getattr(module, "app", None), typer.Typer)


@pytest.mark.parametrize("name", entry.COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    shown = CliRunner().invoke(entry.build_app([name]), [name, "--help"])
    assert shown.exit_code == 0, shown.output


def test_the_overview_imports_no_command() -> None:
    script = "import sys; from twinline.__main__ import build_app; build_app([]); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()

    heavy = {"torch", "airflow", "daft", "kafka", "httpx", *(command.module for command in entry.COMMANDS.values())}
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("TWINLINE_X is 3: use 4"), 2),  # wrong use
        (TransientError("no broker answers at :1: start it"), 1),
        (TwinlineError("anything else of ours"), 1),
        # a scheduler does not repeat what was refused
        (RefusedError("nothing to roll back to"), 3),
    ],
)
def test_an_error_of_ours_is_one_line_and_an_exit_code(
    error: TwinlineError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> typer.Typer:
        raise error

    monkeypatch.setattr(entry, "build_app", fail)
    with pytest.raises(SystemExit) as exit_info:
        entry.main()

    assert exit_info.value.code == code
    said = capsys.readouterr()
    assert said.err == f"twinline: {error}\n"
    # for whatever called it
    assert said.out == (refusal_line(error) + "\n" if isinstance(error, RefusedError) else "")
