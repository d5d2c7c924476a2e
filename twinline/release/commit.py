"""The commit point of a kind of model: the one change that makes another release answer.

The encoder's is the alias of collections in the store, which the online process renames. A generator has no collection: its
commit point will be a pointer file, replaced by a rename.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from twinline.clients.online import AdminClient, OnlineStatus
from twinline.clients.settings import Settings
from twinline.contract.errors import TransientError
from twinline.contract.release.checks import RefusedError
from twinline.contract.release.manifest import collection_name
from twinline.release import switch

_PREFIX: Final = collection_name("")


@dataclass(frozen=True, slots=True)
class Standing:
    """The release that answers, and those that could.

    Args:
        active: the release that answers, empty where there is none.
        served: every release that a switch could choose, the active one included.
        refused: the reasons why existing releases are not served.
    """

    active: str
    served: tuple[str, ...]
    refused: Mapping[str, str]


class CommitPoint(Protocol):
    """Reads and changes which release of a kind answers."""

    def standing(self) -> Standing:
        """Return the release that answers, and those that could."""

    def require_healthy(self, release: str) -> None:
        """Make sure that a served release is up to date.

        Raises:
            RefusedError: no consumer keeps it up to date.
            TransientError: it is not up to date at the moment.
        """

    def switch(self, release: str) -> None:
        """Make a served release the active one, by one atomic change.

        Raises:
            SettingsError: it is not served.
        """

    def retire(self, release: str) -> bool:
        """Take an inactive release out of service; return whether it was there."""


class Online(switch.Online, Protocol):
    """The alias's calls to the online process."""

    def retire(self, name: str) -> bool:
        """Stop a collection's consumer, close it and drop it, finished or not; return whether it was there."""


class CollectionAlias:
    """The encoder's commit point: the alias that leads searches to a collection."""

    def __init__(self, online: Online) -> None:
        self._online = online

    def standing(self) -> Standing:
        """Return the release of the active collection, and those of all served ones."""
        status = self._online.status()
        refused = {name.removeprefix(_PREFIX): why for name, why in status.refused.items()}
        return Standing(_active(status), tuple(listed.release for listed in status.collections), refused)

    def require_healthy(self, release: str) -> None:
        """Make sure that the consumer of a served collection keeps up with the log."""
        listed = self._online.status().collection(collection_name(release))
        if listed is None:
            return  # `activate` refuses it, with the reason
        if not listed.consumer_running:
            reasons = "; ".join(listed.faults) or "its consumer does not run"
            raise RefusedError(
                f"release {release} does not keep up with the log ({reasons}): `twinline release build {release}` starts its "
                "consumer again"
            )
        if listed.faults:
            # The consumer retries by itself, so a repeated promotion may succeed.
            raise TransientError(f"release {release} does not keep up with the log now: {'; '.join(listed.faults)}")

    def switch(self, release: str) -> None:
        """Rename the alias to the collection of a release."""
        switch.activate(release, self._online)

    def retire(self, release: str) -> bool:
        """Drop the collection of a release."""
        return self._online.retire(collection_name(release))


@contextmanager
def collection_alias(settings: Settings) -> Iterator[CommitPoint]:
    """Open the encoder's commit point, which the online process holds."""
    with closing(AdminClient(settings.admin_url)) as admin:
        yield CollectionAlias(admin)


def _active(status: OnlineStatus) -> str:
    return (status.active or "").removeprefix(_PREFIX)
