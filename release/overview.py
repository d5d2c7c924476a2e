"""One table of what is registered, fetched, served and active."""

from contextlib import closing
from pathlib import Path

from rich.table import Table

from clients.admin import AdminClient, CollectionStatus
from clients.builds import running_builds
from clients.settings import Settings
from contract.errors import TransientError
from contract.manifest import collection_name
from release.fetch import fetched_releases
from release.registry import Registered, Registry


def overview(settings: Settings, repository: Path) -> tuple[Table, list[str]]:
    """Return a row a release, newest version first, and what could not be had or is not served."""
    registry = Registry(repository)
    versions = {registry.release_of(entry): entry for entry in registry.versions()}
    fetched = fetched_releases(settings.releases)
    served, notes = _served(settings)
    notes += [build.describe() for build in running_builds(settings.home)]
    table = Table("release", "version", "stage", "registered", "fetched", "documents", "lag", "state", box=None)
    for release in dict.fromkeys([*versions, *fetched, *served]):
        here = "yes" if release in fetched else "no"
        table.add_row(release, *_registry_cells(versions.get(release)), here, *_online_cells(served.get(release)))
    return table, notes


def _registry_cells(entry: Registered | None) -> tuple[str, str, str]:
    return (entry.version, ", ".join(entry.stages) or "-", entry.created_at[:16]) if entry else ("-", "-", "-")


def _online_cells(status: CollectionStatus | None) -> tuple[str, str, str]:
    if status is None:
        return ("-", "-", "-")
    documents, lag = ("?" if value is None else str(value) for value in (status.documents, status.lag))
    return (documents, lag, "active" if status.active else "served")


def _served(settings: Settings) -> tuple[dict[str, CollectionStatus], list[str]]:
    with closing(AdminClient(settings.admin_url)) as admin:
        try:
            status = admin.status()
        except TransientError as exc:
            return {}, [f"what is served is not known: {exc}"]
    refused = [f"{name} is not served: {why}" for name, why in status.refused.items()]
    return {entry.name.removeprefix(collection_name("")): entry for entry in status.collections}, refused
