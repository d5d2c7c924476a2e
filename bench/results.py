"""Stored results: one line of JSON a run, a table in a log, plots. All read the same reports."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError

Report = Mapping[str, Any]
# The parts of a report that are lists of rows, with the titles of their tables.
TABLES: Final = {
    "rows": "",
    "path": "the whole path",
    "encoder": "one query at a time",
    "steps": "one query at a time, inside Triton",
    "throughput": "several clients",
    "steps_of_several": "several clients, inside Triton",
    "searches": "several searches at once, over HTTP",
    "words": "what words beside vectors cost",
    "stages": "offline stages",
    "proposed": "proposed settings",
}


def keep(report: Report, results: Path) -> dict[str, Any]:
    """Add a report to a JSON Lines file; return it with the current time."""
    dated = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **report}
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(dated, ensure_ascii=False) + "\n")
    return dated


def read_results(results: Path) -> list[dict[str, Any]]:
    """Return all reports of a JSON Lines file, oldest first.

    Raises:
        ContractError: a line is no report.
    """
    found = []
    for number, line in enumerate(results.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            report = json.loads(line)
            found.append({"bench": report["bench"], **report})
        except (ValueError, KeyError, TypeError) as exc:
            raise ContractError(f"{results}:{number} is no report of a benchmark ({exc}): remove the line") from exc
    return found


def latest(reports: Sequence[Report], bench: str, part: str) -> Report | None:
    """Return the last report of a benchmark with this part, or None: not every run measures every part."""
    return next((report for report in reversed(reports) if report["bench"] == bench and report.get(part)), None)


def append_to_log(report: Report, command: str, log: Path) -> None:
    """Add a report's tables to a Markdown log, with their command and machine."""
    with log.open("a", encoding="utf-8") as stream:
        stream.write("\n".join(["", *log_lines(report, command), ""]))


def log_lines(report: Report, command: str) -> list[str]:
    """Return the Markdown of a report."""
    found = report["machine"]
    lines = [
        f"### `{command}`, {report['at']}",
        "",
        f"{found['processor']}, {found['cores']} cores ({' '.join(found['flags'])}), load before {found['load_before']}.",
    ]
    facts = {
        name: value for name, value in report.items() if isinstance(value, str | int | float) and name not in ("bench", "at")
    }
    lines.append("; ".join(f"{name} {value}" for name, value in facts.items()))
    for name in ("limits", "exponents", "stages_fits", "indexing", "fed", "skipped"):
        if report.get(name):
            lines.append(f"{name}: " + "; ".join(f"{key} {value}" for key, value in report[name].items()))
    for title, rows in tables(report):
        lines += ["", *([title, ""] if title else []), *_markdown(rows)]
    return [line for number, line in enumerate(lines) if line or number]


def tables(report: Report) -> Iterator[tuple[str, Sequence[Mapping[str, JSON]]]]:
    """Yield the tables of a report, each with its title."""
    for name, title in TABLES.items():
        if report.get(name):
            yield title, report[name]


def columns(rows: Sequence[Mapping[str, JSON]]) -> list[str]:
    """Return the columns of a table, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _markdown(rows: Sequence[Mapping[str, JSON]]) -> list[str]:
    names = columns(rows)
    header = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    return [*header, *("| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows)]
