"""Proofs: each plants failures in a working system, prints figures, and ends with 0 or 1.

python -m proofs skew      every known way for training and serving to drift apart is refused, at the right place
python -m proofs gates     every bad encoder is refused by the right gate, in a real DAG run
python -m proofs kills     the system recovers after kill -9 of any participant at any step of a release
python -m proofs switch    no search fails, no answer mixes two releases and no document is lost while a release takes over
python -m proofs roles     every role runs from the wheel with its own packages alone, in a project without code
python -m proofs hostile   no file ends an ingest, takes more than its budget, costs a neighbour or leads out of its folder
python -m proofs foreign   all that other people's producers write is indexed or set aside, with every codec and transaction
python -m proofs clock     nothing is lost and a rollback takes its usual time while the broker's clock and ours step
python -m proofs strange-machine   the first hour goes well behind a proxy, in odd paths and locales, on every promised Python
python -m proofs one-clone   README's two commands end well in one clone, in both orders
python -m proofs chaos     nothing is lost, duplicated or stale after kill -9 of every participant under load
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from twinline.clients.run import run

Report = Mapping[str, Any]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def skew(
    short: Annotated[bool, typer.Option("--short", help="A few faults, one of each kind, over few documents.")] = False,
    only: Annotated[str, typer.Option(help="Names of faults, with commas between them.")] = "",
    workspace: Annotated[Path, typer.Option(help="Folder for releases and the stack's state.")] = Path("var/proofs/skew"),
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
) -> None:
    """Plant faults one at a time in a working system; each must be refused at a door or caught by a hop, at the right place."""
    from proofs.skew.run import measure_faults, passed
    from proofs.tables import faults_table

    names = [name.strip() for name in only.split(",") if name.strip()]
    report = measure_faults(workspace.resolve(), names, short=short)
    _end(report, passed(report), as_json, faults_table)


@app.command()
def gates(
    short: Annotated[bool, typer.Option("--short", help="Two of the cases.")] = False,
    only: Annotated[str, typer.Option(help="Names of cases, with commas between them.")] = "",
    workspace: Annotated[Path, typer.Option(help="Folder for the clone and its stack; must have a short path.")] = Path(
        "var/proofs/gates"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
) -> None:
    """Plant bad encoders one at a time in a clone of this checkout; the DAG's gate must refuse each, by the right check."""
    from proofs.gates.run import measure_gates, passed
    from proofs.tables import gates_table

    names = [name.strip() for name in only.split(",") if name.strip()]
    report = measure_gates(workspace.resolve(), names, short=short)
    _end(report, passed(report), as_json, gates_table)


@app.command()
def kills(
    short: Annotated[bool, typer.Option("--short", help="A few kills.")] = False,
    only: Annotated[str, typer.Option(help="Parts of kills' names, with commas between them.")] = "",
    workspace: Annotated[Path, typer.Option(help="Folder for releases and the stack's state.")] = Path("var/proofs/switch"),
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
) -> None:
    """Kill -9 each participant at each step of a release; searches are served, and a repeat of the command finishes."""
    from proofs.kills.run import measure_kills, passed
    from proofs.tables import kills_table

    names = [name.strip() for name in only.split(",") if name.strip()]
    report = measure_kills(workspace.resolve(), names, short=short)
    _end(report, passed(report), as_json, kills_table)


@app.command()
def switch(
    short: Annotated[bool, typer.Option("--short", help="Over few documents, and for a few seconds.")] = False,
    seconds: Annotated[float, typer.Option(min=0.5, help="Load before, after and between switches; --short: 2.")] = 30.0,
    workspace: Annotated[Path, typer.Option(help="Folder for releases and the stack's state.")] = Path("var/proofs/switch"),
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
) -> None:
    """Build, verify, promote, roll back and promote again under searches and writes; count failed, mixed and lost ones."""
    from proofs.switch.run import measure_switch, passed
    from proofs.tables import switch_table

    report = measure_switch(workspace.resolve(), 2.0 if short else seconds, short=short)
    _end(report, passed(report), as_json, switch_table)


@app.command()
def roles(
    short: Annotated[bool, typer.Option("--short", help="Client and serve only.")] = False,
    workspace: Annotated[Path, typer.Option(help="Folder for wheel, environments and project; must have a short path.")] = Path(
        "var/proofs/roles"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
) -> None:
    """Build the wheel, install each role by itself, and run it against a stack; print what each weighs."""
    from proofs.roles.run import measure_roles, passed
    from proofs.tables import roles_table

    report = measure_roles(workspace.resolve(), short=short)
    _end(report, passed(report), as_json, roles_table)


@app.command()
def hostile(
    short: Annotated[bool, typer.Option("--short", help="A part of the files.")] = False,
    seed: Annotated[int, typer.Option(help="Of the damage.")] = 1,
    workspace: Annotated[Path, typer.Option(help="Folder for files and snapshots.")] = Path("var/proofs/hostile"),
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
) -> None:
    """Ingest files made to harm, over all readers, beside good ones; count what they cost."""
    from proofs.hostile.run import measure_hostile, passed
    from proofs.tables import hostile_table

    report = measure_hostile(workspace.resolve(), seed, short=short)
    _end(report, passed(report), as_json, hostile_table)


@app.command()
def clock(
    steps: Annotated[int | None, typer.Option(min=20, help="Steps of a clock; default 1000, with --short 120.")] = None,
    seed: Annotated[int, typer.Option(help="Of steps, messages and batches.")] = 1,
    short: Annotated[bool, typer.Option("--short", help="Fewer steps.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
) -> None:
    """Step the broker's clock and ours at random under updates, deletions and rollbacks; every key ends in its last state."""
    from proofs.clock.run import measure_clock

    report = measure_clock(steps if steps is not None else 120 if short else 1_000, seed)
    _end(report, not report["failures"], as_json)


@app.command()
def chaos(
    kills: Annotated[int | None, typer.Option(help="Confirmed deaths by SIGKILL; default 100, with --short 9.")] = None,
    seed: Annotated[int, typer.Option(help="Of messages and of the order of deaths.")] = 1,
    short: Annotated[bool, typer.Option("--short", help="One death of each class, close together.")] = False,
    rate: Annotated[float | None, typer.Option(help="Messages a second, from both producers; default 6, with --short 4.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop killing after this time, even with fewer kills.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the home with its logs.")] = False,
    sabotage: Annotated[str, typer.Option(help="Put a bug in, which the run must find.")] = "",
) -> None:
    """Kill -9 each participant under load; then a plain copy of the index must agree with a plain copy of the log."""
    from proofs.chaos.options import ChaosOptions
    from proofs.chaos.run import measure_chaos

    options = ChaosOptions(
        kills=kills if kills is not None else 9 if short else 100,
        seed=seed,
        short=short,
        rate=rate if rate is not None else 4.0 if short else 6.0,
        minutes=minutes,
        keep=keep,
        sabotage=sabotage,
    )
    report = measure_chaos(options)
    _end(report, not report["failures"], as_json)


@app.command()
def foreign(
    short: Annotated[bool, typer.Option("--short", help="300 messages, 30 transactions, 3 stops.")] = False,
    broker: Annotated[str, typer.Option(help="apache (needs Java and Maven) or embedded.")] = "apache",
    seed: Annotated[int, typer.Option(help="Of messages, transactions and their order.")] = 1,
    workspace: Annotated[Path, typer.Option(help="Folder for the broker and the index.")] = Path("var/proofs/foreign"),
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
) -> None:
    """Let librdkafka and Java write with every codec and in transactions; at every stop the consumer has handled all of it."""
    from proofs.foreign.run import measure_foreign

    sizes = (300, 30, 3) if short else (10_400, 1_000, 20)
    report = measure_foreign(workspace.resolve(), broker, *sizes, seed)
    _end(report, not report["failures"], as_json)


@app.command("strange-machine")
def strange_machine(
    only: Annotated[str, typer.Option(help="Names of machines, with commas: a version of Python, or `odd`.")] = "",
    workspace: Annotated[Path, typer.Option(help="Folder for clones and environments; must have a short path.")] = Path(
        "var/proofs/strange"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
) -> None:
    """Set up, start, fill, ask, train and stop on each promised Python and on one machine with every oddity; no step may fail."""
    from proofs.strange_machine.run import measure_machines, passed
    from proofs.tables import machines_table

    names = [name.strip() for name in only.split(",") if name.strip()]
    report = measure_machines(workspace.resolve(), names)
    _end(report, passed(report), as_json, machines_table)


@app.command("one-clone")
def one_clone(
    workspace: Annotated[Path, typer.Option(help="Folder for the clones; must have a short path.")] = Path("var/proofs/clone"),
    as_json: Annotated[bool, typer.Option("--json", help="The result on one line.")] = False,
) -> None:
    """Run `make demo` and `make test` in one clone, and the other way round in another; each must end with 0."""
    from proofs.one_clone.run import measure_one_clone, passed
    from proofs.tables import one_clone_table

    report = measure_one_clone(workspace.resolve())
    _end(report, passed(report), as_json, one_clone_table)


@app.command("all")
def run_all() -> None:
    """Run every proof in its long form, one after the other; hours."""
    from proofs.every import run_every_proof

    if not run_every_proof():
        raise typer.Exit(1)


def _end(report: Report, passed: bool, as_json: bool, table: Callable[[Report], None] | None = None) -> None:
    """Print a report, as JSON on one line or for a person, and end with 1 where it did not pass."""
    if as_json or table is None:
        typer.echo(json.dumps(report, indent=None if as_json else 2, ensure_ascii=False))
    else:
        table(report)
    if not passed:
        raise typer.Exit(1)


def main() -> None:
    """Run a proof."""
    # The libraries' own notes and bars would hide the output. Set before they are imported.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    run("proofs", app)


if __name__ == "__main__":
    main()
