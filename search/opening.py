"""Open a release whole: its folder, its contract, its collection, its encoder in Triton. A mismatch stops at this door."""

from clients.settings import Settings
from clients.store import COLLECTION_PREFIX, CollectionInfo, Store
from clients.triton import TritonEmbedder
from contract.errors import MismatchError, SettingsError
from contract.manifest import Fingerprints, Manifest
from contract.preprocess import Preprocessor
from search.releases import Served

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


def open_store(settings: Settings) -> Store:
    """Return the vector store that the settings name; nothing is opened or sent yet.

    Raises:
        SettingsError: a Qdrant server is wanted, and its address is missing.
    """
    if settings.store == "edge":
        from clients.edge import EdgeStore

        return EdgeStore(settings.store_folder)
    from clients.qdrant import QdrantStore, connect

    if settings.qdrant_url is None:
        raise SettingsError("TWINLINE_STORE is qdrant but QDRANT_URL is not set: name the server")
    key = settings.qdrant_api_key
    return QdrantStore(connect(settings.qdrant_url, key.get_secret_value() if key else None))


def open_release(settings: Settings, store: Store, name: str) -> Served:
    """Open the release that collection `name` belongs to. Its encoder is checked before its first use, not here.

    Args:
        settings: say where fetched releases lie, and where Triton answers.
        store: has the collection.
        name: the collection's name.

    Raises:
        MismatchError: manifest, contract and collection are not of one release.
        ContractError: there is no such collection.
        TransientError: the store is away.
    """
    release = release_of(name)
    folder = settings.releases / release
    manifest = Manifest.load(folder)
    preprocessor = Preprocessor.load(folder)
    found = Fingerprints.of(preprocessor.contract)
    if found != manifest.fingerprints:
        raise MismatchError(
            f"release folder {folder}: its contract has fingerprint {found.contract}, its manifest says "
            f"{manifest.fingerprints.contract}: fetch the release again"
        )
    info = CollectionInfo(
        release=manifest.release,
        space=manifest.space,
        contract_fingerprint=found.contract,
        vector_fingerprint=found.vector,
        index_fingerprint=found.index,
        dimension=manifest.dimension,
        distance=preprocessor.contract.index.distance,
    )
    known = {"base_model": manifest.base_model, **manifest.lineage}
    training = {field: known[field] for field in _TRAINING_FIELDS if known.get(field)}
    embedder = TritonEmbedder(settings.triton_grpc_address, release, manifest.space)
    return Served(info, store.open(name, info), preprocessor, embedder, training)
