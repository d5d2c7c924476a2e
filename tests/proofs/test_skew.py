"""The mutation run on real parts: broker, Triton, collections, an export."""

import json
import subprocess
import sys

import pytest

from tests.checkout import CHECKOUT

# Two encoders are exported first.
pytestmark = pytest.mark.by_command

# The two exported releases are kept there; the rest is made again.
_WORKSPACE = CHECKOUT / "var" / "test-cache" / "bench-skew"


@pytest.mark.timeout(900)
def test_one_fault_of_each_kind_is_caught_at_the_right_place() -> None:
    command = [sys.executable, "-m", "proofs", "skew", "--short", "--json", "--workspace", str(_WORKSPACE)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    report = json.loads(done.stdout)
    assert report["planted"] == report["caught"] >= 6
    assert (report["missed"], report["wrong_place"]) == ([], [])
    assert report["control"]["before"]["found_by"] is report["control"]["after"]["found_by"] is None
    assert max(distance for distance in report["worst"].values()) <= 1e-6
