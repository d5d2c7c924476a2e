"""The youngest tag names the version in production, and no assignment waits for a clock that stepped back."""

import time
from datetime import datetime
from pathlib import Path

import pytest

from proofs.clock.rollbacks import Rollbacks
from twinline.contract.artefacts import ENCODER
from twinline.registry.versions import Registry

_DAY = 86_400.0
# How far our clock is stepped before each assignment, in seconds.
STEPS = [
    (0.0, 0.0, 0.0),  # all within a second or two
    (0.0, -_DAY, 0.0),
    (0.0, -1.0, -1.0),
    (_DAY, -2 * _DAY, _DAY),
    (-_DAY, -_DAY, -_DAY),
    (365 * _DAY, -365 * _DAY, 0.0),
    (0.0, _DAY, -_DAY),
    (20 * 365 * _DAY, -30 * 365 * _DAY, 10 * 365 * _DAY),
    (0.0, -0.5, 0.5),
    (-3_600.0, 3_600.0, -3_600.0),
]


@pytest.mark.integration
@pytest.mark.parametrize("steps", STEPS)
def test_a_rollback_counts_at_once_after_any_step_of_our_clock(
    steps: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, shift = time.time, 0.0
    rollbacks = Rollbacks(tmp_path / "project")
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    # A wait would be for up to days; nothing may sleep at all.
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"slept for {seconds} s"))
    for step in steps:
        shift += step
        rollbacks.switch()
    assert rollbacks.without_effect == 0
    assigned = Registry(tmp_path / "project", ENCODER).assignments()
    assert [entry.version for entry in assigned] == ["v1.0.0", "v2.0.0", "v1.0.0"]
    assert [entry.message for entry in assigned] == ["to v1.0.0", "to v2.0.0", "to v1.0.0"]
    times = [datetime.fromisoformat(entry.created_at).timestamp() for entry in assigned]
    assert times[0] < times[1] < times[2]
