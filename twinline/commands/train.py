"""`twinline train`: the offline pipeline on a source or a snapshot, as a DVC experiment beside the user's work."""

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from twinline.clients.settings import load_settings
from twinline.clients.source_spec import USAGE
from twinline.contract.errors import SettingsError
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
) -> None:
    """Run the offline pipeline, from ingest to package; branch and workspace stay as they are.

    The encoder is compared with the base model and with the release in stage prod. The last line is a JSON object: the
    experiment's name and commit.
    """
    from twinline.release.flow import Flow
    from twinline.release.journal import who
    from twinline.release.kinds import ENCODER
    from twinline.upkeep.training.experiment import Wanted, train

    if source and snapshot:
        raise SettingsError("--source and --snapshot exclude each other: a snapshot was read from its source already")
    settings = load_settings()
    wanted = Wanted(source, snapshot, name, parse_overrides(set_param or []))
    trained = train(ENCODER, wanted, settings, settings.find_project(), _say)
    _show(trained)
    result = {"experiment": trained.name, "revision": trained.revision}
    if register:
        flow = Flow(ENCODER, settings, LOCAL_OPERATOR.signing(who(os.environ)), _say)
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
