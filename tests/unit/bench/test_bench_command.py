"""A bench that found a fault ends with 1: whatever calls it must not have to read the report."""

from typing import Any

import pytest
from typer.testing import CliRunner

from proofs.__main__ import app

RUNS = {
    "switch": ("proofs.switch.run", "measure_switch"),
    "kills": ("proofs.kills.run", "measure_kills"),
    "gates": ("proofs.gates.run", "measure_gates"),
}


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("good", [True, False])
def test_a_bench_ends_with_one_where_it_found_a_fault(command: str, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    module, measure = RUNS[command]

    def measured(*_: object, **__: object) -> dict[str, Any]:
        return {"command": command}

    monkeypatch.setattr(f"{module}.{measure}", measured)
    monkeypatch.setattr(f"{module}.passed", lambda report: good)
    done = CliRunner().invoke(app, [command, "--json"])
    assert done.exit_code == (0 if good else 1), done.output
