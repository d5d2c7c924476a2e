"""Hostile files through the real command, a part of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import CHECKOUT


@pytest.mark.timeout(600)
def test_no_file_ends_an_ingest_or_costs_a_neighbour(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "proofs", "hostile", "--short", "--json", "--workspace", str(tmp_path / "hostile")]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert report["files"] > 80
    assert [report[name] for name in ("ended", "over_budget", "missing", "unsaid", "followed")] == [0] * 5
    assert min(place["peak_mib"] for place in report["places"]) > 50, "the memory was measured"
