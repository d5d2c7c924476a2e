"""Open a release whole: its folder, its contract, its collection, its encoder. Three of the five doors are here."""

from collections.abc import Callable
from pathlib import Path

from clients.store import COLLECTION_PREFIX, CollectionInfo, Store
from contract.embedding import Embedder
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


def open_release(name: str, releases_folder: Path, store: Store, embedder_of: Callable[[Manifest], Embedder]) -> Served:
    """Open the release that collection `name` belongs to.

    Args:
        name: the collection's name.
        releases_folder: where fetched releases lie, one folder each.
        store: has the collection.
        embedder_of: makes the client of a release's encoder; it may check the encoder later, before its first use.

    Raises:
        MismatchError: manifest, contract, collection and encoder are not of one release.
        TransientError: the store is away.
    """
    folder = releases_folder / release_of(name)
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
    return Served(info, store.open(name, info), preprocessor, embedder_of(manifest), training)
