"""Retire a release: no more answers, no more indexing, its models and its collection gone. The registry still has it."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from triton_models.names import STABLE_MODEL
from triton_models.repository import is_stable, remove_models
from twinline.contract.errors import SettingsError
from twinline.release.commit import CommitPoint


class ModelUnloader(Protocol):
    """What we ask of the model server."""

    def ready(self, model: str) -> bool:
        """Say whether a model is loaded."""

    def unload(self, model: str, *, with_members: bool = False) -> None:
        """Unload a model, and with it what it is made of."""


def retire(release: str, model: str, repository: Path, commit: CommitPoint, models: ModelUnloader) -> bool:
    """Retire a release; return whether there was anything left of it. Again finishes what was cut short.

    Args:
        model: the one that the server loads for it, with what this one is made of.

    Raises:
        SettingsError: it is the active one, or `embed` stands for it.
    """
    active = commit.standing().active
    if active == release:
        raise SettingsError(f"release {release} is the active one: switch to another release before retiring it")
    if is_stable(release, repository):
        raise SettingsError(
            f"the model `{STABLE_MODEL}` still stands for release {release}, as after a switch that was cut short: switch to "
            f"{active or 'a release'} again, then retire"
        )
    # First whoever asks the models, then the models, then their files.
    found = commit.retire(release)
    if models.ready(model):
        models.unload(model, with_members=True)
        found = True
    if remove_models(release, repository):
        found = True
    return found


def outdated(served: Sequence[str], active: str, back: Sequence[str], superseded: Collection[str], keep: int) -> list[str]:
    """Return the releases that are served and not needed any more, in the order given. Pure.

    Args:
        served: every release that takes memory and is being indexed.
        back: those that were active before `active`, nearest first.
        superseded: those that were verified, and never promoted before another one was.
        keep: how many of `back` stay, for a way back.
    """
    kept = {active, *[release for release in back if release in served][:keep]}
    # One that was never active is left alone while it may be on its way: being built, or waiting to be promoted.
    return [release for release in served if release not in kept and (release in back or release in superseded)]
