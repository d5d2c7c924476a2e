"""The quality stage over real ONNX files: what a format loses is measured, a format over its budget goes, the next one serves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from export.encoder.formats import Export, ExportedFormat, export_sha256, write_export
from export.encoder.heldout import HeldOutPart, sample
from export.encoder.params import QualityParams
from export.encoder.parity_stage import ParityReport
from export.encoder.quality import QualityReport, choose, measure_quality, over_budget, quickest_format, read_quality
from tests.unit.export.test_export_profile import ONNX, WORDS, world, write_graph  # noqa: F401  (world is a fixture)
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.runtime import Precision
from twinline.contract.errors import ContractError, MismatchError, SettingsError
from twinline.contract.release.manifest import DroppedFormat, Format, Parity, Quality

PARITY = Parity(worst=1e-9, median=1e-10, worst_text="a text", limit=1e-6)
COARSE = ExportedFormat("onnx_coarse", "onnxruntime", "int8", "coarse/model.onnx")
BUCKETS = (8, 24)

# One document a word, and one query a word: the right answer is the document of that word.
HELD_OUT = HeldOutPart(
    queries={f"q{number}": word for number, word in enumerate(WORDS)},
    judgements={f"q{number}": {f"d{number}": 1} for number in range(len(WORDS))},
    slices={"first half": ["q0", "q1", "q2"], "second half": ["q3", "q4", "q5"], "empty": []},
    document_ids=[f"d{number}" for number in range(len(WORDS))],
    chunk_counts=[1, 2, 1, 1, 1, 1],
    chunk_texts=[WORDS[0], WORDS[1], "strange", *WORDS[2:]],
)


def write_coarse(path: Path, spoilt_words: int) -> None:
    """Write the graph of the exact format, with nothing left of the last words."""
    write_graph(path)
    model = onnx.load(path)
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    values = numpy_helper.to_array(table).copy()
    values[len(values) - spoilt_words :] = 0.0
    table.CopyFrom(numpy_helper.from_array(values, "table"))
    onnx.save(model, path)


def measure(
    folder: Path, spoilt_words: int = 0, serve: tuple[str, ...] = ("onnx_coarse", "onnx_fp32"), **params: Any
) -> QualityReport:
    exported = folder / "exported"
    write_coarse(exported / COARSE.file, spoilt_words)
    space = read_space(exported)
    write_export(exported, Export(space, (ONNX, COARSE)))
    formats = tuple(Format(e.name, e.backend, e.precision, e.file, PARITY) for e in (COARSE, ONNX))
    parity = ParityReport(export_sha256(exported), formats, (DroppedFormat("openvino_int8", "too far off"),))
    settings = replace(QualityParams(bootstrap_samples=200), **params)
    return measure_quality(exported, Preprocessor.load(folder / "encoder"), parity, HELD_OUT, BUCKETS, serve, settings)


def read_space(exported: Path) -> str:
    import json

    return str(json.loads((exported / "formats.json").read_text())["space"])


def test_a_format_that_answers_like_the_exact_one_loses_nothing_and_is_served(world: Path) -> None:  # noqa: F811
    report = measure(world)
    figure = report.figures["onnx_coarse"]
    assert (figure.lost, figure.lost_low, figure.lost_high) == (0.0, 0.0, 0.0)
    assert figure.bytes == (world / "exported" / COARSE.file).stat().st_size
    assert figure.query_ms > 0
    assert figure.texts_per_second > 0
    assert (report.serves, report.dropped, report.check.passed) == ("onnx_coarse", (), True)
    # formats dropped by parity are reported here as well
    assert "dropped openvino_int8: too far off" in report.check.detail
    report.save(world / "quality.json")
    assert read_quality(world / "quality.json") == report


def test_a_format_that_answers_worse_is_dropped_with_its_numbers_and_the_next_one_serves(world: Path) -> None:  # noqa: F811
    report = measure(world, spoilt_words=3)
    figure = report.figures["onnx_coarse"]
    assert figure.lost > 0.05
    # the words that were spoilt are those of the second half
    assert (figure.worst_slice, figure.worst_slice_lost > figure.lost) == ("second half", True)
    assert [entry.name for entry in report.dropped] == ["onnx_coarse"]
    assert "budget encoder.quality.max_ndcg_lost 0.02" in report.dropped[0].reason
    assert (report.serves, report.check.passed) == ("onnx_fp32", True)


def test_when_no_wanted_format_is_left_the_gate_refuses_and_the_exact_one_is_packaged(world: Path) -> None:  # noqa: F811
    report = measure(world, spoilt_words=3, serve=("onnx_coarse", "openvino_int8"))
    assert not report.check.passed
    assert "none of encoder.package.serve (onnx_coarse, openvino_int8) is left" in report.check.detail
    assert report.serves == report.reference == "onnx_fp32"


def quality_of(texts_per_second: float) -> Quality:
    return Quality(0.7, 0.0, 0.0, 0.0, 0.02, "a slice", 0.0, 1000, 5.0, texts_per_second)


@pytest.mark.parametrize(
    ("rates", "serve", "dropped", "chosen"),
    [
        ({"exact": 100, "other": 120, "coarse": 200}, ("fastest",), (), "coarse"),
        # what went over its budget is not served, however quick it is
        ({"exact": 100, "other": 120, "coarse": 200}, ("fastest",), ("coarse",), "other"),
        # exactness is not given up for a tenth
        ({"exact": 100, "other": 120, "coarse": 131}, ("fastest",), (), "other"),
        ({"exact": 100, "other": 120, "coarse": 133}, ("fastest",), (), "coarse"),
        # a name before it is preferred whatever was measured, and one after it is what is left
        ({"exact": 100, "other": 120, "coarse": 200}, ("exact", "fastest"), (), "exact"),
        ({"exact": 100, "other": 120, "coarse": 200}, ("exact", "fastest"), ("exact",), "coarse"),
    ],
)
def test_fastest_is_what_was_measured_and_is_left(
    rates: Mapping[str, float], serve: Sequence[str], dropped: Sequence[str], chosen: str
) -> None:
    precisions: dict[str, Precision] = {"exact": "fp32", "other": "fp32", "coarse": "bf16"}
    parity = ParityReport("", tuple(Format(name, "openvino", precisions[name], name, PARITY) for name in rates), ())
    figures = {name: quality_of(rate) for name, rate in rates.items()}
    check, served = choose(parity, figures, [DroppedFormat(name, "over") for name in dropped], serve, "exact")
    assert (served, check.passed, check.numbers["serves"]) == (chosen, True, chosen)


def test_without_questions_the_quickest_is_measured_on_texts_alone(world: Path) -> None:  # noqa: F811
    measure(world)
    formats = [Format(e.name, e.backend, e.precision, e.file, PARITY) for e in (ONNX, COARSE)]
    preprocessor = Preprocessor.load(world / "encoder")
    name, rates = quickest_format(world / "exported", formats, preprocessor, [*WORDS, " ".join(WORDS)], BUCKETS, 8)
    assert set(rates) == {"onnx_fp32", "onnx_coarse"}
    assert min(rates.values()) > 0
    # the same graph twice: the coarse one is taken only for a tenth more
    assert name == ("onnx_coarse" if rates["onnx_coarse"] > 1.1 * rates["onnx_fp32"] else "onnx_fp32")
    assert quickest_format(world / "exported", formats[:1], preprocessor, WORDS, BUCKETS, 8)[0] == "onnx_fp32"


def test_size_and_latency_have_budgets_of_their_own(world: Path) -> None:  # noqa: F811
    report = measure(world, max_bytes=10)
    assert {entry.name for entry in report.dropped} == {"onnx_fp32", "onnx_coarse"}
    assert "budget encoder.quality.max_bytes 10" in report.dropped[0].reason
    assert not report.check.passed


@pytest.mark.parametrize(
    ("figure", "budget"),
    [
        ({"lost_high": 0.021}, "max_ndcg_lost"),
        # a broken format has no loss that could be compared
        ({"lost_high": float("nan")}, "max_ndcg_lost"),
        ({"query_ms": 5.1}, "max_query_ms"),
        ({"query_ms": float("nan")}, "max_query_ms"),
        ({"bytes": 1001}, "max_bytes"),
        # at the budget is within it; to be better than fp32 is no fault
        ({"lost_high": 0.02, "query_ms": 5.0, "bytes": 1000}, ""),
        ({"lost_high": -0.1}, ""),
    ],
)
def test_a_budget_is_exceeded_by_more_than_it(figure: Mapping[str, float], budget: str) -> None:
    reason = over_budget(replace(quality_of(100.0), **figure), QualityParams(max_bytes=1000, max_query_ms=5.0))
    assert budget in reason
    assert bool(reason) is bool(budget)


def test_a_sample_keeps_what_answers_and_all_chunks_of_a_document() -> None:
    part = sample(HELD_OUT, QualityParams(max_queries=2, max_documents=3))
    assert list(part.queries) == ["q0", "q1"]
    assert {"d0", "d1"} <= set(part.document_ids)
    assert len(part.document_ids) == 3
    assert part.chunk_texts[:3] == [WORDS[0], WORDS[1], "strange"]
    assert sum(part.chunk_counts) == len(part.chunk_texts)
    assert part.slices["second half"] == []
    assert sample(HELD_OUT, QualityParams()) == HELD_OUT


def test_figures_of_another_export_are_refused(world: Path) -> None:  # noqa: F811
    exported = world / "exported"
    parity = ParityReport("another", (), ())
    with pytest.raises(MismatchError, match="another export"):
        measure_quality(exported, Preprocessor.load(world / "encoder"), parity, HELD_OUT, BUCKETS, (), QualityParams())
    parity = ParityReport(export_sha256(exported), (), ())
    with pytest.raises(ContractError, match="no fp32 format"):
        measure_quality(exported, Preprocessor.load(world / "encoder"), parity, HELD_OUT, BUCKETS, (), QualityParams())


def test_every_precision_needs_a_budget() -> None:
    with pytest.raises(SettingsError, match="max_ndcg_lost"):
        QualityParams(max_ndcg_lost={"fp32": 0.0})
