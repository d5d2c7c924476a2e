"""The bench of the generator's engine on a tiny model: every row of its table, and what is no generator."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.__main__ import app
from bench.generate import ROWS, Size, measure_generate
from tests.unit.export.tiny_generator import write_tiny_generator
from twinline.contract.errors import ContractError


@pytest.mark.integration
def test_each_precision_is_measured_at_each_number_of_clients_free_and_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_tiny_generator(tmp_path / "model")
    monkeypatch.setattr("bench.generate.Size", lambda **given: Size(20, 4, **given))
    options = ["--model", str(model), "--precisions", "fp32,int8", "--turns", "1", "--threads", "1"]
    done = CliRunner().invoke(app, ["generate", *options, "--workspace", str(tmp_path / "work"), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    found = [(row["precision"], row["clients"], row["mask"]) for row in report["rows"]]
    assert found == [(name, rows, mask) for name in ("fp32", "int8") for rows in ROWS for mask in ("no", "yes")]
    assert (report["prompt_tokens"], report["answer_tokens"]) == (20, 4)
    for row in report["rows"]:
        assert 0 < row["first_token_ms"] <= row["last_first_token_ms"]
        assert row["tokens_per_second"] > 0


@pytest.mark.parametrize("content", [None, "{", "{}", '{"max_position_embeddings": "many"}'])
def test_what_is_no_generator_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ContractError, match="is no generator"):
        measure_generate(tmp_path, tmp_path / "work", ["fp32"], Size())
