"""The page of hybrid search says what the reports say, set by set, and the last run of a release counts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.__main__ import app
from bench.quality_page import TARGETS, add_report, page, read_lines, write_lines
from twinline.contract.errors import ContractError

MODES = ("dense", "words", "hybrid")
VALUES = {"dense": 0.6451, "words": 0.691, "hybrid": 0.74428}


def made_up(
    data: str,
    encoders: Sequence[str] = ("base",),
    contracts: Sequence[str] = ("none",),
    splits: Sequence[str] = ("test", "test_unseen"),
    *,
    live: bool = False,
    gain: tuple[float, float] = (0.069, 0.13),
    shift: float = 0.0,
) -> dict[str, Any]:
    """Return a report of `bench quality` with values of one's own."""
    rows, minus = [], []
    for encoder in encoders:
        for contract in contracts:
            about = {"encoder": encoder, "contract": contract}
            for mode in MODES:
                for place, split in enumerate(splits):
                    value = VALUES[mode] + shift + place / 100
                    row: dict[str, Any] = {
                        **about, "mode": mode, "split": split, "queries": 300 - 197 * place, "release": "r1",
                        "offline_ndcg10": value, "offline_interval": [value - 0.04, value + 0.04],
                        "offline": {"ndcg_at_10": value, "recall_at_100": 0.925},
                        "grouped": {"offline_ndcg10": value + 0.001, "documents_listed": 7},
                    }  # fmt: skip
                    if live:
                        row |= {
                            "live_ndcg10": value, "live_interval": [value - 0.04, value + 0.04], "live_minus_offline": 0.0,
                            "live": row["offline"],
                        }  # fmt: skip
                    rows.append(row)
            for mode in ("words", "hybrid"):
                for split in splits:
                    low, high = gain
                    minus.append({**about, "mode": mode, "split": split, "mean": (low + high) / 2, "low": low, "high": high})
    return {
        "data": f"/somewhere/else/{data}",
        "metric": "ndcg_at_10",
        "encoders": rows,
        "best": {},
        "fusions": [
            {"encoder": encoder, "contract": contract, "fusion": {"rule": "scores"}, "why": f"scores is best for {encoder}"}
            for encoder in encoders
            for contract in contracts
        ],
        "tuned_minus_base": [
            {"contract": contract, "split": split, "mean": 0.03, "low": 0.01, "high": 0.05}
            for contract in contracts
            if len(encoders) == 2
            for split in splits
        ],
        "minus_dense": minus,
        "splits": None,
        "settings": {"chosen_on": "a tenth of the training questions", "questions": 95},
        "trained": None,
        "seconds": 378.4,
        "seconds_by_part": {"data": 9.5},
    }


def cells(text: str, *begin: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if row[: len(begin)] == list(begin)]


def lines_of(*reports: dict[str, Any]) -> list[Any]:
    lines: list[Any] = []
    for report in reports:
        lines = add_report(report, lines)
    return lines


def test_several_sets_are_one_table_of_set_encoder_contract_and_mode() -> None:
    both, contracts = ("base", "tuned"), ("none", "tokens")
    text = page(lines_of(made_up("scifact", both, contracts, live=True), made_up("covid_qa", splits=["test"])))
    assert cells(text, "set", "encoder", "contract")[0][3:] == [
        "test: dense", "test: words", "test: hybrid", "test: hybrid - dense",
        "test_unseen: dense", "test_unseen: words", "test_unseen: hybrid", "test_unseen: hybrid - dense",
    ]  # fmt: skip
    for encoder in both:
        for contract in contracts:
            (row,) = cells(text, "scifact", encoder, contract)
            assert row[3:7] == ["0.6451", "0.6910", "0.7443", "**+0.100 (+0.069 to +0.130)**"]
            assert row[7:] == ["0.6551", "0.7010", "0.7543", "**+0.100 (+0.069 to +0.130)**"]
            (detail,) = cells(text, encoder, contract, "hybrid", "0.7443", "0.704 to 0.784", "0.925", "0.7543")[:1]
            assert detail[7:] == ["0.714 to 0.794", "0.7453, 7 listed", "+0"]
    (row,) = cells(text, "covid_qa", "base", "none")
    assert row[7:] == ["-"] * 4
    assert "/somewhere" not in text


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.2, "**+0.101 (+0.001 to +0.200)**"),
        (-0.2, -0.001, "**-0.101 (-0.200 to -0.001)**"),
        (-0.01, 0.05, "+0.020 (-0.010 to +0.050)"),
        (0.0, 0.1, "+0.050 (+0.000 to +0.100)"),
        (0.0, 0.0, "+0.000 (+0.000 to +0.000)"),
    ],
)
def test_only_a_difference_beyond_its_interval_is_bold(low: float, high: float, said: str) -> None:
    (row,) = cells(page(lines_of(made_up("x", gain=(low, high)))), "x", "base", "none")
    assert row[6] == row[10] == said


@pytest.mark.parametrize(
    ("encoder", "shift", "verdict"),
    [
        ("base", 0.0, "met"),
        ("base", -0.0094, "missed by 0.0001"),
        ("base", 0.735 - VALUES["hybrid"], "met"),
        ("tuned", 0.0, "missed by 0.0057"),
        ("tuned", 0.01, "met"),
    ],
)
def test_a_target_is_met_or_missed_by_a_stated_amount(encoder: str, shift: float, verdict: str) -> None:
    text = page(lines_of(made_up("scifact", [encoder], shift=shift)))
    (row,) = cells(text, "scifact", encoder, f"{TARGETS['scifact', encoder]:.3f}")
    assert row[-1] == verdict


def test_a_set_without_targets_has_none() -> None:
    assert "## Targets" not in page(lines_of(made_up("covid_qa")))


def test_a_newer_run_replaces_its_releases_and_leaves_the_others() -> None:
    old = made_up("scifact", ("base", "tuned"), ("none", "tokens"), shift=-0.3)
    other = made_up("covid_qa", shift=-0.3)
    lines = lines_of(old, other, made_up("scifact", contracts=["none"]))
    text = page(lines)
    assert cells(text, "scifact", "base", "none")[0][3] == "0.6451"
    assert [cells(text, "scifact", *which)[0][3] for which in (("base", "tokens"), ("tuned", "none"))] == ["0.3451", "0.3451"]
    assert cells(text, "covid_qa", "base", "none")[0][3] == "0.3451"
    # Each release once, and a comparison only within one run.
    assert len(cells(text, "scifact", "base", "none")) == 1
    assert [row["contract"] for row in lines[0]["tuned_minus_base"]] == ["tokens", "tokens"]
    assert [line["data"] for line in lines_of(old, old)] == ["scifact"]
    assert [line["data"] for line in lines_of(old, other, old)] == ["covid_qa", "scifact"]


def test_facts_of_a_set_are_said_beside_its_table() -> None:
    report = made_up("thquad_tr", splits=["test"])
    report["splits"] = {
        "rule": "by article", "questions": {"train": 2580, "dev": 444, "test": 697}, "left_out": {"shares_with_test": 2060},
    }  # fmt: skip
    text = page(lines_of(report))
    assert "* Split by article; 2580 training questions; left out: 2060 shares with test." in text
    assert "* Settings chosen on 95 questions: a tenth of the training questions." in text
    assert "* Fusion of base, none: scores is best for base." in text
    assert "378 s: 300 test questions." in text


def test_the_command_keeps_the_figures_and_writes_the_same_page_again(tmp_path: Path) -> None:
    report, results, out = tmp_path / "report.json", tmp_path / "hybrid.jsonl", tmp_path / "hybrid.md"
    report.write_text(json.dumps(made_up("scifact", live=True)))
    (tmp_path / "other.json").write_text(json.dumps(made_up("xquad_en", splits=["test", "test_all"])))
    options = ["--results", str(results), "--out", str(out)]
    done = CliRunner().invoke(app, ["page", str(report), str(tmp_path / "other.json"), *options])
    assert done.exit_code == 0, done.output
    first = out.read_text("utf-8")
    assert len(cells(first, "xquad_en", "base", "none")) == len(cells(first, "scifact", "base", "none")) == 1
    kept = results.read_bytes()
    out.unlink()
    assert CliRunner().invoke(app, ["page", *options]).exit_code == 0
    assert (out.read_text("utf-8"), results.read_bytes()) == (first, kept)
    assert b"/somewhere" not in kept
    lines = read_lines(results)
    write_lines(tmp_path / "again.jsonl", lines)
    assert (tmp_path / "again.jsonl").read_bytes() == kept


@pytest.mark.parametrize("wrong", [{}, {"data": "x"}, {**made_up("x"), "encoders": None}, {**made_up("x"), "data": None}])
def test_a_file_that_is_no_report_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="no report of `bench quality --json`"):
        add_report(wrong, [])


def test_the_committed_page_is_what_the_command_writes() -> None:
    figures = Path(__file__).resolve().parents[3] / "docs" / "figures"
    assert (figures / "hybrid.md").read_text("utf-8") == page(read_lines(figures / "hybrid.jsonl"))
