"""Open a release whole: its folder, its contract, its collection, its encoder in Triton. A mismatch stops at this door."""

from twinline.clients.settings import Settings
from twinline.clients.store.door import check_index
from twinline.clients.store.protocol import COLLECTION_PREFIX, CollectionInfo, Store
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.contract.errors import SettingsError
from twinline.contract.monitor.drift_reference import DriftReference
from twinline.contract.release.folder import ReleaseFolder
from twinline.search.query_cache import RememberedQueries
from twinline.search.recent import RecentQueries
from twinline.search.releases import Served

# What of a release's lineage a hit shows as its training run.
_TRAINING_FIELDS = ("base_model", "snapshot", "git_revision", "dvc_experiment", "airflow_run", "created_at")


def release_of(collection: str) -> str:
    """Return the release whose collection this is.

    Raises:
        SettingsError: it is no collection of ours.
    """
    release = collection.removeprefix(COLLECTION_PREFIX)
    if not release or release == collection or not release.isalnum():
        raise SettingsError(f"`{collection}` is no release's collection: the names are {COLLECTION_PREFIX}<release>")
    return release


def open_release(settings: Settings, store: Store, name: str) -> Served:
    """Open the release that collection `name` belongs to. Its encoder is checked before its first use, not here.

    Args:
        settings: say where fetched releases lie, and where Triton answers.
        store: has the collection.
        name: the collection's name.

    Raises:
        MismatchError: manifest, contract, collection and the golden vectors in it are not of one release.
        ContractError: there is no such collection.
        TransientError: the store is away.
    """
    release = release_of(name)
    folder = settings.releases / release
    if not folder.is_dir():
        raise SettingsError(f"release {release} is not in {settings.releases}: publish it first (twinline release)")
    opened = ReleaseFolder.load(folder)
    manifest = opened.manifest
    known = {"base_model": manifest.base_model, **manifest.lineage}
    training = {field: known[field] for field in _TRAINING_FIELDS if known.get(field)}
    info = CollectionInfo.of(manifest)
    embedder = TritonEmbedder(settings.triton_grpc_address, release, manifest.space, query_seconds=settings.query_seconds)
    reference = DriftReference.load(folder, manifest.space)
    recent = RecentQueries(opened.preprocessor, reference) if reference else None
    collection = store.open(name, info)
    try:
        check_index(collection, opened.golden)
    except BaseException:
        # Or the engine's lock would keep out whoever comes to repair it.
        collection.close()
        raise
    served = manifest.serving_format()
    remembered = RememberedQueries(settings.query_vector_seconds)
    return Served(info, collection, opened.preprocessor, embedder, training, served.name, served.precision, recent, remembered)
