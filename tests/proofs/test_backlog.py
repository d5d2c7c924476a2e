"""The short form of `python -m bench backlog`: real broker, consumer process and store; vectors made of hashes."""

import json
import subprocess
import sys
from pathlib import Path

from tests.checkout import CHECKOUT

MESSAGES = 2_000


def test_a_backlog_is_worked_off_and_memory_is_reported(base_release: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "backlog", "--messages", str(MESSAGES), "--json", "--workspace", str(tmp_path)]
    done = subprocess.run(
        [*command, "--release", str(base_release)], cwd=CHECKOUT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    report = json.loads(done.stdout)
    assert report["backlog"]["messages"] == MESSAGES
    assert report["backlog"]["largest_bytes"] > 50 * report["backlog"]["smallest_bytes"]
    assert "hash" in report["encoder"]
    for curve in (report["consumer"], report["store_alone"]):
        assert curve["curve"][-1][0] <= MESSAGES
        assert curve["peak_mib"] >= curve["own_peak_mib"] > 0
    # Not a figure: a consumer that kept what it has handled would add the backlog's bytes, vectors and points again and again.
    assert report["own_slope_of_the_consumer_mib_per_10000_messages"] < 200
