"""The gate lets nothing through that the stages did not vouch for."""

import pytest

from contract.errors import SettingsError
from release.checks import RefusedError, require_pass
from release.gate import PARITY_FILE, VERDICT_FILE, read_checks
from tests.unit.release.factories import FakeRevision, parity, verdict


def gate(verdict_text: str, parity_text: str) -> None:
    require_pass(read_checks(FakeRevision({VERDICT_FILE: verdict_text, PARITY_FILE: parity_text})), "experiment x", "remedy")


def test_an_encoder_that_both_stages_accept_passes() -> None:
    gate(verdict(), parity())


@pytest.mark.parametrize(
    ("verdict_text", "parity_text", "said"),
    [
        # the evaluation says no: its reason, with the numbers, is the message
        (verdict(accepted=False, reason="0.61 against 0.70"), parity(), "0.61 against 0.70"),
        # a truthy word is not a verdict
        ('{"accepted": "yes", "reasons": ["?"]}', parity(), "quality"),
        # a format over its limit
        (verdict(), parity(worst=3e-5), "3.00e-05"),
        # NaN compares false with everything, and must not pass for that
        (verdict(), parity(worst=float("nan")), "nan"),
        # nothing exact to fall back on
        (verdict(), parity(precision="int8", worst=1e-7), "fp32: none"),
        # files of another form
        ("[]", parity(), "not a JSON object"),
        (verdict(), "{}", "another form"),
        ("no json", parity(), "not JSON"),
    ],
)
def test_what_is_not_good_enough_is_refused_with_its_numbers(verdict_text: str, parity_text: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said.replace("(", r"\(")):
        gate(verdict_text, parity_text)


def test_an_experiment_without_a_verdict_is_an_error_that_names_the_file() -> None:
    with pytest.raises(SettingsError, match=VERDICT_FILE):
        read_checks(FakeRevision({PARITY_FILE: parity()}))


def test_formats_that_were_left_out_are_named() -> None:
    checks = read_checks(FakeRevision({VERDICT_FILE: verdict(), PARITY_FILE: parity(dropped=["openvino_int8"])}))
    assert "openvino_int8 (too far off)" in checks[-1].detail
