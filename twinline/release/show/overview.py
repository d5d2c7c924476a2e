"""Registered, fetched, served and active releases, a row each."""

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from twinline.clients.builds import running_builds
from twinline.clients.online import AdminClient, CollectionStatus
from twinline.clients.settings import Settings
from twinline.contract.errors import TransientError
from twinline.contract.release.manifest import collection_name
from twinline.registry.fetch import fetched_releases
from twinline.registry.versions import Registered
from twinline.release.journal import Journal, way_back
from twinline.release.kinds import ENCODER
from twinline.release.verify.record import last_verification


@dataclass(frozen=True, slots=True)
class Row:
    """The current state of one release. An unknown number is None."""

    release: str
    version: str
    stages: list[str]
    registered_at: str
    fetched: bool
    verified: str
    documents: int | None
    lag: int | None
    state: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def overview(settings: Settings, repository: Path) -> tuple[list[Row], list[str]]:
    """Return a row a release, newest version first, and the faults: unavailable data, and collections not served."""
    registry = ENCODER.registry(repository)
    versions = {registry.release_of(entry): entry for entry in registry.versions()}
    fetched = fetched_releases(settings.releases)
    served, notes = _served(settings)
    notes += [build.describe() for build in running_builds(settings.home)]
    active = next((release for release, status in served.items() if status.active), "")
    back = way_back(Journal(ENCODER.state_folder(settings)).read(), active)[:1]
    rows = [
        _row(settings, release, versions.get(release), release in fetched, served.get(release), release in back)
        for release in dict.fromkeys([*versions, *fetched, *served])
    ]
    return rows, notes


def table(rows: list[Row]) -> Table:
    """Return the rows for a person."""
    made = Table("release", "version", "stage", "registered", "fetched", "verified", "documents", "lag", "state", box=None)
    for row in rows:
        made.add_row(
            row.release,
            row.version or "-",
            ", ".join(row.stages) or "-",
            row.registered_at[:16] or "-",
            "yes" if row.fetched else "no",
            row.verified or "-",
            _number(row.documents, row.state),
            _number(row.lag, row.state),
            row.state or "-",
        )
    return made


def _row(
    settings: Settings, release: str, entry: Registered | None, fetched: bool, status: CollectionStatus | None, is_back: bool
) -> Row:
    verification = last_verification(ENCODER.state_folder(settings), release)
    return Row(
        release=release,
        version=entry.version if entry else "",
        stages=list(entry.stages) if entry else [],
        registered_at=entry.created_at if entry else "",
        fetched=fetched,
        verified="" if verification is None else "passed" if verification.passed else "refused",
        documents=status.documents if status else None,
        lag=status.lag if status else None,
        state=_state(status, is_back),
    )


def _state(status: CollectionStatus | None, is_back: bool) -> str:
    if status is None:
        return ""
    if status.active:
        return "active"
    return "served, rollback goes here" if is_back else "served"


def _number(value: int | None, state: str) -> str:
    return "-" if not state else "?" if value is None else str(value)


def _served(settings: Settings) -> tuple[dict[str, CollectionStatus], list[str]]:
    with closing(AdminClient(settings.admin_url)) as admin:
        try:
            status = admin.status()
        except TransientError as exc:
            return {}, [f"what is served is not known: {exc}"]
    refused = [f"{name} is not served: {why}" for name, why in status.refused.items()]
    return {entry.name.removeprefix(collection_name("")): entry for entry in status.collections}, refused
