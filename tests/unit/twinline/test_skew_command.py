"""`twinline skew`: a table or one JSON line, and an exit code that a scheduler can act on."""

import json

import pytest
from typer.testing import CliRunner

from twinline import __main__ as entry
from twinline.clients.run import FAILED, exit_code
from twinline.commands.skew import EXIT_UNMEASURED, SkewError
from twinline.contract.errors import TransientError
from twinline.upkeep.skew import opening
from twinline.upkeep.skew.report import Hop, SampleReport, SkewReport

_SAMPLE = SampleReport(3, 2, 1, 0, 4, 4, 4, 4, 2e-7, 1e-8, 4e-6, "[src, a]", ())
_HOPS = (Hop("rules", "ok"), Hop("tokens", "ok", texts=54), Hop("tensorrt_fp16", "not run", "there is no GPU [here]"))
_BROKEN = Hop("onnx_fp32", "broken", "golden text long is 0.1 away", 54, 0, 0.1, 1e-8, 1e-6, "long")


def invoke(monkeypatch: pytest.MonkeyPatch, found: object, *arguments: str) -> tuple[int, str, BaseException | None]:
    def measure(*_: object) -> object:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(opening, "measure_release", measure)
    done = CliRunner().invoke(entry.build_app(["skew"]), ["skew", *arguments], env={"COLUMNS": "160"})
    return done.exit_code, done.output, done.exception


def test_all_well_is_a_table_with_what_was_not_run_and_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    code, shown, _ = invoke(monkeypatch, SkewReport("r1", "s" * 64, "c" * 64, _HOPS, _SAMPLE))
    assert code == 0
    assert "tensorrt_fp16: there is no GPU [here]" in shown
    assert "2 of 3 documents compared (1 expired from the log, 0 changed meanwhile), 4 chunks agree in spans 100.0%" in shown
    assert "2 hops agree with its golden texts, and 2 of 3 sampled documents with the offline path; not run" in shown


def test_skew_is_an_error_that_names_the_first_broken_hop_after_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    report = SkewReport("r1", "s", "c", (*_HOPS, _BROKEN, Hop("triton grpc", "broken", "too")), _SAMPLE)
    code, shown, error = invoke(monkeypatch, report, "--json")
    assert code == FAILED
    assert isinstance(error, SkewError)
    assert exit_code(error) == FAILED
    assert str(error) == "skew in release r1, first at hop `onnx_fp32`: golden text long is 0.1 away"
    said = json.loads(shown)
    assert (said["ok"], said["broken_hop"]) == (False, "onnx_fp32")
    assert shown.count("\n") == 1
    assert "BROKEN" in invoke(monkeypatch, report)[1]


def test_what_is_away_has_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, _ = invoke(monkeypatch, TransientError("no Kafka answers at :1: start it"))
    assert code == EXIT_UNMEASURED
    assert "skew could not be measured: no Kafka answers at :1" in said


def test_before_the_first_release_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, _ = invoke(monkeypatch, None, "--json")
    assert code == 0
    assert "no release is active" in json.loads(said)["skipped"]
    assert invoke(monkeypatch, None)[0] == 0
