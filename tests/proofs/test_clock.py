"""The short form of `python -m proofs clock`: clocks step, nothing is lost, a rollback takes its usual time."""

import pytest

from proofs.clock.run import measure_clock
from twinline.contract.documents.records import Version


@pytest.mark.timeout(300)
def test_clocks_that_step_lose_nothing_and_delay_no_rollback() -> None:
    report = measure_clock(120, seed=7)
    assert report["failures"] == [], report["examples"]
    # The compared data are not empty.
    assert min(report[name] for name in ("broker_steps", "own_steps", "deletions", "alarms", "rollbacks")) > 15
    assert report["documents"] > 40


@pytest.mark.timeout(300)
def test_the_proof_finds_a_consumer_that_goes_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Version, "_shares_partition", lambda self, other: False)
    report = measure_clock(40, seed=7)
    assert report["lost"] > 0
    assert any("not in their last state" in failure for failure in report["failures"])
