"""The switch: one renamed file or alias makes another release the active one; everything else follows it."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from triton_models.names import STABLE_MODEL
from triton_models.repository import is_stable, point_stable_model
from twinline.clients.files import replace_file
from twinline.clients.online import OnlineStatus
from twinline.clients.triton.fleet import Replica, TritonFleet
from twinline.contract.errors import MismatchError, SettingsError
from twinline.contract.release.manifest import Manifest, collection_name


class Online(Protocol):
    """The calls to the online process."""

    def status(self) -> OnlineStatus:
        """Return the served collections and the active one."""

    def activate(self, name: str) -> None:
        """Answer searches from a served collection from now on."""


class ModelLoader(Protocol):
    """The calls to the model server."""

    def ready(self, model: str) -> bool:
        """Say whether a model is loaded."""

    def load(self, model: str) -> None:
        """Load a model, or reload a loaded one."""

    def space(self, model: str) -> str:
        """Return the space of a loaded ensemble's answers."""


def activate(release: str, online: Online) -> str | None:
    """Make a release the active one, and return the collection that was active before, None if it is this one.

    This is the only commit point. The release before it stays loaded and continues to index. The way back is therefore the same
    call with its id.

    Raises:
        SettingsError: the release's collection is not served.
    """
    name = collection_name(release)
    status = online.status()
    if status.active == name:
        return None
    if status.collection(name) is None:
        why = status.refused.get(name, "it was not built, or not handed over")
        raise SettingsError(f"collection {name} is not served ({why}): build release {release} first")
    online.activate(name)
    return status.active or ""


def follows(release: str, space: str, repository: Path, loader: ModelLoader, followed: Path) -> bool:
    """Say whether the stable model `embed` points to a release: by its file, by the last load, and by its answers.

    Args:
        followed: the file in which `follow` notes its loads. Two releases of one space answer alike, so the answers would not
            show an interrupted load.
    """
    return (
        followed.is_file()
        and followed.read_text(encoding="utf-8") == release
        and is_stable(release, repository)
        and loader.ready(STABLE_MODEL)
        and loader.space(STABLE_MODEL) == space
    )


def follow(release: str, space: str, repository: Path, loader: ModelLoader, followed: Path) -> None:
    """Point the stable model `embed` at the active release; a repeat repairs it after a crash between the two.

    Raises:
        MismatchError: `embed` still answers from another space.
    """
    model = point_stable_model(release, repository)
    loader.load(model)
    found = loader.space(model)
    if found != space:
        raise MismatchError(
            f"Triton's `{model}` serves space {found}, release {release} has {space}: let TWINLINE_HOME be the folder "
            "whose models this Triton serves, and switch again"
        )
    replace_file(followed, release)


def follow_everywhere(manifest: Manifest, fleet: TritonFleet, state: Path, say: Callable[[str], None]) -> list[str]:
    """Point `embed` at a release on every server; return a line for each server where it did not change.

    A server that is away must not block a roll-back: it loads the release from its repository at its start.

    Args:
        state: the folder of the notes on each server's loads.
    """
    release, space = manifest.release, manifest.space
    if not any(server.control.ready() for server in fleet.replicas):
        fleet.require_all()

    def one(server: Replica) -> str:
        note = state / f"embed-{server.address.replace(':', '-')}"
        if not server.control.ready():
            point_stable_model(release, server.repository)
            note.unlink(missing_ok=True)
            say(f"Triton at {server.address} does not answer: it takes `embed` for {release} when it starts")
            return ""
        if follows(release, space, server.repository, server.control, note):
            return ""
        follow(release, space, server.repository, server.control, note)
        return f"embed: stands for {release} at {server.address}"

    return [line for line in fleet.each(one) if line]
