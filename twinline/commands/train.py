"""`twinline train`: the offline pipeline on a source or a snapshot, as a DVC experiment beside the user's work."""

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from twinline.clients.settings import load_settings
from twinline.clients.source_spec import USAGE
from twinline.contract.errors import SettingsError, TooSmallError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.release.verdict import outcome

if TYPE_CHECKING:
    from twinline.registry.experiment import Value
    from twinline.upkeep.training.experiment import Trained


def command(
    *,
    source: Annotated[str, typer.Option(help=f"{USAGE}; params.yaml's by default.")] = "",
    snapshot: Annotated[str, typer.Option(help="A stored snapshot to train on, instead of reading a source.")] = "",
    name: Annotated[str, typer.Option(help="Name of the experiment; by default made from source and time.")] = "",
    set_param: Annotated[
        list[str] | None, typer.Option("--set", "-S", help="Another value for a parameter: encoder.train.max_steps=100.")
    ] = None,
    register: Annotated[bool, typer.Option(help="Register the encoder if it passes the gate.")] = False,
    serve_base: Annotated[
        bool, typer.Option(help="Where no release is active and no encoder is accepted, put the base model into service.")
    ] = False,
) -> None:
    """Run the offline pipeline, from ingest to package; branch and workspace stay as they are.

    The encoder is compared with the base model and with the release in stage prod. The last line is a JSON object: the
    experiment's name and commit. Where the corpus is too small to train on, its field `skipped` says so.
    """
    from twinline.release.flow import Flow
    from twinline.release.journal import who
    from twinline.release.kinds import ENCODER
    from twinline.upkeep.training.base_in_service import base_of, serve_base_if_none
    from twinline.upkeep.training.experiment import Wanted, train

    if source and snapshot:
        raise SettingsError("--source and --snapshot exclude each other: a snapshot was read from its source already")
    settings = load_settings()
    project = settings.find_project()
    flow = Flow(ENCODER, settings, LOCAL_OPERATOR.signing(who(os.environ)), _say)
    wanted = Wanted(source, snapshot, name, parse_overrides(set_param or []))

    def serve() -> dict[str, str]:
        release = serve_base_if_none(flow, settings, base_of(project)) if serve_base else ""
        return {"base_release": release} if release else {}

    try:
        trained = train(ENCODER, wanted, settings, project, _say)
    except TooSmallError as error:
        served = serve()
        also = f"; the base model answers meanwhile, release {served['base_release']}" if served else ""
        skipped = f"too small to train on: {error}{also}"
        _say(f"skipped: {skipped}")
        typer.echo(json.dumps({"skipped": skipped, **served}, ensure_ascii=False))
        return
    _show(trained)
    result = {"experiment": trained.name, "revision": trained.revision}
    if outcome(trained.checks) != "accepted":
        result |= serve()
    if register:
        result["version"] = flow.register(trained.revision).version
    typer.echo(json.dumps(result))


def parse_overrides(pairs: list[str]) -> "dict[str, Value]":
    """Return `section.name=value` options as parameters; a value is JSON where it parses as JSON, otherwise text."""
    overrides: dict[str, Value] = {}
    for pair in pairs:
        parameter, equals, value = pair.partition("=")
        if not equals or not parameter:
            raise SettingsError(f"--set {pair!r}: write it as section.name=value, such as encoder.train.max_steps=100")
        overrides[parameter] = _json_or_text(value)
    return overrides


def _json_or_text(value: str) -> "Value":
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return parsed if parsed is None or isinstance(parsed, int | float | str) else value


def _show(trained: "Trained") -> None:
    refused = sum(not check.passed for check in trained.checks)
    verdicts = {
        "accepted": "accepted",
        "undecided": "UNDECIDED: measured on too few questions",
        "refused": f"REFUSED by {refused} of {len(trained.checks)} checks",
    }
    _say(f"\n{verdicts[outcome(trained.checks)]}")
    for check in trained.checks:
        _say(f"  {'ok     ' if check.passed else 'REFUSED'} {check.name}: {check.detail}")
    _say(f"\nexperiment {trained.name}, commit {trained.revision[:12]}\n")
    _say("  numbers of every experiment   dvc exp show --all-commits")
    _say(f"  its files into the workspace  dvc exp apply {trained.name}")
    _say(f"  register it as a version      twinline release register {trained.name}")
    _say(f"  put it into service           twinline release deploy {trained.name}")


def _say(line: str) -> None:
    typer.echo(line, err=True)
