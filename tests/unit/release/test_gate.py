"""The gate lets nothing through that the stages did not vouch for."""

import pytest

from tests.unit.release.factories import FakeRevision, parity, quality, verdict
from twinline.contract.errors import SettingsError
from twinline.contract.release.checks import RefusedError, require_pass
from twinline.contract.release.verdict import EVALUATION_CHECKS, FORMAT_TO_SERVE, NO_EVALUATION_LEAK
from twinline.release.kinds import ENCODER


def files(verdict_text: str = verdict(), parity_text: str = parity(), quality_text: str = quality()) -> FakeRevision:
    return FakeRevision(
        {ENCODER.artifact.verdict: verdict_text, ENCODER.artifact.parity: parity_text, ENCODER.artifact.quality: quality_text}
    )


def test_an_encoder_that_all_stages_accept_passes_and_every_check_is_shown() -> None:
    checks = ENCODER.read_checks(files())
    require_pass(checks, "experiment x", "remedy")
    assert [check.name for check in checks] == [*EVALUATION_CHECKS, "parity onnx_fp32", "formats", FORMAT_TO_SERVE]


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        # each condition of the evaluation can say no: its sentence, with the numbers, is the message
        *((files(verdict(refused=name, reason="0.61 against 0.70")), f"{name}: 0.61 against 0.70") for name in EVALUATION_CHECKS),
        # a condition that nobody looked at does not hold
        (files(verdict(without=NO_EVALUATION_LEAK)), f"{NO_EVALUATION_LEAK}: .* does not say"),
        # the word `accepted` decides nothing
        (files('{"accepted": true, "checks": []}'), "4 of 7 checks failed"),
        # a truthy word is not a verdict
        (files('{"checks": [{"name": "x", "passed": "yes", "statement": "?", "numbers": {}}]}'), "'yes', not true or false"),
        # the form of before: nothing of what is asked for now was looked at
        (files('{"accepted": true, "reasons": ["fine"]}'), "another form"),
        # a format over its limit
        (files(parity_text=parity(worst=3e-5)), "3.00e-05"),
        # NaN compares false with everything, and must not pass for that
        (files(parity_text=parity(worst=float("nan"))), "nan"),
        # nothing exact to fall back on
        (files(parity_text=parity(precision="int8", worst=1e-7)), "fp32: none"),
        # no format within its budget
        (files(quality_text=quality(passed=False, statement="none is left")), f"{FORMAT_TO_SERVE}: none is left"),
        (files(quality_text="{}"), "another form"),
        # files of another form
        (files("[]"), "not a JSON object"),
        (files(parity_text="{}"), "another form"),
        (files("no json"), "not JSON"),
    ],
)
def test_what_is_not_good_enough_is_refused_with_its_numbers(revision: FakeRevision, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        require_pass(ENCODER.read_checks(revision), "experiment x", "remedy")


@pytest.mark.parametrize("missing", [ENCODER.artifact.verdict, ENCODER.artifact.parity, ENCODER.artifact.quality])
def test_an_experiment_without_a_verdict_is_an_error_that_names_the_file(missing: str) -> None:
    whole = {ENCODER.artifact.verdict: verdict(), ENCODER.artifact.parity: parity(), ENCODER.artifact.quality: quality()}
    with pytest.raises(SettingsError, match=missing):
        ENCODER.read_checks(FakeRevision({name: text for name, text in whole.items() if name != missing}))


def test_formats_that_were_left_out_are_named() -> None:
    checks = {check.name: check for check in ENCODER.read_checks(files(parity_text=parity(dropped=["openvino_int8"])))}
    assert "openvino_int8 (too far off)" in checks["formats"].detail
