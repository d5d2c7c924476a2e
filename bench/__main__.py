"""Figures, measured side by side in one run.

python -m bench quality    is what people get the same as what was evaluated, and is tuning worth it?
python -m bench backlog    is a backlog of any size worked off at constant memory?
python -m bench speed      how fast are documents embedded, and how fast by what else one might use?
python -m bench query      how long does one question take, alone and while documents are indexed?
python -m bench freshness  how long until a new document is found?
python -m bench growth     what do size and change cost?
python -m bench training   how many pairs a second are trained on, and how many by the trainer that one might use instead?
python -m bench index      what do index settings find, and what do they cost?
python -m bench formats    what does each format lose against fp32, and how fast is it?
python -m bench peers      makes the environments of the peers;  python -m bench plot  draws kept results
"""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from bench import performance
from twinline.clients.run import run
from twinline.contract.encoder.specification import CHUNKER_VERSIONS

_CONTRACTS = ("none", "tokens", *(f"tokens@{version}" for version in CHUNKER_VERSIONS))

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


for _command in performance.COMMANDS:
    app.command()(_command)


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
    contracts: Annotated[str, typer.Option(help="Chunkers: none, tokens, tokens@1 (an older rule).")] = "none,tokens",
    workspace: Annotated[Path, typer.Option(help="Folder for data, weights and the stack's state.")] = Path("var/bench/quality"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print nDCG@10 of each encoder under each contract, evaluated offline and asked for live, with intervals."""
    from bench.quality import QualityRun, measure_quality
    from bench.tables import quality_table

    run = QualityRun(data.resolve(), _names(encoders, ("base", "tuned")), _names(contracts, _CONTRACTS), live)
    report = measure_quality(run, workspace.resolve())
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        quality_table(report)


@app.command()
def backlog(
    messages: Annotated[int, typer.Option(min=1_000, help="Messages of the backlog; 100,000 are about 40 MB.")] = 100_000,
    encoder: Annotated[str, typer.Option(help="hash: vectors of hashes, no model; triton: the real one.")] = "hash",
    release: Annotated[Path | None, typer.Option(help="A packaged release; by default the base model is exported.")] = None,
    workspace: Annotated[Path, typer.Option(help="Folder for the log and the collections.")] = Path("var/bench/backlog"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Work off a backlog of messages of all sizes, and print how memory goes over the messages done."""
    from bench.backlog import measure_backlog
    from bench.tables import backlog_table

    (chosen,) = _names(encoder, ("hash", "triton"))
    report = measure_backlog(workspace.resolve(), release and release.resolve(), messages, chosen)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        backlog_table(report)


def _names(listed: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in listed.split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise typer.BadParameter(f"{listed!r}: choose from {', '.join(known)}")
    return names


def main() -> None:
    """Run a benchmark."""
    # The libraries' own notes and bars would hide what is said. Set before they are imported.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    run("bench", app)


if __name__ == "__main__":
    main()
