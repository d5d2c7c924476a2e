"""The kinds of released model, and all differences between their steps.

A second kind is a second entry of `KINDS`. The steps themselves (`operations`) depend on no kind.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from triton_models.names import embed_model
from twinline.clients.settings import Settings
from twinline.clients.triton.fleet import TritonFleet
from twinline.contract import artefacts
from twinline.contract.artefacts import Artifact
from twinline.contract.release.checks import Check
from twinline.contract.release.manifest import Manifest
from twinline.contract.release.verdict import EVALUATION_CHECKS
from twinline.registry import gate
from twinline.registry.revisions import Revision
from twinline.registry.versions import Registry
from twinline.release import commit, publish, switch

Say = Callable[[str], None]
Follower = Callable[[Manifest, TritonFleet, Path, Say], list[str]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of model.

    Args:
        artifact: its name in the registry. It also prefixes stages and parameters, and names the stages' files.
        state: the folder of its journal and lock, below `release_state`.
        checks: the checks that its evaluation must have made; a verdict without one of them fails.
        serve: the model that a server loads for a release, with its parts.
        prove: checks at a server's address that a loaded release answers as in training.
        commit: opens its commit point.
        followers: the states that follow the commit and are repaired from it; each returns a line for every repair. The
            registry's stage follows too, for every kind.
    """

    artifact: Artifact
    state: str
    checks: tuple[str, ...]
    serve: Callable[[str], str]
    prove: Callable[[str, Path, Manifest], list[Check]]
    commit: Callable[[Settings], AbstractContextManager[commit.CommitPoint]]
    followers: Sequence[Follower]

    def registry(self, repository: Path) -> Registry:
        """Return its versions and stages in a repository."""
        return Registry(repository, self.artifact)

    def state_folder(self, settings: Settings) -> Path:
        """Return the folder of its journal, its lock and its followers' notes."""
        return settings.release_state / self.state

    def read_checks(self, revision: Revision) -> list[Check]:
        """Return its stages' checks of a revision; see `gate.read_checks`."""
        return gate.read_checks(revision, self.artifact, self.checks)


ENCODER: Final = Kind(
    artifact=artefacts.ENCODER,
    # The folder itself: homes from before kinds have the encoder's journal there.
    state="",
    checks=EVALUATION_CHECKS,
    serve=embed_model,
    prove=publish.prove_golden_texts,
    commit=commit.collection_alias,
    followers=(switch.follow_everywhere,),
)

KINDS: Final[dict[str, Kind]] = {kind.artifact.name: kind for kind in (ENCODER,)}
