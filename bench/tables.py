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
    names = ("encoder", "contract", "mode", "split")
    for column in (*names, "queries", "offline", "live", "live - offline"):
        table.add_column(column, justify="left" if column in names else "right")
    for row in report["encoders"]:
        table.add_row(
            row["encoder"],
            row["contract"],
            row["mode"],
            row["split"],
            str(row["queries"]),
            _with_interval(row["offline_ndcg10"], row["offline_interval"]),
            _with_interval(row["live_ndcg10"], row["live_interval"]) if "live_ndcg10" in row else "-",
            f"{row['live_minus_offline']:+.5f}" if "live_minus_offline" in row else "-",
        )
    console.print(table)
    for row in report["tuned_minus_base"]:
        console.print(f"tuned - base, {row['measured']}, contract {row['contract']}, {row['split']}: {_difference(row)}")
    first = report["encoders"][0]["contract"]
    for row in report["minus_first_contract"]:
        what = f"contract {row['contract']} - {first}, {row['measured']}, {row['encoder']}, {row['split']}"
        console.print(f"{what}: {_difference(row)}", markup=False)
    for row in report["minus_dense"]:
        what = f"{row['mode']} - dense, {row['measured']}, {row['encoder']}, {row['contract']}, {row['split']}"
        console.print(f"{what}: {_difference(row)}")
    for row in report["fusions"]:
        console.print(f"fusion of {row['encoder']}, {row['contract']}: {row['why']}")
    console.print(f"{report['seconds']} s")


def _difference(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


def _with_interval(value: float, interval: list[float]) -> str:
    return f"{value:.4f} [{interval[0]:.4f}, {interval[1]:.4f}]"


def backlog_table(report: Mapping[str, Any]) -> None:
    """Print a report of a consumed backlog."""
    console = Console()
    log = report["backlog"]
    size = f"{log['messages']:,} messages, {log['bytes'] / 1e6:.1f} MB, {log['smallest_bytes']} to {log['largest_bytes']:,} bytes"
    table = Table("", "messages/s", "MiB per 10,000 messages", "of them its own", "peak MiB", "its own", title=size)
    for name in ("consumer", "store_alone"):
        row = report[name]
        slopes = (f"{row[f'{of}slope_mib_per_10000_messages']:+.2f}" for of in ("", "own_"))
        table.add_row(
            name.replace("_", " "), f"{row['messages_per_second']}", *slopes, f"{row['peak_mib']}", f"{row['own_peak_mib']}"
        )
    console.print(table)
    slope = report["own_slope_of_the_consumer_mib_per_10000_messages"]
    console.print(f"the consumer adds {slope:+.2f} MiB in 10,000 messages; encoder: {report['encoder']}; {report['seconds']} s")


def report_tables(report: Mapping[str, Any]) -> None:
    """Print the tables of a report of speed, and the facts beside them."""
    console = Console()
    for title, rows in tables(report):
        names = columns(rows)
        table = Table(*(name.replace("_", " ") for name in names), title=title or report["bench"])
        for row in rows:
            table.add_row(*(escape(str(row.get(name, ""))) for name in names))
        console.print(table)
    for name in ("machine", "limits", "exponents", "stages_fits", "indexing", "fed", "skipped"):
        if report.get(name):
            facts = "; ".join(f"{key} {value}" for key, value in report[name].items())
            console.print(f"[bold]{name}[/] {escape(facts)}", soft_wrap=True)
