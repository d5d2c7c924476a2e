"""The table of contents of the `twinline` command."""

import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Annotated, NamedTuple

import typer

from twinline.clients.run import run


class Command(NamedTuple):
    """The module of a sub-command, and its line in the overview."""

    module: str
    summary: str


COMMANDS = {
    # the embedded stack
    "up": Command("twinline.commands.up", "Start the embedded stack: broker, Triton, online process, Airflow."),
    "status": Command("twinline.commands.status", "Show what runs, on which port, and what is being served."),
    "down": Command("twinline.commands.down", "Stop the stack: no message lost, no process left."),
    "doctor": Command("twinline.commands.doctor", "Check this machine and these environments; say what to do."),
    # documents
    "publish": Command("twinline.commands.publish", "Write documents of a source to the log."),
    "search": Command("twinline.commands.search", "Ask a question; get documents, scores and lineage."),
    "explain": Command("twinline.commands.explain", "Say why a document was or was not found by a question."),
    "trace": Command("twinline.commands.trace", "Follow an answer back to its bytes, or a document to its releases."),
    "dead-letters": Command("twinline.commands.dead_letters", "List, show, replay, discard the messages that were set aside."),
    "reconcile": Command("twinline.commands.reconcile", "Compare the log with every index, point by point; --repair."),
    "replay": Command("twinline.commands.replay", "Apply a stretch of the log again, or build a new collection from it."),
    "erase": Command("twinline.commands.erase", "Erase a document from everything, for good, with a receipt."),
    # encoders
    "train": Command("twinline.commands.train", "Run the offline pipeline as an experiment and register the encoder."),
    "changed": Command("twinline.commands.changed", "Say whether the documents changed enough to train another encoder."),
    "questions": Command("twinline.commands.questions", "Add and list your own questions; ask the running search all of them."),
    "release": Command("twinline.commands.release", "List, show, compare, build, verify, promote, roll back, retire releases."),
    # trust
    "skew": Command("twinline.commands.skew", "Measure every hop from training to the stored vector; name the one that broke."),
    # all of it
    "demo": Command("twinline.commands.demo", "Show the whole platform at work on documents this machine has."),
}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"twinline {metadata.version('twinline')}")
        raise typer.Exit


def _overview(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Semantic search whose training and serving share one contract."""


def _not_loaded() -> None:
    """Stand for a command that this call does not run, so that its name is in the overview."""


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """Return the command line, with only the module of the command named in `arguments` imported.

    Importing every module would make `twinline --help` wait for all that they import.
    """
    app = typer.Typer(
        name="twinline", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, callback=_overview
    )
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, (module, summary) in COMMANDS.items():
        if name != asked:
            app.command(name, help=summary)(_not_loaded)
            continue
        loaded = import_module(module)
        if hasattr(loaded, "app"):
            app.add_typer(loaded.app, name=name, help=summary)
        else:
            app.command(name)(loaded.command)
    return app


def main() -> None:
    """Run the command named in `sys.argv`."""
    run("twinline", _run_command)


def _run_command() -> None:
    # Built here: the module of the command is imported when telemetry is off and modules are known to be ours.
    build_app(sys.argv[1:])()


if __name__ == "__main__":
    main()
