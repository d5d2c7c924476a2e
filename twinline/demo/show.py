"""The demo's display: a live table on a terminal, a line a change in a log, and one table of times at the end."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from twinline.demo.chain import Progress, Step, now

_STYLES: Final = {"success": "green", "failed": "bold red", "upstream_failed": "red", "running": "bold yellow"}
_MARKS: Final = {"success": "done", "upstream_failed": "not run", "": "waits", "queued": "starts", "scheduled": "starts"}

DOES: Final = {
    "ingest_documents.ingest": "read the source into an immutable snapshot",
    "ingest_documents.publish": "write the changed documents to the Kafka topic",
    "train_encoder.changed": "how much changed since the last training",
    "train_encoder.train": "DVC experiment: pairs, fine-tuning, evaluation, export, parity",
    "train_encoder.gate": "read the verdict, check by check",
    "train_encoder.register": "a version in Git by GTO, files in the DVC remote",
    "release_encoder.fetch": "the release here, every file by its hash",
    "release_encoder.publish": "load it in Triton, compare golden texts",
    "release_encoder.build": "index the log into a new Qdrant collection",
    "release_encoder.verify": "caught up, whole, equal, found, as good as before",
    "release_encoder.promote": "the new release answers, the old one stays",
}


@dataclass(slots=True)
class Times:
    """Seconds per step, in order."""

    rows: list[tuple[str, float, str]] = field(default_factory=list)

    @contextmanager
    def measured(self, name: str, what: str) -> Iterator[None]:
        """Add a step that takes as long as the block."""
        began = time.monotonic()
        yield
        self.rows.append((name, time.monotonic() - began, what))

    def add_steps(self, steps: Iterable[Step]) -> None:
        """Add the tasks of the chain, each with its own time."""
        for step in steps:
            name = f"{step.dag_id}.{step.task_id}"
            self.rows.append((f"  {name}", step.seconds(now()) or 0.0, DOES.get(name, "")))

    def table(self, total_seconds: float) -> Table:
        """Return the table; indented rows are parts of the row before them."""
        table = Table(box=None, pad_edge=False)
        table.add_column("step")
        table.add_column("seconds", justify="right")
        table.add_column("what happened", style="dim")
        for name, seconds, what in self.rows:
            table.add_row(name, f"{seconds:.1f}", what)
        table.add_row("all", f"{total_seconds:.1f}", "", style="bold")
        return table


def watch(progress: Iterable[Progress], console: Console) -> Progress:
    """Show the chain until it ends, and return its last state."""
    return _watch_live(progress, console) if console.is_terminal else _watch_lines(progress, console)


def _watch_live(progress: Iterable[Progress], console: Console) -> Progress:
    last = Progress()
    with Live(console=console, refresh_per_second=4, get_renderable=lambda: chain_table(last)):
        for state in progress:
            last = state
    return last


def _watch_lines(progress: Iterable[Progress], console: Console) -> Progress:
    last = Progress()
    shown: dict[tuple[str, str], str] = {}
    for last in progress:
        for step in last.steps:
            name = (step.dag_id, step.task_id)
            if step.state in ("running", "success", "failed", "skipped") and shown.get(name) != step.state:
                shown[name] = step.state
                seconds = f" {step.seconds(now()) or 0:.1f} s" if step.state != "running" else ""
                console.print(f"{step.dag_id}.{step.task_id}: {step.state}{seconds}")
    return last


def chain_table(progress: Progress) -> Table:
    """Return every task of the chain with its state and seconds."""
    table = Table(box=None, pad_edge=False)
    for name in ("dag", "task", "state"):
        table.add_column(name)
    table.add_column("seconds", justify="right")
    table.add_column("what it does", style="dim", no_wrap=True, overflow="ellipsis")
    shown = ""
    for step in progress.steps:
        seconds = step.seconds(now())
        table.add_row(
            "" if step.dag_id == shown else step.dag_id,
            step.task_id,
            Text(_MARKS.get(step.state, step.state), style=_STYLES.get(step.state, "dim")),
            "" if seconds is None else f"{seconds:.1f}",
            Text(step.says or DOES.get(f"{step.dag_id}.{step.task_id}", "")),
        )
        shown = step.dag_id
    return table
