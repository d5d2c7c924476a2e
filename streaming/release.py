"""A release as the consumer needs it: what it is, how to cut texts, how to get vectors."""

from dataclasses import dataclass

from twinline.clients.settings import Settings
from twinline.clients.store.protocol import CollectionInfo
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import SettingsError
from twinline.contract.release.folder import ReleaseFolder
from twinline.contract.release.manifest import collection_name, consumer_group


@dataclass(frozen=True, slots=True)
class Release:
    """One release, opened. Whether its parts belong together is checked at the door of the indexer."""

    info: CollectionInfo
    preprocessor: Preprocessor
    embedder: Embedder
    golden: GoldenSet

    @property
    def collection_name(self) -> str:
        """Return the name of its collection."""
        return collection_name(self.info.release)

    @property
    def group(self) -> str:
        """Return its consumer group."""
        return consumer_group(self.info.release)


def open_release(settings: Settings, release: str) -> Release:
    """Open a release that was fetched; its encoder is asked for at the first use.

    Raises:
        SettingsError: it was not fetched.
        MismatchError: its files do not belong together.
    """
    from twinline.clients.triton.embedder import TritonEmbedder

    folder = settings.releases / release
    if not folder.is_dir():
        raise SettingsError(f"release {release} is not in {settings.releases}: publish it first (twinline release)")
    opened = ReleaseFolder.load(folder)
    embedder = TritonEmbedder(settings.triton_grpc_address, opened.manifest.release, opened.manifest.space)
    return Release(CollectionInfo.of(opened.manifest), opened.preprocessor, embedder, opened.golden)
