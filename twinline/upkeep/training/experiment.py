"""A training run: a snapshot, the champion for comparison, the pipeline as an experiment, and the gate's checks on it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twinline.clients.erasure_list import read_list
from twinline.clients.settings import Settings
from twinline.contract.errors import SettingsError
from twinline.contract.release.checks import Check
from twinline.registry.experiment import Value, absolute_source, run_experiment, take_snapshot
from twinline.registry.fetch import fetch
from twinline.registry.revisions import GitRevision, NotHereError
from twinline.registry.versions import Registry
from twinline.release.kinds import Kind, Say


@dataclass(frozen=True, slots=True)
class Wanted:
    """The inputs and options of a training run.

    Args:
        source: to take a snapshot of; empty: that of params.yaml.
        snapshot: a stored one, instead of a source.
        name: of the experiment; empty: made from its data and the time.
        overrides: values for parameters, by dotted name.
    """

    source: str = ""
    snapshot: str = ""
    name: str = ""
    overrides: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished experiment, and its stages' checks."""

    name: str
    revision: str
    checks: Sequence[Check]


def train(kind: Kind, wanted: Wanted, settings: Settings, checkout: Path, say: Say) -> Trained:
    """Run the stages of a kind of model on a snapshot, as an experiment beside the user's work.

    Raises:
        SettingsError: source or name is wrong.
        PipelineFailedError: a stage failed, or the source could not be read; another try may help.
        StageRefusedError: a stage refused its input, and would again.
    """
    artifact = kind.artifact
    overrides = dict(wanted.overrides or {})
    subject = wanted.source or wanted.snapshot or "params"
    name = experiment_name(wanted.name or default_name(subject, datetime.now(UTC)))
    source = absolute_source(wanted.source, Path.cwd())
    overrides["snapshot"] = wanted.snapshot or take_snapshot(checkout, settings.home, source)
    if erased := read_list(settings).fingerprint():
        overrides["erasures"] = erased
    if artifact.champion not in overrides:
        overrides[artifact.champion] = champion_or_none(kind.registry(checkout), settings.releases, say)
    revision = run_experiment(checkout, settings.home, name, overrides, targets=artifact.targets)
    return Trained(name, revision, kind.read_checks(GitRevision(checkout, revision)))


def champion_or_none(registry: Registry, releases: Path, say: Say) -> str:
    """Return the champion's id, or an empty one where its files are not on this machine: a schedule goes on, and says so."""
    try:
        found = champion(registry, releases)
    except NotHereError as error:
        say(f"GOING ON WITHOUT A CHAMPION, since the version in stage prod is not here: {error}")
        return ""
    say(f"champion to be compared with: {found or 'none, no version is in stage prod'}")
    return found


def champion(registry: Registry, releases: Path) -> str:
    """Return the id of the release in stage prod, and fetch it: the evaluation reads its model. Empty when there is none.

    Raises:
        NotHereError: there is one, and its files are not on this machine.
    """
    entry = registry.in_production()
    return fetch(entry.version, releases, registry).release if entry else ""


def experiment_name(wanted: str) -> str:
    """Return a name that Git takes: a scheduler's run id has colons and a plus in it."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", wanted).strip("-")
    if not name:
        raise SettingsError(f"--name {wanted!r}: use letters, digits and dashes")
    return name


def default_name(subject: str, now: datetime) -> str:
    """Return a name from the data and the time."""
    return f"{experiment_name(subject)[-40:]}-{now:%Y%m%d-%H%M%S}".lstrip("-")
