"""A report of skew as tables for a person."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twinline.upkeep.skew.drift import HEADINGS, DriftReport
from twinline.upkeep.skew.report import Hop, SampleReport, SkewReport

_STATES = {"ok": "[green]ok[/]", "broken": "[bold red]BROKEN[/]", "not run": "[yellow]not run[/]"}
_NUMBERS = ("texts", "other ids", "worst", "median", "limit")


def show(report: SkewReport, console: Console) -> None:
    """Print the hops, the sample, drift, and the result in one sentence."""
    console.print(f"release {report.release}, space {report.space[:12]}, contract {report.contract[:12]}")
    table = Table("hop", *_NUMBERS, "worst text", "result", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in table.columns[1 : 1 + len(_NUMBERS)]:
        column.justify = "right"
    # A narrow terminal may break the name of a text, and no figure.
    for column in table.columns:
        column.no_wrap = column.header not in ("other ids", "worst text")
    for hop in report.hops:
        table.add_row(*_row(hop))
    console.print(table)
    for hop in report.hops:
        if hop.detail:
            console.print(f"{hop.name}: {hop.detail}", style="yellow", markup=False, soft_wrap=True)
    console.print(_sample(report.sample, report.sample_reason), markup=False, soft_wrap=True)
    _show_drift(report.drift, console)
    console.print(report.sentence(), style="green" if report.ok else "bold red", markup=False, soft_wrap=True)


def _show_drift(drift: DriftReport | None, console: Console) -> None:
    if drift is None or drift.note:
        reason = drift.note if drift else "not measured: beside skew it would say nothing"
        console.print(f"drift: {reason}", markup=False, soft_wrap=True)
        return
    console.print("drift: live texts against those that the encoder was trained on; no fault of ours, and no reason to fail")
    table = Table(*HEADINGS, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in drift.rows():
        table.add_row(*map(escape, row))
    console.print(table)


def _row(hop: Hop) -> tuple[str, ...]:
    numbers = (_distance(hop.worst), _distance(hop.median), _distance(hop.limit))
    texts = (str(hop.texts), str(hop.other_ids)) if hop.texts else ("", "")
    return (hop.name, *texts, *numbers, escape(hop.worst_text), _STATES[hop.state])


def _sample(sample: SampleReport | None, reason: str) -> str:
    if sample is None:
        return f"live sample: not taken: {reason}"
    apart = f"{sample.expired} expired from the log, {sample.moved} changed meanwhile"
    agree = ", ".join(f"{name} {sample.share(number):.1%}" for name, number in sample.agreeing.items())
    figures = f"{sample.compared} of {sample.documents} documents compared ({apart}), {sample.chunks} chunks agree in {agree}"
    if sample.worst is None:
        return f"live sample: {figures}"
    distances = f"worst {sample.worst:.2e} {sample.worst_document}, median {_distance(sample.median)}, limit {sample.limit:.0e}"
    return f"live sample: {figures}; {distances}"


def _distance(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"
