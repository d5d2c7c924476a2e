"""A report of skew as tables for a person."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twinline.skew.report import Hop, SampleReport, SkewReport

_STATES = {"ok": "[green]ok[/]", "broken": "[bold red]BROKEN[/]", "not run": "[yellow]not run[/]"}
_NUMBERS = ("texts", "other ids", "worst", "median", "limit")


def show(report: SkewReport, console: Console) -> None:
    """Print the hops, the sample, drift, and the result in one sentence."""
    console.print(f"release {report.release}, space {report.space[:12]}, contract {report.contract[:12]}")
    table = Table("hop", *_NUMBERS, "worst text", "result")
    for column in table.columns[1 : 1 + len(_NUMBERS)]:
        column.justify = "right"
    for hop in report.hops:
        table.add_row(*_row(hop))
    console.print(table)
    for hop in report.hops:
        if hop.detail:
            console.print(f"{hop.name}: {hop.detail}", style="yellow", markup=False, soft_wrap=True)
    console.print(_sample(report.sample, report.sample_reason), markup=False, soft_wrap=True)
    console.print(f"drift: {report.drift.to_json() if report.drift else 'not measured'}", markup=False, soft_wrap=True)
    console.print(report.sentence(), style="green" if report.ok else "bold red", markup=False, soft_wrap=True)


def _row(hop: Hop) -> tuple[str, ...]:
    numbers = (_distance(hop.worst), _distance(hop.median), _distance(hop.limit))
    texts = (str(hop.texts), str(hop.other_ids)) if hop.texts else ("", "")
    return (hop.name, *texts, *numbers, escape(hop.worst_text), _STATES[hop.state])


def _sample(sample: SampleReport | None, reason: str) -> str:
    if sample is None:
        return f"live sample: not taken: {reason}"
    apart = f"{sample.expired} expired from the log, {sample.moved} changed meanwhile"
    agree = ", ".join(f"{name} {sample.share(getattr(sample, name)):.1%}" for name in ("spans", "tokens", "vectors"))
    figures = f"{sample.compared} of {sample.documents} documents compared ({apart}), {sample.chunks} chunks agree in {agree}"
    if sample.worst is None:
        return f"live sample: {figures}"
    distances = f"worst {sample.worst:.2e} {sample.worst_document}, median {_distance(sample.median)}, limit {sample.limit:.0e}"
    return f"live sample: {figures}; {distances}"


def _distance(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"
