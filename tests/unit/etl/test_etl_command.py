"""`python -m etl`: the stages as DVC and Airflow call them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import CHECKOUT
from tests.unit.etl.factories import body, write_beir


def etl(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "etl", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "TWINLINE_HOME": str(folder / "var"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# Each starts processes.
pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    corpus = {f"d{n}": (f"Title number {n}", body(n)) for n in range(20)}
    queries = {f"q{n}": f"What is number {n}?" for n in range(20)}
    judged = [(f"q{n}", f"d{n}", 1) for n in range(20)]
    write_beir(tmp_path / "tiny", corpus, queries, {"train": judged[:15], "test": judged[15:]})
    (tmp_path / "params.yaml").write_text(
        f"source: beir:{tmp_path / 'tiny'}\nsnapshot: ''\ningest: {{}}\nprepare: {{}}\nencoder: {{pairs: {{}}}}\n"
    )
    return tmp_path


def test_the_stages_run_in_order_and_a_stored_snapshot_stands_in_for_the_source(folder: Path) -> None:
    done = etl(folder, "ingest")
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout.splitlines()[-1])
    assert taken["documents"] == 20
    for stage in ("prepare", "pairs"):
        done = etl(folder, stage)
        assert done.returncode == 0, done.stderr
    assert json.loads((folder / "data" / "pairs" / "report.json").read_text())["snapshot"] == taken["snapshot"]
    before = {path.name: path.read_bytes() for path in (folder / "data" / "snapshot").iterdir()}

    (folder / "tiny" / "corpus.jsonl").unlink()
    done = etl(folder, "ingest", "--snapshot", taken["snapshot"])

    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in (folder / "data" / "snapshot").iterdir()} == before


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ("source: 'beir:{tiny}'\ningest: {{max_reject_shar: 1}}\n", 2, "unknown key 'max_reject_shar'; known are key_column"),
        ("source: 'beir:{tiny}'\ningest: {{max_reject_share: 2}}\n", 2, "ingest.max_reject_share is 2"),
        ("source: 'files:{tiny}/nowhere'\ningest: {{}}\n", 2, "there is nothing at"),
        ("source: 'files:{tiny}/qrels/train.tsv'\ningest: {{}}\n", 3, "missing_column 15"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(folder: Path, params: str, code: int, words: str) -> None:
    (folder / "params.yaml").write_text(params.format(tiny=folder / "tiny"))

    done = etl(folder, "ingest")

    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_publishing_without_a_broker_is_one_line_that_says_how_to_start_one(folder: Path) -> None:
    assert etl(folder, "ingest").returncode == 0

    done = etl(folder, "publish", KAFKA_BOOTSTRAP="127.0.0.1:1", TWINLINE_KAFKA_OPTIONS='{"bootstrap_timeout_ms": 1000}')

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("etl: no Kafka answers at 127.0.0.1:1: start it (twinline up)")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ingest", "--source", "pydocs:", "--snapshot", "s1"), "only one of them is taken"),
        (("publish", "--source", "pydocs:", "--snapshot", "s1"), "only one of them is published"),
        (("publish", "--yes-delete", "3"), "--yes-delete would do nothing here"),
    ],
)
def test_options_that_would_do_nothing_are_used_wrongly(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    done = etl(folder, *arguments)

    assert done.returncode == 2, done.stderr
    assert words in done.stderr
