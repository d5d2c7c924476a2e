"""`twinline doctor`: whether this machine is fit, and the remedy if not."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from twinline.clients.settings import load_settings

_SIGNS = {"good": ("ok  ", "green"), "warning": ("warn", "yellow"), "bad": ("BAD ", "red")}


def command(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False) -> None:
    """Check this machine and these environments. Exit code 1 when something must be repaired."""
    from twinline.stack.checks import examine

    findings = examine(load_settings())
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        for finding in findings:
            sign, colour = _SIGNS[finding.verdict]
            console.print(sign, style=colour, end=" ")
            console.print(f"{finding.name:<13} {finding.detail}")
            if finding.remedy:
                console.print(f"     {'':<13} -> {finding.remedy}")
    if any(finding.verdict == "bad" for finding in findings):
        raise typer.Exit(1)
