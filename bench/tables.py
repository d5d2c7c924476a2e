"""Benchmark reports as tables for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.results import columns, tables


def quality_table(report: Mapping[str, Any]) -> None:
    """Print a quality report."""
    console = Console()
    table = Table(title=f"nDCG@10 on {report['data']}")
    for column in ("encoder", "contract", "split", "queries", "offline", "live", "live - offline"):
        table.add_column(column, justify="left" if column in ("encoder", "contract", "split") else "right")
    for row in report["encoders"]:
        table.add_row(
            row["encoder"],
            row["contract"],
            row["split"],
            str(row["queries"]),
            _with_interval(row["offline_ndcg10"], row["offline_interval"]),
            _with_interval(row["live_ndcg10"], row["live_interval"]) if "live_ndcg10" in row else "-",
            f"{row['live_minus_offline']:+.5f}" if "live_minus_offline" in row else "-",
        )
    console.print(table)
    for row in report["tuned_minus_base"]:
        interval = f"[{row['low']:+.4f}, {row['high']:+.4f}]"
        console.print(
            f"tuned - base, {row['measured']}, contract {row['contract']}, {row['split']}: {row['mean']:+.4f} {interval}"
        )
    console.print(f"{report['seconds']} s")


def _with_interval(value: float, interval: list[float]) -> str:
    return f"{value:.4f} [{interval[0]:.4f}, {interval[1]:.4f}]"


def faults_table(report: Mapping[str, Any]) -> None:
    """Print a report of planted faults."""
    console = Console()
    table = Table("fault", "planted", "found by", "seconds", title="Planted faults")
    for row in report["faults"]:
        place = row["found_by"] or "[bold red]MISSED[/]"
        wrong = "" if row["right"] or not row["found_by"] else f" [red](not {' or '.join(row['expected'])})[/]"
        table.add_row(row["name"], escape(row["planted"]), place + wrong, f"{row['seconds']:.2f}")
    console.print(table)
    worst = ", ".join(f"{name} {distance:.1e}" for name, distance in report["worst"].items() if distance is not None)
    console.print(f"control: nothing found, before or after; worst cosine distances: {worst}", soft_wrap=True)
    console.print(f"{report['caught']} of {report['planted']} caught, {len(report['wrong_place'])} at another place than planted")
    console.print(f"{report['seconds']} s")


def report_tables(report: Mapping[str, Any]) -> None:
    """Print the tables of a report of speed, and the facts beside them."""
    console = Console()
    for title, rows in tables(report):
        names = columns(rows)
        table = Table(*(name.replace("_", " ") for name in names), title=title or report["bench"])
        for row in rows:
            table.add_row(*(escape(str(row.get(name, ""))) for name in names))
        console.print(table)
    for name in ("machine", "limits", "exponents", "stages_exponents", "indexing", "fed", "skipped"):
        if report.get(name):
            facts = "; ".join(f"{key} {value}" for key, value in report[name].items())
            console.print(f"[bold]{name}[/] {escape(facts)}", soft_wrap=True)
