"""`python -m bench quality`: is what people get the same as what was evaluated, and is tuning worth it?"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from clients import telemetry

telemetry.apply()

from contract.errors import TwinlineError  # noqa: E402

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def benchmarks() -> None:
    """Figures, measured side by side in one run."""


@app.command()
def quality(
    data: Annotated[Path, typer.Option(help="A BEIR folder or zip.")],
    live: Annotated[bool, typer.Option(help="Publish, index and ask through the running platform as well.")] = False,
    encoders: Annotated[
        str, typer.Option(help="Which encoders: base, tuned (on the set's train split), or both.")
    ] = "base,tuned",
    contracts: Annotated[str, typer.Option(help="Which chunkers: none, tokens, or both.")] = "none,tokens",
    workspace: Annotated[Path, typer.Option(help="Folder for data, weights and the stack's state.")] = Path("var/bench/quality"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print nDCG@10 of each encoder under each contract, evaluated offline and asked for live, with intervals."""
    from bench.quality import QualityRun, measure_quality
    from bench.tables import quality_table

    run = QualityRun(data.resolve(), _names(encoders, ("base", "tuned")), _names(contracts, ("none", "tokens")), live)
    report = measure_quality(run, workspace.resolve())
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        quality_table(report)


def _names(listed: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in listed.split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise typer.BadParameter(f"{listed!r}: choose from {', '.join(known)}")
    return names


def main() -> None:
    """Run a benchmark; our own errors are one line, not a traceback."""
    try:
        app()
    except TwinlineError as error:
        typer.echo(f"bench: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
