"""One type of check, and the two forms in which it is stored: older files of either are still read."""

import json
from pathlib import Path

import pytest

from twinline.contract.release.checks import Check
from twinline.contract.release.verdict import Verdict, read_stated, stated
from twinline.release.verify.record import Verification, last_verification

CHECK = Check("better than base", True, "0.71 against 0.70", {"difference": {"low": 0.01}})


def test_a_verdict_is_written_as_the_stages_always_wrote_it() -> None:
    written = '{"accepted": true, "outcome": "accepted", "checks": [{"name": "better than base", "passed": true, '
    written += '"statement": "0.71 against 0.70", "numbers": {"difference": {"low": 0.01}}}]}'
    assert json.dumps(Verdict([CHECK]).to_json()) == written
    assert Verdict.from_json(json.loads(written)) == Verdict([CHECK])
    assert read_stated(stated(CHECK)) == CHECK


def test_a_verification_is_written_as_commands_always_wrote_it(tmp_path: Path) -> None:
    Verification("r1", "2026-05-01", "ada@host", "r0", True, (CHECK,)).save(tmp_path)
    value = json.loads((tmp_path / "r1" / "verification.json").read_text())
    assert list(value) == ["release", "time", "by", "against", "passed", "checks"]
    assert list(value["checks"][0]) == ["name", "passed", "detail", "numbers"]
    found = last_verification(tmp_path, "r1")
    assert found is not None
    assert found.checks == (CHECK,)


@pytest.mark.parametrize("passed", ["yes", 1, None])
def test_a_truthy_word_is_not_a_verdict(passed: object) -> None:
    with pytest.raises(TypeError, match="not true or false"):
        read_stated({"name": "x", "passed": passed, "statement": "", "numbers": {}})
