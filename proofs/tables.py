"""Reports of proofs as tables for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


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
    console.print(f"control: no finding, before or after; worst cosine distances: {worst}", soft_wrap=True)
    console.print(f"{report['caught']} of {report['planted']} caught, {len(report['wrong_place'])} at another place than planted")
    for name, why in report["not_planted"].items():
        console.print(f"not planted: {name}: {why}", soft_wrap=True, markup=False)
    console.print(f"{report['seconds']} s")


def switch_table(report: Mapping[str, Any]) -> None:
    """Print a report of a switch under load."""
    console = Console()
    table = Table("phase", "answers", "p50", "p95", "p99", "max", title="Searches around a switch, milliseconds")
    phases = report["latency_ms"] | {"beside the build": report["latency_beside_build_ms"]}
    for phase, figures in phases.items():
        table.add_row(phase, *(str(figures.get(name, "-")) for name in ("answers", "p50", "p95", "p99", "max")))
    console.print(table)
    for switch in report["switches"]:
        console.print(f"{switch['what']} to {switch['to']}: {switch['seconds']} s")
    counts = ("failed", "mixed", "missing", "stale", "searches", "searches_per_second", "longest_gap_seconds")
    console.print(", ".join(f"{name} {report[name]}" for name in counts), soft_wrap=True)
    for reason in (*report["failures"], *report["mixed_reasons"], *report["missing_or_stale"]):
        console.print(reason, markup=False, soft_wrap=True)
    console.print(f"{report['seconds']} s")


def kills_table(report: Mapping[str, Any]) -> None:
    """Print a report of kills."""
    console = Console()
    table = Table("kill", "of", "exit code", "repeats", "searches failed", "longest gap, s", "", title="Kills")
    for row in report["cases"]:
        state = "[green]ok[/]" if not row["faults"] else "[bold red]FAULT[/]"
        failed = f"{row['failed']} of {row['searches']}"
        cells = (row["victim"], str(row["exit_code"]), str(row["repeats"]), failed, str(row["longest_gap_seconds"]))
        table.add_row(row["name"], *cells, state)
    console.print(table)
    for fault in report["faults"]:
        console.print(fault, style="red", markup=False, soft_wrap=True)
    console.print(f"{report['survived']} of {report['kills']} survived, {report['seconds']} s")


def gates_table(report: Mapping[str, Any]) -> None:
    """Print a report of planted encoders."""
    console = Console()
    table = Table("case", "planted", "refused by", "seconds", title="Bad encoders")
    for row in report["cases"]:
        problems = "".join(f" [red]{escape(problem)}[/]" for problem in row["problems"])
        table.add_row(row["name"], escape(row["planted"]), ", ".join(row["refused_by"]) + problems, f"{row['seconds']:.0f}")
    console.print(table)
    console.print(f"{report['by_the_right_gate']} of {report['planted']} refused by the right gate, controls passed")
    console.print(f"{report['seconds']} s")


def roles_table(report: Mapping[str, Any]) -> None:
    """Print a report of roles."""
    console = Console()
    table = Table("role", "MiB", "install, s", "--help, s", "check, s", "", title="Roles, each with its own packages alone")
    for row in report["roles"]:
        seconds = (f"{row[name]:.1f}" for name in ("install_seconds", "start_seconds", "check_seconds"))
        seen = escape(row["seen"]) if row["passed"] else f"[bold red]FAILED[/] {escape(row['seen'])}"
        table.add_row(row["role"], f"{row['size_mib']:.0f}", *seconds, seen)
    console.print(table)
    for fault in report["wheel_faults"]:
        console.print(fault, style="red", soft_wrap=True, markup=False)
    console.print(f"{report['wheel']}: {len(report['wheel_faults'])} faults; {report['seconds']} s")


def hostile_table(report: Mapping[str, Any]) -> None:
    """Print a report of hostile files."""
    console = Console()
    table = Table("place", "files", "set aside", "peak MiB", "seconds", "", title="Files made to harm")
    for row in report["places"]:
        state = "[green]ok[/]" if not row["facts"] else "[bold red]HARM[/]"
        cells = (str(row[name]) for name in ("files", "set_aside", "peak_mib", "seconds"))
        table.add_row(row["place"], *cells, state)
    console.print(table)
    for row in report["places"]:
        for fact in row["facts"]:
            console.print(f"{row['place']}: {fact}", style="red", markup=False, soft_wrap=True)
    console.print(
        f"{report['files']} files over {report['readers']} endings: ingests ended {report['ended']}, memory over budget "
        f"{report['over_budget']}, neighbours missing {report['missing']}, neither read nor set aside {report['unsaid']}, "
        f"links followed out {report['followed']}; {report['seconds']} s",
        soft_wrap=True,
    )


def one_clone_table(report: Mapping[str, Any]) -> None:
    """Print a report of both commands in one clone."""
    console = Console()
    table = Table("order", "command", "", "seconds", "seen", title="Both commands in one clone")
    for row in report["steps"]:
        verdict = "[green]green[/]" if row["passed"] else "[bold red]FAILED[/]"
        table.add_row(row["order"], row["command"], verdict, f"{row['seconds']:.1f}", escape(row["seen"][-200:]))
    console.print(table)
    console.print(
        f"{len(report['steps'])} steps, {sum(not row['passed'] for row in report['steps'])} failed; {report['seconds']} s"
    )


def machines_table(report: Mapping[str, Any]) -> None:
    """Print a report of strange machines."""
    console = Console()
    table = Table("machine", "step", "", "seconds", "seen", title="A stranger's first hour")
    colours = {"green": "green", "refused": "yellow", "FAILED": "bold red"}
    for row in report["steps"]:
        verdict = f"[{colours[row['verdict']]}]{row['verdict']}[/]"
        table.add_row(row["machine"], row["name"], verdict, f"{row['seconds']:.1f}", escape(row["seen"][-200:]))
    console.print(table)
    failed = sum(row["verdict"] == "FAILED" for row in report["steps"])
    console.print(f"{len(report['steps'])} steps, {failed} failed; {report['seconds']} s")
