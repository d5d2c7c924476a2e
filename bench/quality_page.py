"""The page of hybrid search by data set, written from kept reports of `bench quality`.

REPORT.json of a run ──add──> docs/figures/hybrid.jsonl, a line a run ──write──> docs/figures/hybrid.md
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.offline import MODES
from twinline.contract.errors import ContractError

Line = Mapping[str, Any]
_SPLITS: Final = ("test", "test_unseen")
# nDCG@10 of hybrid search on the test split, by set and encoder.
TARGETS: Final = {("scifact", "base"): 0.735, ("scifact", "tuned"): 0.75}
_NONE: Final = "-"
_DIGITS: Final = 6
_KEPT: Final = ("encoders", "minus_dense", "tuned_minus_base", "fusions", "splits", "settings", "trained")
_TIMES: Final = ("seconds", "seconds_by_part")
_HEAD: Final = """\
# Hybrid search by data set

Written by `python -m bench page` from `hybrid.jsonl`; edits are lost. `python -m bench quality --data FOLDER --live --json`
measures, `python -m bench page REPORT.json` adds the report. Without `--live` the figures are those of the offline evaluation.

* nDCG@10 with the 95 % interval over the queries; differences are paired, query by query. **Bold**: the interval excludes 0.
* Fusion and training were set on development questions. Each test split was scored once, after that.
* test_unseen: questions about documents that no training question has. Sets of questions with answers are split by article, so
  their whole test is unseen; see [evaluation-data](../decisions/evaluation-data.md).
"""


def add_report(report: Mapping[str, Any], kept: Sequence[Line]) -> list[Line]:
    """Return the kept lines with a run's figures; these replace earlier ones of the same set, encoder and contract.

    Raises:
        ContractError: it is no report of `bench quality`.
    """
    try:
        line = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            # A path is of one machine.
            "data": Path(report["data"]).stem,
            **{name: _rounded(report[name]) for name in (*_KEPT, *_TIMES)},
        }
        measured = {(row["encoder"], row["contract"]) for row in report["encoders"]}
    except (KeyError, TypeError) as exc:
        raise ContractError(f"this is no report of `bench quality --json` ({exc}): run it again") from exc
    return [*filter(None, (_without(old, measured) if old["data"] == line["data"] else old for old in kept)), line]


def read_lines(path: Path) -> list[Line]:
    """Return the kept lines; none where the file is not there yet."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """Write the kept lines."""
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")


def page(lines: Sequence[Line]) -> str:
    """Return the page in Markdown."""
    sets = list(dict.fromkeys(line["data"] for line in lines))
    parts = [_HEAD, *_summary(lines)]
    if reached := list(_targets(lines)):
        parts += ["", "## Targets", "", *_table(("set", "encoder", "target", "best hybrid", "verdict"), reached)]
    for name in sets:
        parts += ["", *_set(name, [line for line in lines if line["data"] == name])]
    return "\n".join([*parts, ""])


def _summary(lines: Sequence[Line]) -> list[str]:
    columns = ["set", "encoder", "contract", *(f"{split}: {mode}" for split in _SPLITS for mode in (*MODES, "hybrid - dense"))]
    found = []
    for line in lines:
        for encoder, contract in _releases(line):
            values = [line["data"], encoder, contract]
            for split in _SPLITS:
                values += [_value(_row(line, encoder, contract, mode, split)) for mode in MODES]
                values.append(_difference(_compared(line, encoder, contract, "hybrid", split)))
            found.append(values)
    return ["## Hybrid against vectors alone", "", *_table(columns, found)]


def _targets(lines: Sequence[Line]) -> Iterator[list[str]]:
    for (name, encoder), target in TARGETS.items():
        rows = [
            row
            for line in lines
            if line["data"] == name
            for row in line["encoders"]
            if (row["encoder"], row["mode"], row["split"]) == (encoder, "hybrid", "test")
        ]
        if rows:
            row = max(rows, key=_ndcg)
            verdict = "met" if _ndcg(row) >= target else f"missed by {target - _ndcg(row):.4f}"
            yield [name, encoder, f"{target:.3f}", f"{_ndcg(row):.4f} ({row['contract']}, {_kind(row)})", verdict]


def _set(name: str, lines: Sequence[Line]) -> list[str]:
    columns = ["encoder", "contract", "mode"]
    columns += ["test", "95 % interval", "recall@100", "test_unseen", "95 % interval", "copies grouped, test", "live - offline"]
    found = []
    for line in lines:
        for encoder, contract in _releases(line):
            for mode in MODES:
                of_test, unseen = (_row(line, encoder, contract, mode, split) for split in _SPLITS)
                values = [encoder, contract, mode, _value(of_test), _interval(of_test)]
                values.append(f"{of_test[_kind(of_test)]['recall_at_100']:.3f}" if of_test else _NONE)
                values += [_value(unseen), _interval(unseen), _grouped(of_test), _live(of_test)]
                found.append(values)
    said = [each for line in lines for each in _facts(line)]
    return [f"## {name}", "", *said, "", *_table(columns, found)]


def _facts(line: Line) -> Iterator[str]:
    queries = {row["split"]: row["queries"] for row in line["encoders"]}
    counts = ", ".join(f"{count} {split}" for split, count in queries.items())
    yield f"* {line['at'][:10]}, {line['seconds']:.0f} s: {counts} questions."
    if line["splits"]:
        left_out = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in line["splits"]["left_out"].items())
        trained = line["splits"]["questions"]["train"]
        yield f"* Split {line['splits']['rule']}; {trained} training questions; left out: {left_out or 'none'}."
    yield f"* Settings chosen on {line['settings']['questions']} questions: {line['settings']['chosen_on']}."
    for fusion in line["fusions"]:
        yield f"* Fusion of {fusion['encoder']}, {fusion['contract']}: {fusion['why']}."
    for row in line["tuned_minus_base"]:
        yield f"* Tuned - base by vectors alone, {row['contract']}, {row['split']}: {_difference(row)}."


def _releases(line: Line) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["encoder"], row["contract"]) for row in line["encoders"]))


def _row(line: Line, encoder: str, contract: str, mode: str, split: str) -> Mapping[str, Any] | None:
    wanted = {"encoder": encoder, "contract": contract, "mode": mode, "split": split}
    return next((row for row in line["encoders"] if wanted.items() <= row.items()), None)


def _compared(line: Line, encoder: str, contract: str, mode: str, split: str) -> Mapping[str, Any] | None:
    wanted = {"encoder": encoder, "contract": contract, "mode": mode, "split": split}
    return next((row for row in line["minus_dense"] if wanted.items() <= row.items()), None)


def _kind(row: Mapping[str, Any]) -> str:
    return "live" if "live_ndcg10" in row else "offline"


def _ndcg(row: Mapping[str, Any]) -> float:
    return float(row[f"{_kind(row)}_ndcg10"])


def _value(row: Mapping[str, Any] | None) -> str:
    return f"{_ndcg(row):.4f}" if row else _NONE


def _interval(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return _NONE
    low, high = row[f"{_kind(row)}_interval"]
    return f"{low:.3f} to {high:.3f}"


def _difference(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return _NONE
    said = f"{row['mean']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
    return f"**{said}**" if row["low"] > 0 or row["high"] < 0 else said


def _grouped(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return _NONE
    groups = row["grouped"]
    return f"{groups['offline_ndcg10']:.4f}, {groups['documents_listed']} listed"


def _live(row: Mapping[str, Any] | None) -> str:
    return f"{row['live_minus_offline']:+.2g}" if row and "live_minus_offline" in row else _NONE


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    marks = ["---"] * len(columns)
    return [f"| {' | '.join(cells)} |" for cells in (columns, marks, *rows)]


def _without(line: Line, measured: set[tuple[str, str]]) -> Line | None:
    """Return a line without releases that were measured again; None where nothing is left of it."""

    def is_kept(row: Mapping[str, Any]) -> bool:
        return (row["encoder"], row["contract"]) not in measured

    encoders = [row for row in line["encoders"] if is_kept(row)]
    left = {name: [row for row in line[name] if is_kept(row)] for name in ("minus_dense", "fusions")}
    # A comparison of two encoders stays as long as both were measured in its run.
    both = {
        contract for contract in (row["contract"] for row in encoders)
        if {row["encoder"] for row in encoders if row["contract"] == contract} == {"base", "tuned"}
    }  # fmt: skip
    tuned = [row for row in line["tuned_minus_base"] if row["contract"] in both]
    return {**line, "encoders": encoders, **left, "tuned_minus_base": tuned} if encoders else None


def _rounded(value: Any, name: str = "") -> Any:
    if isinstance(value, float):
        # An equality to the last digit is no rounded one.
        return value if name == "live_minus_offline" else round(value, _DIGITS)
    if isinstance(value, Mapping):
        return {key: _rounded(each, key) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
