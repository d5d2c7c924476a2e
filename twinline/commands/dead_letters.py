"""`twinline dead-letters`: the messages that were set aside, and why."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """List the messages that were set aside, and why."""


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")] = False,
) -> None:
    """Show dead letters with their reason, the oldest first."""
    from clients.settings import load_settings
    from streaming.dead_letters import DeadLetter, read_dead_letters

    def row(letter: DeadLetter) -> dict[str, str | int]:
        return {
            "time": letter.time,
            "release": letter.release,
            "partition": letter.message.partition,
            "offset": letter.message.offset,
            "key": (letter.message.key or b"").decode(errors="replace"),
            "stage": letter.stage,
            "reason": letter.reason,
            "error": letter.error,
        }

    rows = [row(letter) for letter in read_dead_letters(load_settings(), limit)]
    if as_json:
        for one in rows:
            typer.echo(json.dumps(one, ensure_ascii=False))
        return
    if not rows:
        typer.echo("no dead letters: every message was indexed")
        return
    table = Table("time", "release", "place", "key", "reason", "error")
    for one in rows:
        place, refused = f"{one['partition']}/{one['offset']}", f"{one['stage']}: {one['reason']}"
        cells = (one["time"], one["release"], place, one["key"], refused, one["error"])
        # A key or an error may hold what looks like the console's own mark-up.
        table.add_row(*(escape(str(cell)) for cell in cells))
    Console().print(table)
