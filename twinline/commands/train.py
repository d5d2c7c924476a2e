"""`twinline train`: the offline pipeline on a source or a snapshot, as a DVC experiment beside the user's work."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from twinline.clients.erasure_list import read_list
from twinline.clients.settings import CHECKOUT, load_settings
from twinline.clients.source_spec import USAGE
from twinline.contract.errors import SettingsError
from twinline.registry.experiment import Value, absolute_source, run_experiment, take_snapshot
from twinline.registry.versions import PRODUCTION, Registry

CHAMPION: Final = "encoder.evaluate.champion"


def command(
    *,
    source: Annotated[str, typer.Option(help=f"{USAGE}; params.yaml's by default.")] = "",
    snapshot: Annotated[str, typer.Option(help="A stored snapshot to train on, instead of reading a source.")] = "",
    name: Annotated[str, typer.Option(help="Name of the experiment; by default made from source and time.")] = "",
    set_param: Annotated[
        list[str] | None, typer.Option("--set", "-S", help="Another value for a parameter: train.max_steps=100.")
    ] = None,
    register: Annotated[bool, typer.Option(help="Register the encoder if it passes the gate.")] = False,
) -> None:
    """Run the offline pipeline, from ingest to package; branch and workspace stay as they are.

    The encoder is compared with the base model and with the release in stage prod. The last line is a JSON object: the
    experiment's name and commit.
    """
    if source and snapshot:
        raise SettingsError("--source and --snapshot exclude each other: a snapshot was read from its source already")
    settings = load_settings()
    overrides = parse_overrides(set_param or [])
    chosen = experiment_name(name or default_name(source or snapshot or "params", datetime.now(UTC)))
    overrides["snapshot"] = snapshot or take_snapshot(CHECKOUT, settings.home, absolute_source(source, Path.cwd()))
    if erased := read_list(settings).fingerprint():
        overrides["erasures"] = erased
    overrides.setdefault(CHAMPION, champion(Registry(CHECKOUT), settings.releases))
    _say(f"champion to be compared with: {overrides[CHAMPION] or 'none, no version is in stage prod'}")
    revision = run_experiment(CHECKOUT, settings.home, chosen, overrides)
    _report(chosen, revision)
    result = {"experiment": chosen, "revision": revision}
    if register:
        from twinline.release.flow import Flow

        result["version"] = Flow(settings, lambda line: typer.echo(line, err=True)).register(revision).version
    typer.echo(json.dumps(result))


def champion(registry: Registry, releases: Path) -> str:
    """Return the id of the release in stage prod, and fetch it: the evaluation reads its encoder. Empty when there is none."""
    from twinline.registry.fetch import fetch

    entry = next((entry for entry in registry.versions() if PRODUCTION in entry.stages), None)
    return fetch(entry.version, releases, registry).release if entry else ""


def experiment_name(wanted: str) -> str:
    """Return a name that Git takes: a scheduler's run id has colons and a plus in it."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", wanted).strip("-")
    if not name:
        raise SettingsError(f"--name {wanted!r}: use letters, digits and dashes")
    return name


def default_name(subject: str, now: datetime) -> str:
    """Return a name that says what and when."""
    return f"{experiment_name(subject)[-40:]}-{now:%Y%m%d-%H%M%S}".lstrip("-")


def parse_overrides(pairs: list[str]) -> dict[str, Value]:
    """Return `section.name=value` options as parameters; a value that reads as JSON is that, anything else is text."""
    overrides: dict[str, Value] = {}
    for pair in pairs:
        parameter, equals, value = pair.partition("=")
        if not equals or not parameter:
            raise SettingsError(f"--set {pair!r}: write it as section.name=value, such as train.max_steps=100")
        overrides[parameter] = _json_or_text(value)
    return overrides


def _json_or_text(value: str) -> Value:
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return parsed if parsed is None or isinstance(parsed, int | float | str) else value


def _report(name: str, revision: str) -> None:
    from twinline.registry.gate import read_checks
    from twinline.registry.revisions import GitRevision

    checks = read_checks(GitRevision(CHECKOUT, revision))
    refused = sum(not check.passed for check in checks)
    _say(f"\n{f'REFUSED by {refused} of {len(checks)} checks' if refused else 'accepted'}")
    for check in checks:
        _say(f"  {'ok     ' if check.passed else 'REFUSED'} {check.name}: {check.detail}")
    _say(f"\nexperiment {name}, commit {revision[:12]}\n")
    _say("  numbers of every experiment   dvc exp show --all-commits")
    _say(f"  its files into the workspace  dvc exp apply {name}")
    _say(f"  register it as a version      twinline release register {name}")
    _say(f"  put it into service           twinline release deploy {name}")


def _say(line: str) -> None:
    typer.echo(line, err=True)
