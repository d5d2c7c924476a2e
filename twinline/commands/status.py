"""`twinline status`: what runs, and what is being served."""

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from clients.settings import load_settings
from twinline.stack.status import PartStatus, StackStatus, read_status

_COLOURS = {"ready": "green", "starting": "yellow", "failed": "red", "unsupervised": "red", "stopped": "dim"}


def command(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show every part of the stack. Exit code 0 when all are ready, 1 otherwise."""
    status = read_status(load_settings())
    if as_json:
        typer.echo(json.dumps(asdict(status), indent=2))
    else:
        _show(status, Console(highlight=False))
    if not status.is_ready:
        raise typer.Exit(1)


def _show(status: StackStatus, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("part", "state", "pid", "ports", "up for", "memory"):
        table.add_column(heading, justify="right" if heading in ("pid", "up for", "memory") else "left")
    for part in status.parts:
        table.add_row(*_cells(part))
    console.print(table)
    for part in status.parts:
        if part.problem:
            console.print(f"{part.name}: {part.problem}", style="yellow")
    if status.served is not None:
        console.print(json.dumps(status.served, indent=2))


def _cells(part: PartStatus) -> tuple[str, ...]:
    return (
        part.name,
        f"[{_COLOURS[part.state]}]{part.state}[/]",
        str(part.pid or ""),
        " ".join(str(port) for port in part.ports),
        str(timedelta(seconds=int(part.uptime_seconds))) if part.uptime_seconds is not None else "",
        f"{part.memory_bytes / 2**20:,.0f} MiB" if part.memory_bytes else "",
    )
