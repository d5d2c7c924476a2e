"""The short form of `python -m proofs chaos`: each class of death once, under load, and nothing is lost, doubled or stale."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from proofs.chaos.deck import BROKER, SHORT_DECK
from proofs.chaos.points import TRITON_POINT
from tests.checkout import CHECKOUT

KILLS = 9


@pytest.mark.timeout(600)
def test_kills_at_every_point_of_a_batch_lose_nothing_double_nothing_and_leave_nothing_stale() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proofs", "chaos", "--short", "--kills", str(KILLS), "--seed", "11", "--json"],
        cwd=CHECKOUT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("TWINLINE_", "CHAOS_"))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.stdout, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout)

    assert (report["failures"], done.returncode) == ([], 0), json.dumps(report["examples"], indent=2)
    assert report["kills"] >= KILLS
    assert report["armed_but_not_reached"] == {}
    assert report["kills_by_participant"].keys() == {"consumer", "online", "triton"}
    # Triton may have answered just before it died: then this was no death while it embedded.
    assert set(SHORT_DECK) - {BROKER, TRITON_POINT} <= report["kills_by_point"].keys()
    assert sum(report["broker"].values()) == 2
    # The compared data are not empty.
    assert report["vectors_compared"] == report["chunks"] > 100
    assert min(report[name] for name in ("deleted", "dead_letters", "overtaken_messages")) > 0
    assert report["search"]["answered"] > 0
