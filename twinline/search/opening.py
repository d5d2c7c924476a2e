"""Open a release for search: its parts, its collection, its drift reference. A mismatch stops at this door."""

from twinline.clients.release import open_release
from twinline.clients.settings import Settings
from twinline.clients.store.door import check_index
from twinline.clients.store.protocol import COLLECTION_PREFIX, Store
from twinline.contract.errors import SettingsError
from twinline.contract.monitor.drift_reference import DriftReference
from twinline.search.query_cache import RememberedQueries
from twinline.search.recent import RecentQueries
from twinline.search.releases import Served


def release_of(collection: str) -> str:
    """Return the release of a collection.

    Raises:
        SettingsError: it is no collection of ours.
    """
    release = collection.removeprefix(COLLECTION_PREFIX)
    if not release or release == collection or not release.isalnum():
        raise SettingsError(f"`{collection}` is no release's collection: the names are {COLLECTION_PREFIX}<release>")
    return release


def open_served(settings: Settings, store: Store, name: str) -> Served:
    """Open the release that collection `name` belongs to. Its encoder is checked before its first use, not here.

    Args:
        settings: name the folder of fetched releases, and Triton's address.
        store: the store that has the collection.
        name: the collection's name.

    Raises:
        MismatchError: manifest, contract, collection and the golden vectors in it are not of one release.
        ContractError: there is no such collection.
        TransientError: the store is away.
    """
    release = open_release(settings, release_of(name), settings.query_seconds)
    reference = DriftReference.load(settings.releases / release_of(name), release.info.space)
    recent = RecentQueries(release.preprocessor, reference) if reference else None
    collection = store.open(name, release.info)
    try:
        check_index(collection, release.golden)
    except BaseException:
        # Otherwise the engine's lock would block its repair.
        collection.close()
        raise
    return Served(release, collection, recent, RememberedQueries(settings.query_vector_seconds))
