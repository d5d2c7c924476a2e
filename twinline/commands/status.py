"""`twinline status`: the running processes and the served releases."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from twinline.clients.settings import load_settings

if TYPE_CHECKING:
    from twinline.clients.online import CollectionStatus
    from twinline.stack.status import PartStatus, StackStatus

_NUMBERS = {"pid", "up for", "memory", "documents", "chunks", "behind the log by", "last success"}
_COLOURS = {"ready": "green", "starting": "yellow", "failed": "red", "unsupervised": "red", "stopped": "dim"}


def command(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show every part of the stack. Exit code 0 when all are ready and every release is indexed, 1 otherwise."""
    from twinline.stack.status import read_status

    settings = load_settings()
    settings.find_home()
    status = read_status(settings)
    if as_json:
        typer.echo(json.dumps(asdict(status), indent=2))
    else:
        _show(status, Console(highlight=False))
    if not status.is_ready:
        raise typer.Exit(1)


def _show(status: "StackStatus", console: Console) -> None:
    console.print(_table(("part", "state", "pid", "ports", "up for", "memory"), map(_part_row, status.parts)))
    for part in status.parts:
        if part.problem:
            console.print(f"{part.name}: {part.problem}", style="yellow", markup=False, soft_wrap=True)
    for server in status.model_servers:
        state = f"serves {', '.join(server.releases) or 'no release'}" if server.ready else "does not answer"
        console.print(f"Triton at {server.address} {state}", style="" if server.ready else "red", markup=False, soft_wrap=True)
    for build in status.builds:
        console.print(build.describe(), markup=False, soft_wrap=True)
    if status.served_problem:
        console.print(status.served_problem, style="yellow", markup=False, soft_wrap=True)
    if status.served is None:
        return
    console.print()
    if not status.served.collections:
        console.print("no release is served yet: `twinline demo` makes one, `twinline release` brings your own")
        return
    headings = ("release", "active", "documents", "chunks", "behind the log by", "last success", "space")
    console.print(_table(headings, map(_collection_row, status.served.collections)))
    for collection in status.served.collections:
        for fault in collection.faults:
            console.print(fault, style="red", markup=False, soft_wrap=True)
        for note in collection.notes:
            console.print(f"{collection.release}: {note}", style="yellow", markup=False, soft_wrap=True)
    # Once, though every release reads the same log.
    for alarm in dict.fromkeys(alarm for collection in status.served.collections for alarm in collection.alarms):
        console.print(alarm, style="yellow", markup=False, soft_wrap=True)
    for name, reason in status.served.refused.items():
        console.print(f"{name} is not served: {reason}", style="red", markup=False, soft_wrap=True)


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=heading in _NUMBERS)
    for row in rows:
        table.add_row(*row)
    return table


def _part_row(part: "PartStatus") -> tuple[str, ...]:
    return (
        part.name,
        f"[{_COLOURS[part.state]}]{part.state}[/]",
        str(part.pid or ""),
        " ".join(str(port) for port in part.ports),
        str(timedelta(seconds=int(part.uptime_seconds))) if part.uptime_seconds is not None else "",
        f"{part.memory_bytes / 2**20:,.0f} MiB" if part.memory_bytes else "",
    )


def _collection_row(collection: "CollectionStatus") -> tuple[str, ...]:
    return (
        collection.release,
        "[green]active[/]" if collection.active else "",
        *(_count(number) for number in (collection.documents, collection.chunks, collection.lag)),
        "?" if collection.idle_seconds is None else f"{timedelta(seconds=int(collection.idle_seconds))} ago",
        collection.space[:16],
    )


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
