"""`python -m release`: from a trained encoder to answers, one step a command, each safe to repeat.

    gate      the stages' verdict on an experiment, or a refusal with the numbers
    register  a version in the registry, its files in the DVC remote
    fetch     the release's folder here, every file as its manifest says
    publish   the release's models in Triton, golden texts as in training
    build     the release's collection: snapshot, then the log, then kept up to date
    verify    caught up, whole, equal, found
    switch    the release answers; the one before it stays loaded, for a way back

The last line on standard output is one JSON object, for whatever calls this; what a person reads is on standard error.
Exit codes: 1 failed, 2 used wrongly, 3 refused.
"""

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from clients import telemetry

telemetry.apply()

from clients.base_model import DEFAULT_BASE_MODEL  # noqa: E402
from clients.settings import CHECKOUT, load_settings  # noqa: E402
from contract.errors import SettingsError, TransientError, TwinlineError  # noqa: E402
from contract.selfcheck import check_process  # noqa: E402
from release.checks import RefusedError  # noqa: E402
from triton_models.names import Device  # noqa: E402

if TYPE_CHECKING:
    from release.flow import Flow

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED = 1, 2, 3

Revision = Annotated[str, typer.Argument(help="Experiment, version, stage or commit; `workspace` for the files here.")]
Release = Annotated[str, typer.Argument(help="A release's id, such as r0123456789ab.")]
DeviceOption = Annotated[Device, typer.Option(help="Where Triton runs the encoder.")]


@app.command("gate")
def gate_command(revision: Revision) -> None:
    """Refuse an encoder that is not good enough."""
    _flow().gate(revision)
    _result(revision=revision, passed=True)


@app.command("register")
def register_command(revision: Revision) -> None:
    """Register an encoder that passes the gate as the next version."""
    flow = _flow()
    entry = flow.register(revision)
    _result(version=entry.version, release=flow.registry.release_of(entry), revision=entry.revision)


@app.command("fetch")
def fetch_command(what: Annotated[str, typer.Argument(help="Version, stage, experiment, or a release's folder.")]) -> None:
    """Bring a release here."""
    manifest = _flow().fetch(what)
    _result(release=manifest.release, space=manifest.space)


@app.command("publish")
def publish_command(release: Release, device: DeviceOption = "cpu") -> None:
    """Load a release in Triton."""
    _flow().publish(release, device)
    _result(release=release)


@app.command("build")
def build_command(
    release: Release, snapshot: Annotated[str, typer.Option(help="Start from this snapshot of the topic.")] = ""
) -> None:
    """Build a release's collection and serve it."""
    _flow().build(release, snapshot)
    _result(release=release)


@app.command("verify")
def verify_command(
    release: Release,
    sample: Annotated[int, typer.Option(min=1, help="How many documents to look at closely.")] = 24,
    patience_seconds: Annotated[float, typer.Option(help="How long the consumer may stand still.")] = 120.0,
) -> None:
    """Refuse a collection that is not whole, right and findable."""
    _flow().verify(release, sample, patience_seconds)
    _result(release=release, verified=True)


@app.command("switch")
def switch_command(release: Release) -> None:
    """Make a release the active one; the same command with the id of the one before goes back."""
    before = _flow().switch(release)
    _result(release=release, before=before)


@app.command("retire")
def retire_command(release: Release) -> None:
    """Take a release that is not active out of service: models unloaded, collection dropped."""
    _result(release=release, retired=_flow().retire(release))


@app.command("deploy")
def deploy_command(
    what: Annotated[str, typer.Argument(help="Version, stage, experiment, or a release's folder.")],
    device: DeviceOption = "cpu",
) -> None:
    """Fetch, publish, build, verify and switch."""
    _result(release=_flow().deploy(what, device).release)


@app.command("bootstrap")
def bootstrap_command(
    base_model: Annotated[str, typer.Option(help="A folder, package:NAME or a Hugging Face name.")] = DEFAULT_BASE_MODEL,
    chunker: Annotated[str, typer.Option(help="tokens, or none for one vector a document.")] = "tokens",
    device: DeviceOption = "cpu",
) -> None:
    """Put an untuned base model into service: a first search before anything is trained."""
    folder = load_settings().home / "base" / "release"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # In a process of its own: exporting needs torch, and nothing here may.
    options = ["--out", str(folder), "--base-model", base_model, "--chunker", chunker]
    done = subprocess.run([sys.executable, "-m", "export", "base", *options], cwd=CHECKOUT, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise TransientError(f"exporting {base_model} ended with {done.returncode}, its message stands above")
    _result(release=_flow().deploy(str(folder), device).release)


@app.command("list")
def list_command() -> None:
    """List registered versions, and what is fetched, served and active."""
    from rich.console import Console

    from release.overview import overview

    table, notes = overview(load_settings(), CHECKOUT)
    Console().print(table)
    for note in notes:
        _say(note)


@app.command("show")
def show_command(release: Release) -> None:
    """Print the manifest of a fetched release."""
    path = load_settings().releases / release / "manifest.json"
    if not path.is_file():
        raise SettingsError(f"{path} does not exist: see `twinline release list`, and fetch the release first")
    typer.echo(path.read_text())


def _flow() -> "Flow":
    # Imported here: Kafka's and Triton's clients take a second that `--help` need not wait for.
    from release.flow import Flow

    return Flow(load_settings(), _say)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _result(**fields: str | bool) -> None:
    typer.echo(json.dumps(fields))


def main() -> None:
    """Run a step; an error of ours is one line and an exit code."""
    try:
        check_process()
        app()
    except TwinlineError as error:
        typer.secho(f"release: {error}", err=True, fg=typer.colors.RED)
        sys.exit(exit_code(error))


def exit_code(error: TwinlineError) -> int:
    """Return the exit code of an error: a scheduler does not repeat what was refused or used wrongly."""
    if isinstance(error, RefusedError):
        return EXIT_REFUSED
    return EXIT_USAGE if isinstance(error, SettingsError) else EXIT_FAILED


if __name__ == "__main__":
    main()
