"""The computing, storing and display of speed benches; the integration tests show that they measure."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from bench.growth import exponent, line, sizes_up_to
from bench.growth_stages import write_corpus
from bench.plots import draw, picture
from bench.results import append_to_log, keep, latest, log_lines, read_results
from bench.rounds import Work, percentiles, summary, take_turns
from bench.served_steps import steps_between
from bench.speed import encoder_flops
from twinline.contract.errors import ContractError

MACHINE = {"processor": "A processor", "cores": 2, "flags": ["avx2"], "load_before": 0.1}


@dataclass
class Runner:
    name: str
    seconds: list[float]
    log: list[str] = field(default_factory=list)

    def turn(self) -> Work:
        self.log.append(self.name)
        return Work(10, self.seconds.pop(0))


def test_the_order_changes_from_round_to_round_and_everybody_takes_part_in_each() -> None:
    log: list[str] = []
    runners = [Runner(name, [1.0] * 6, log) for name in "abc"]
    take_turns(runners, 6)
    rounds = ["".join(log[start : start + 3]) for start in range(0, 18, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) == 6
    # nobody is always first
    assert {order[0] for order in rounds} == {"a", "b", "c"}


@pytest.mark.parametrize("names", ["ab", "abc", "abcd", "abcde"])
def test_nobody_is_first_or_last_more_often_than_another(names: str) -> None:
    log: list[str] = []
    rounds = 2 * len(names)
    take_turns([Runner(name, [1.0] * rounds, log) for name in names], rounds)
    orders = ["".join(log[start : start + len(names)]) for start in range(0, len(log), len(names))]
    assert sorted(order[0] for order in orders) == sorted(order[-1] for order in orders) == sorted(2 * names)


def test_a_ratio_is_taken_within_each_round_so_that_a_slow_machine_does_not_count_against_anybody() -> None:
    # the second round is ten times slower for both
    done = {"ours": [Work(10, 1), Work(10, 10), Work(10, 1)], "other": [Work(10, 2), Work(10, 20), Work(10, 2)]}
    ours, other = summary(done, "other", "texts")
    assert (ours["ratio"], ours["ratio_lowest"], ours["ratio_highest"]) == (2, 2, 2)
    assert (ours["texts_per_second"], ours["lowest"], ours["highest"]) == (10, 1, 10)
    assert other["ratio"] == 1


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (50, 50),
        (99, 99),
        (100, 100),
        (0.5, 1),
        (99.5, 100),  # rounded up to a value that was measured
    ],
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentiles([float(number) for number in range(100, 0, -1)], share) == {f"p{share:g}_ms": expected}


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found(power: float) -> None:
    sizes = [1_000, 10_000, 100_000]
    assert exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)


def test_a_fixed_cost_and_one_per_document_are_separated() -> None:
    found = line([100, 200, 400], [2 + 0.01 * size for size in (100, 200, 400)])
    assert (found["fixed"], found["each"]) == (pytest.approx(2), pytest.approx(0.01))
    assert found["standard_error"] == pytest.approx(0, abs=1e-9)
    assert line([100, 200, 400], [3, 5, 6])["standard_error"] > 0


def test_a_line_is_always_fitted_through_three_sizes() -> None:
    assert sizes_up_to(400) == [100, 200, 400]
    assert sizes_up_to(16_000) == [1_000, 4_000, 16_000]


def test_two_sizes_have_no_exponent() -> None:
    assert exponent([1, 2], [1, 2]) is None


def test_the_operations_of_an_encoder_are_those_counted_by_hand(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text('{"hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 2}')
    # per layer: q, k, v, o: 4 * 2*4*4; up and down: 2 * 2*4*8; for 3 tokens, and scores and mixing: 2 * 2*3*3*4
    assert encoder_flops(tmp_path, [3]) == 2 * (3 * (128 + 128) + 144)


def test_a_changed_corpus_differs_in_one_document_in_a_hundred(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", 300, 0)
    write_corpus(tmp_path / "b", 300, 1)
    before, after = ((tmp_path / name).read_text().splitlines() for name in "ab")
    assert [number for number, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [0, 100, 200]
    assert len({json.loads(line)["text"] for line in before}) == 300


def report(**values: Any) -> dict[str, Any]:
    rows = [
        {"while": "idle", "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0},
        {"while": "busy", "p50_ms": 2.0, "p95_ms": 4.0, "p99_ms": 6.0, "note": "x"},
    ]
    return {"bench": "query", "machine": MACHINE, "rows": rows, **values}


def test_kept_reports_are_read_back_and_the_last_of_each_kind_counts(tmp_path: Path) -> None:
    results = tmp_path / "deep" / "results.jsonl"
    keep(report(number=1), results)
    keep(report(number=2), results)
    keep(report(bench="freshness", number=3), results)
    keep({"bench": "query", "machine": MACHINE, "number": 4}, results)  # it measured another part
    found = [latest(read_results(results), name, "rows") for name in ("query", "freshness", "growth")]
    assert [entry and entry["number"] for entry in found] == [2, 3, None]
    assert all("at" in entry for entry in found if entry)


def test_a_line_that_is_no_report_is_named(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    keep(report(), results)
    results.write_text(results.read_text() + "{}\n")
    with pytest.raises(ContractError, match=r"results\.jsonl:2"):
        read_results(results)


def test_a_log_entry_names_its_command_and_machine_and_keeps_what_stood_there(tmp_path: Path) -> None:
    log = tmp_path / "runs.md"
    log.write_text("# Log\n")
    dated = keep(report(skipped={"infinity": "no environment"}), tmp_path / "results.jsonl")
    append_to_log(dated, "python -m bench query", log)
    text = log.read_text()
    assert text.startswith("# Log\n\n### `python -m bench query`")
    assert "A processor, 2 cores (avx2), load before 0.1" in text
    assert "skipped: infinity no environment" in text
    assert "| idle | 1.0 | 2.0 | 3.0 |  |" in text
    assert log_lines(dated, "x")[-1] == "| busy | 2.0 | 4.0 | 6.0 | x |"


def test_pictures_are_drawn_of_what_was_kept(tmp_path: Path) -> None:
    row = {"contender": "ours", "chunks_per_second": 2.0, "lowest": 1.0, "highest": 3.0}
    speed = {"bench": "speed", "machine": MACHINE, "rows": [row], "chunks": 3, "tokens": 9, "corpus": "pydocs"}
    store = dict.fromkeys(("fill_seconds", "index_seconds", "query_p50_ms", "memory_mib", "disk_mib", "restart_seconds"), 1.5)
    growth = {"bench": "growth", "machine": MACHINE, "rows": [{"chunks": size, **store} for size in (1_000, 10_000)]}
    seconds = dict.fromkeys(("first_seconds", "one_percent_seconds", "no_op_seconds"), 2.5)
    stage = {"source": "lines", **seconds, "stage_peak_mib": {"ingest": 100.0, "pairs": 200.0}}
    stages = {"bench": "growth", "machine": MACHINE, "stages": [{"documents": size, **stage} for size in (1_000, 4_000)]}
    kept = [keep(entry, tmp_path / "results.jsonl") for entry in (speed, report(), growth, stages)]
    drawn = draw(kept, tmp_path / "docs")
    # The store of the last run that measured it, though a later one measured the stages alone.
    assert sorted(path.name for path in drawn) == ["bench-growth.png", "bench-query.png", "bench-speed.png", "bench-stages.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def bars_by_colour(axes: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for bar in axes.patches:
        found.setdefault(to_hex(bar.get_facecolor()), []).append(bar.get_width())
    return found


def test_a_picture_of_speed_tells_ours_from_peers_and_says_whether_the_targets_are_met() -> None:
    rates = {
        "OpenVINO int8, sorted": 80.0,
        "OpenVINO fp32, sorted": 40.0,
        "sentence-transformers torch fp32": 20.0,
        "fastembed": 10.0,
    }
    rows = [
        {"contender": name, "chunks_per_second": rate, "lowest": rate, "highest": rate, "ratio": rate / 20}
        for name, rate in rates.items()
    ]
    path = [
        {"contender": name, "documents_per_second": rate, "lowest": rate, "highest": rate, "path_is_times_faster": 50 / rate}
        for name, rate in {
            "streaming path (durable)": 50.0,
            "sentence-transformers torch fp32": 20.0,
            "naive consumer (x)": 5.0,
        }.items()
    ]
    measured = {"chunks": 3, "tokens": 9, "corpus": "pydocs", "ours": "OpenVINO int8, sorted", "rows": rows, "path": path}
    alone, whole = picture("speed", {"bench": "speed", **measured}).axes
    assert alone.get_title() == "OpenVINO int8, sorted: 4.0 x as fast as sentence-transformers torch fp32 (target 3 x: met)"
    assert [list(line.get_xdata()) for line in alone.lines if line.get_linestyle() == "--"] == [[60.0, 60.0]]
    # what is served, our other formats, the peers
    assert sorted(bars_by_colour(alone).values()) == [[10.0, 20.0], [40.0], [80.0]]
    assert sorted(bars_by_colour(whole).values()) == [[5.0, 20.0], [50.0]]
    assert "3 x sentence-transformers torch fp32: missed; 10 x naive consumer: met" in whole.get_title()


def test_a_picture_of_latencies_judges_the_row_beside_indexing() -> None:
    rows = [
        {"while": "idle", "p50_ms": 100.0, "p95_ms": 100.0, "p99_ms": 100.0},
        {"while": "indexing 5 documents a second", "p50_ms": 9.0, "p95_ms": 20.0, "p99_ms": 29.0},
    ]
    (axes,) = picture("query", {"bench": "query", "rows": rows}).axes
    assert axes.get_title().endswith("p50 9 ms (target 8: missed), p99 29 ms (target 30: met)")
    assert [list(line.get_ydata()) for line in axes.lines] == [[8, 8], [30, 30]]


def test_a_picture_of_growth_names_what_grows_faster_than_the_data() -> None:
    store = dict.fromkeys(("fill_seconds", "index_seconds", "query_p50_ms", "memory_mib", "disk_mib", "restart_seconds"), 1.5)
    rows = [{"chunks": size, **store} for size in (1_000, 10_000)]
    drawn = picture("growth", {"rows": rows, "exponents": {"fill_seconds": 1.0, "index_seconds": 1.3}})
    assert "only 'build the graph' grows faster than the data" in drawn.get_suptitle()


def test_a_picture_of_the_stages_compares_a_change_with_its_share_of_a_full_run() -> None:
    seconds = {"first_seconds": 100.0, "one_percent_seconds": 2.0, "no_op_seconds": 2.5}
    rows = [{"documents": size, "source": "lines", **seconds, "stage_peak_mib": {"pairs": 10.0}} for size in (1_000, 4_000)]
    left, right = picture("stages", {"stages": rows}).axes
    assert "1 % changed costs 2 % of a full run (met);\nnothing changed at most 2.5 s (missed)" in left.get_title()
    assert [3.0, 3.0] in [list(line.get_ydata()) for line in left.lines]
    assert "pairs takes 1.0 x the memory" in right.get_title()


def test_drawing_nothing_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="run one of them first"):
        draw([], tmp_path)


def test_made_up_vectors_have_length_one() -> None:
    from bench.synthetic import unit_vectors

    vectors = unit_vectors(np.random.default_rng(0), 50, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_what_triton_counted_becomes_milliseconds_a_request_and_requests_a_batch() -> None:
    def counted(requests: int, executions: int, milliseconds: float) -> dict[str, Any]:
        part = {"count": requests, "ns": int(milliseconds * requests * 1e6)}
        parts = ("success", "queue", "compute_input", "compute_infer", "compute_output")
        return {"execution_count": executions, "inference_stats": dict.fromkeys(parts, part)}

    before = {"encoder_r1": counted(10, 10, 1.0), "embed_r1": counted(0, 0, 0)}
    after = {"encoder_r1": counted(50, 20, 1.0), "embed_r1": counted(0, 0, 0)}
    [row] = steps_between(before, after)
    assert row == {
        "step": "encoder", "requests": 40, "requests_a_batch": 4.0, "queue_ms": 1.0, "compute_input_ms": 1.0,
        "compute_infer_ms": 1.0, "compute_output_ms": 1.0,
    }  # fmt: skip
