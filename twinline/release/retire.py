"""Retire a release: it answers and indexes no more, and its models and collection are gone. The registry still has it."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from triton_models.names import STABLE_MODEL
from triton_models.repository import is_stable, remove_models
from twinline.contract.errors import SettingsError
from twinline.release.commit import CommitPoint


class ModelUnloader(Protocol):
    """The calls to the model server."""

    def ready(self, model: str) -> bool:
        """Say whether a model is loaded."""

    def unload(self, model: str, *, with_members: bool = False) -> None:
        """Unload a model and its parts."""


def retire(release: str, model: str, repository: Path, commit: CommitPoint, models: ModelUnloader) -> bool:
    """Retire a release; return whether there was anything left of it. A repeat finishes an interrupted call.

    Args:
        model: the model that the server loads for it, with its parts.

    Raises:
        SettingsError: it is the active one, or `embed` points to it.
    """
    active = commit.standing().active
    if active == release:
        raise SettingsError(f"release {release} is the active one: switch to another release before retiring it")
    if is_stable(release, repository):
        raise SettingsError(
            f"the model `{STABLE_MODEL}` still stands for release {release}, as after a switch that was cut short: switch to "
            f"{active or 'a release'} again, then retire"
        )
    # In the order of use: first the users of the models, then the models, then their files.
    found = commit.retire(release)
    if models.ready(model):
        models.unload(model, with_members=True)
        found = True
    if remove_models(release, repository):
        found = True
    return found


def outdated(served: Sequence[str], active: str, back: Sequence[str], superseded: Collection[str], keep: int) -> list[str]:
    """Return the served releases that are no longer needed, in the order given. Pure.

    Args:
        served: every release that takes memory and is being indexed.
        back: the releases that were active before `active`, nearest first.
        superseded: verified releases that were not promoted before another one was.
        keep: how many of `back` stay, for a way back.
    """
    kept = {active, *[release for release in back if release in served][:keep]}
    # A release that was never active stays: it may be in a build, or wait for its promotion.
    return [release for release in served if release not in kept and (release in back or release in superseded)]
