"""The gate lets nothing through that the stages did not vouch for."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.release.factories import FakeRevision, parity, quality, verdict
from twinline.clients.run import exit_code
from twinline.clients.settings import Settings
from twinline.contract.errors import SettingsError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.release.checks import Check, RefusedError, UndecidedError, refusal_line, require_pass
from twinline.contract.release.verdict import (
    ENOUGH_QUESTIONS,
    EVALUATION_CHECKS,
    EXACT_NAMES,
    FORMAT_TO_SERVE,
    FUSION,
    NO_EVALUATION_LEAK,
    WRITTEN_CHECKS,
    Verdict,
    outcome,
)
from twinline.registry.versions import Registered
from twinline.release.__main__ import _person as person
from twinline.release.flow import Flow
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


def stated_verdict(*failed: str, without: Sequence[str] = ()) -> str:
    names = [name for name in WRITTEN_CHECKS if name not in without]
    return json.dumps(Verdict([Check(name, name not in failed, "3 queries") for name in names]).to_json())


# what failed beside the number of questions, in the evaluation or elsewhere; and what it comes to
@pytest.mark.parametrize(
    ("revision", "comes_to"),
    [
        (files(stated_verdict()), "accepted"),
        (files(stated_verdict(ENOUGH_QUESTIONS)), "undecided"),
        *((files(stated_verdict(ENOUGH_QUESTIONS, name)), "refused") for name in EVALUATION_CHECKS),
        *((files(stated_verdict(name)), "refused") for name in (*EVALUATION_CHECKS, EXACT_NAMES)),
        (files(stated_verdict(ENOUGH_QUESTIONS, EXACT_NAMES)), "refused"),
        (files(stated_verdict(ENOUGH_QUESTIONS), parity_text=parity(worst=3e-5)), "refused"),
        (files(stated_verdict(ENOUGH_QUESTIONS), quality_text=quality(passed=False)), "refused"),
        # a verdict of before the check, and of before the others that came later
        (files(verdict()), "accepted"),
        (files(stated_verdict(without=[EXACT_NAMES])), "accepted"),
        (files(stated_verdict(ENOUGH_QUESTIONS, without=[EXACT_NAMES])), "undecided"),
        (files(stated_verdict(FUSION, without=[EXACT_NAMES])), "refused"),
        (files(verdict(without=NO_EVALUATION_LEAK)), "refused"),
    ],
)
def test_only_too_few_questions_and_nothing_else_leave_a_verdict_undecided(revision: FakeRevision, comes_to: str) -> None:
    assert outcome(ENCODER.read_checks(revision)) == comes_to


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Flow, list[str]]:
    """Return the steps over a registry that has one experiment, measured on too few questions; and all that they say."""
    said: list[str] = []
    monkeypatch.setattr(Settings, "find_project", lambda self: tmp_path)
    monkeypatch.setattr("twinline.release.flow.ensure_remote", lambda *_: None)
    made = Flow(ENCODER, Settings(home=tmp_path), LOCAL_OPERATOR.signing("ann@laptop"), said.append)
    registry = made.registry
    monkeypatch.setattr(registry, "revision", lambda name: files(stated_verdict(ENOUGH_QUESTIONS)))
    monkeypatch.setattr(registry, "release_of", lambda entry: "r1")

    def register(revision: str, message: str) -> Registered:
        said.append(message)
        return Registered(1, "c" * 40, "now", message, ())

    monkeypatch.setattr(registry, "register", register)
    return made, said


def test_a_schedule_does_not_accept_what_is_undecided(flow: tuple[Flow, list[str]]) -> None:
    for step in (flow[0].gate, flow[0].register):
        with pytest.raises(UndecidedError, match=r"x is undecided: 3 queries") as caught:
            step("x")
        line = json.loads(refusal_line(caught.value))
        assert (line["undecided"], exit_code(caught.value)) == (True, 3)


def test_a_person_accepts_it_by_name_and_the_version_records_who(flow: tuple[Flow, list[str]]) -> None:
    steps, said = flow
    steps.register("x", "Ann Example")
    assert any("undecided, and accepted by Ann Example (ann@laptop)" in line for line in said)


def test_no_name_helps_what_is_refused(flow: tuple[Flow, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    refused = files(stated_verdict(ENOUGH_QUESTIONS, NO_EVALUATION_LEAK))
    monkeypatch.setattr(flow[0].registry, "revision", lambda name: refused)
    with pytest.raises(RefusedError) as caught:
        flow[0].register("x", "Ann Example")
    assert not isinstance(caught.value, UndecidedError)
    assert "undecided" not in json.loads(refusal_line(caught.value))


@pytest.mark.parametrize("name", ["Ann", " Ann "])
def test_a_scheduled_run_has_no_name_to_accept_by(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert person(name) == "Ann"
    assert person("") == ""
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "train_encoder")
    with pytest.raises(SettingsError, match="run it by hand"):
        person(name)
