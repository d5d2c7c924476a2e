"""`python -m twinline.release`: from a trained encoder to answers, one step a command, each safe to repeat.

    gate      the stages' verdict on an experiment, or a refusal with the numbers
    register  a version in the registry, its files in the DVC remote
    fetch     the release's folder here, every file as its manifest says
    publish   the release's models in Triton, golden texts as in training
    build     the release's collection: snapshot, then the log, then kept up to date
    verify    caught up, whole, equal, found, as good as the active one
    promote   the verified release answers; the one before it stays loaded, for a way back

    rollback  the release before it answers again, in seconds
    repair    the model `embed`, the registry's stage and the journal agree with the active release
    retire    releases that are no longer needed are taken out of service

`list`, `show` and `diff` only report. The last line on standard output is one JSON object, for the calling program (`list`,
`show` and `diff`: with `--json`). Standard error has the lines for a person. Exit codes: 1 failed, 2 used wrongly, 3 refused; the
whole table stands in twinline/clients/run.py.
"""

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triton_models.names import Device
from twinline.clients.base_model import DEFAULT_BASE_MODEL
from twinline.clients.run import run
from twinline.clients.settings import load_settings
from twinline.contract.errors import SettingsError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.release.checks import MARGIN

if TYPE_CHECKING:
    from twinline.release.flow import Flow

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Revision = Annotated[str, typer.Argument(help="Experiment, version, stage or commit; `workspace` for the files here.")]
Release = Annotated[str, typer.Argument(help="A release's id, such as r0123456789ab.")]
Which = Annotated[str, typer.Argument(help="Version, stage, release id, experiment, release folder, or `active`.")]
Margin = Annotated[float, typer.Option(min=0.0, help="How much worse than the active release it may be, in nDCG@10.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")]
AllowUndecided = Annotated[
    str,
    typer.Option(metavar="NAME", help="Your name, to accept an encoder that was measured on too few questions; it is recorded."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Build without asking; a program is never asked.")]
DeviceOption = Annotated[Device, typer.Option(help="Where Triton runs the encoder.")]


@app.command("gate")
def gate_command(revision: Revision, allow_undecided: AllowUndecided = "") -> None:
    """Refuse an encoder that is not good enough."""
    checks = _flow().gate(revision, _person(allow_undecided))
    _result(revision=revision, passed=True, allowed_by=allow_undecided, checks=[check.to_json() for check in checks])


@app.command("register")
def register_command(revision: Revision, allow_undecided: AllowUndecided = "") -> None:
    """Register an encoder that passes the gate as the next version."""
    flow = _flow()
    entry = flow.register(revision, _person(allow_undecided))
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
    release: Release,
    snapshot: Annotated[str, typer.Option(help="Start from this snapshot of the topic.")] = "",
    yes: Yes = False,
) -> None:
    """Build a release's collection and serve it; time and size are estimated first."""
    _flow().build(release, snapshot, ask=not yes and _is_person())
    _result(release=release)


@app.command("verify")
def verify_command(
    release: Release,
    sample: Annotated[int, typer.Option(min=1, help="How many documents to look at closely.")] = 24,
    patience_seconds: Annotated[float, typer.Option(help="How long the consumer may stand still.")] = 120.0,
    margin: Margin = MARGIN,
) -> None:
    """Refuse a collection that is not whole, right and findable, or that answers worse than the active one."""
    found = _flow().verify(release, sample, patience_seconds, margin)
    checks = [check.to_json() for check in found.checks]
    _result(release=release, verified=True, against=found.against, checks=checks)


@app.command("promote")
def promote_command(release: Release, margin: Margin = MARGIN) -> None:
    """Make a release the active one; it is verified first, unless a verification against the active release has passed."""
    before = _flow().promote(release, margin)
    _result(release=release, before=before)


@app.command("rollback")
def rollback_command(
    to: Annotated[str, typer.Option(help="A release that was active before; empty: the one before the active one.")] = "",
) -> None:
    """Go back to a release that was active before and is still served: nothing is built again."""
    release, before = _flow().operations.rollback(to)
    _result(release=release, before=before)


@app.command("switch")
def switch_command(release: Release) -> None:
    """Make a served release the active one, verified or not: the step inside `promote` and `rollback`, by itself."""
    before = _flow().operations.switch(release)
    _result(release=release, before=before)


@app.command("repair")
def repair_command() -> None:
    """Make the model `embed`, the registry's stage and the journal agree with the release that answers."""
    active, done = _flow().operations.repair()
    _result(active=active, repaired=done)


@app.command("retire")
def retire_command(
    release: Annotated[str, typer.Argument(help="A release's id; empty with --older-than-last.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also the one that a roll-back would go to.")] = False,
    older_than_last: Annotated[
        int | None, typer.Option(min=0, help="Retire all but the active one, this many before it, and what is on its way.")
    ] = None,
) -> None:
    """Take releases that are not active out of service: models unloaded, collections dropped."""
    if bool(release) == (older_than_last is not None):
        raise SettingsError("name one release to retire, or say --older-than-last N")
    operations = _flow().operations
    if older_than_last is None:
        _result(release=release, retired=operations.retire(release, force))
        return
    gone, left = operations.retire_older(older_than_last)
    _result(retired=gone, left=left)


@app.command("deploy")
def deploy_command(
    what: Annotated[str, typer.Argument(help="Version, stage, experiment, or a release's folder.")],
    device: DeviceOption = "cpu",
    yes: Yes = False,
) -> None:
    """Fetch, publish, build, verify and promote; time and size of the build are estimated first."""
    _result(release=_flow().deploy(what, device, ask=not yes and _is_person()).release)


@app.command("bootstrap")
def bootstrap_command(
    base_model: Annotated[str, typer.Option(help="A folder, package:NAME or a Hugging Face name.")] = DEFAULT_BASE_MODEL,
    chunker: Annotated[str, typer.Option(help="tokens, or none for one vector a document.")] = "tokens",
    device: DeviceOption = "cpu",
    serve: Annotated[
        str, typer.Option(help="A format, or `fastest`: the quickest here of those that the golden texts let pass.")
    ] = "fastest",
) -> None:
    """Put an untuned base model into service: a first search before anything is trained."""
    from twinline.release.bootstrap import Base, bootstrap

    settings = load_settings()
    _result(release=bootstrap(_flow(), settings, Base(base_model, chunker, device, serve)))


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List registered versions, and the fetched, verified, served and active releases."""
    from twinline.release.show.overview import overview, table

    settings = load_settings()
    rows, notes = overview(settings, settings.find_project())
    if as_json:
        _result(releases=[row.to_json() for row in rows], notes=notes)
        return
    _print(table(rows))
    for note in notes:
        _say(note)


@app.command("show")
def show_command(
    what: Which,
    as_json: AsJson = False,
    manifest: Annotated[bool, typer.Option("--manifest", help="The manifest as it lies in the release folder.")] = False,
) -> None:
    """Show a release: its parts, its inputs, its checks, its promotions and its service."""
    from twinline.release.show.described import Describer
    from twinline.release.show.tables import show_release

    settings = load_settings()
    describer = Describer(settings, settings.find_project())
    if manifest:
        typer.echo(describer.manifest_text(what))
        return
    described = describer.describe(what)
    if as_json:
        _result(**described.to_json())
    else:
        _print(show_release(described))


@app.command("diff")
def diff_command(a: Which, b: Which, as_json: AsJson = False) -> None:
    """Show the differences between two releases, and the meaning of a switch from the first to the second."""
    from twinline.release.show.described import Describer
    from twinline.release.show.difference import compare
    from twinline.release.show.tables import show_difference

    settings = load_settings()
    describer = Describer(settings, settings.find_project())
    difference = compare(describer.describe(a), describer.describe(b))
    if as_json:
        _result(**difference.to_json())
    else:
        _print(show_difference(difference))


def _flow() -> "Flow":
    # Imported here: Kafka's and Triton's clients take a second that `--help` need not wait for.
    from twinline.release.flow import Flow
    from twinline.release.journal import who
    from twinline.release.kinds import ENCODER

    return Flow(ENCODER, load_settings(), LOCAL_OPERATOR.signing(who(os.environ)), _say)


def _person(name: str) -> str:
    """Return a name for --allow-undecided; refuse one that a schedule gives: only a person can accept what was not measured."""
    if name and os.environ.get("AIRFLOW_CTX_DAG_ID"):
        raise SettingsError(f"--allow-undecided {name}: a scheduled run accepts nothing that is undecided; run it by hand")
    return name.strip()


def _is_person() -> bool:
    """Say whether somebody can read a question and answer it; a program that keeps the output would wait for ever."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _print(what: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        # In a file, lines that are folded at 80 columns cannot be searched.
        console.width = 160
    console.print(what)


def _result(**fields: Any) -> None:
    typer.echo(json.dumps(fields, ensure_ascii=False))


def main() -> None:
    """Run a step."""
    run("release", app, check="all", role="release")


if __name__ == "__main__":
    main()
