"""A release taking over under load, and kills in the middle of it, on real parts: broker, Triton, store, search API."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.checkout import CHECKOUT

# Two encoders are exported first.
pytestmark = pytest.mark.by_command

# The two exported releases are kept there, for these and for the mutation run; the rest is made again.
_WORKSPACE = CHECKOUT / "var" / "test-cache" / "bench-skew"


def bench(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "proofs", *arguments, "--json", "--workspace", str(_WORKSPACE)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.timeout(600)
def test_a_switch_under_load_fails_nobody_mixes_nothing_and_loses_nothing() -> None:
    report = bench("switch", "--short")
    assert (report["failed"], report["mixed"], report["missing"], report["stale"]) == (0, 0, 0, 0)
    assert len(report["release_seen"]) == 2
    assert report["answers_checked"] == report["searches"] > 100
    assert report["hits_checked"] > report["answers_checked"]
    assert min(report["published"].values()) > 0
    assert [switch["what"] for switch in report["switches"]] == ["promote", "rollback", "promote again"]
    assert {"p50", "p95", "p99", "max"} <= report["latency_ms"]["during"].keys()


@pytest.mark.timeout(600)
def test_kills_at_named_points_leave_one_whole_release_active() -> None:
    report = bench("kills", "--short")
    assert report["kills"] == report["survived"] >= 3
    assert report["faults"] == []
    # The victim has killed itself: the exit code is that of kill -9, or the builder's end was reported as a failure.
    assert all(case["exit_code"] != 0 for case in report["cases"] if case["victim"] == "self")
