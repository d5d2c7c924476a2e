"""A release, opened once in a process and handed on: search, consumers, builds, repairs and replays take the same `Release`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from twinline.clients.settings import Settings
from twinline.clients.store.protocol import CollectionInfo
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import SettingsError
from twinline.contract.release.folder import ReleaseFolder
from twinline.contract.release.manifest import Manifest, collection_name, consumer_group
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.weights import Words

# The fields of a release's lineage that a hit shows as its training run.
_TRAINING_FIELDS: Final = ("base_model", "snapshot", "git_revision", "dvc_experiment", "airflow_run", "created_at")


@dataclass(frozen=True, slots=True)
class Release:
    """One release: its identity, its contract, its encoder in Triton, and the golden texts that an index of it must hold.

    The doors compare these parts with a collection: `check_index` when a collection is opened, the indexer when it is made.

    Args:
        words: how it turns text into terms; None in a release without words.
        fusion: how it makes one list of two.
        training: fields of its lineage, as a hit shows them.
        format: the exported format that Triton serves.
        precision: of that format.
    """

    info: CollectionInfo
    preprocessor: Preprocessor
    embedder: Embedder
    golden: GoldenSet
    words: Words | None = None
    fusion: Fusion = field(default_factory=lambda: Fusion("dense"))
    training: Mapping[str, Any] = field(default_factory=dict)
    format: str = ""
    precision: str = ""

    @property
    def collection_name(self) -> str:
        """Return the name of its collection."""
        return collection_name(self.info.release)

    @property
    def group(self) -> str:
        """Return its consumer group."""
        return consumer_group(self.info.release)


def open_release(settings: Settings, release: str, query_seconds: float | None = None) -> Release:
    """Open a fetched release. Its encoder is connected, and checked, at the first use.

    Args:
        settings: say where fetched releases are, and where Triton answers.
        release: its id.
        query_seconds: how long a query may wait for its vector; the default is the embedder's.

    Raises:
        SettingsError: it was not fetched.
        MismatchError: its files do not belong together.
    """
    from twinline.clients.triton.embedder import TritonEmbedder

    folder = settings.releases / release
    if not folder.is_dir():
        raise SettingsError(f"release {release} is not in {settings.releases}: publish it first (twinline release)")
    opened = ReleaseFolder.load(folder)
    manifest, served = opened.manifest, opened.manifest.serving_format()
    encoder = settings.triton_grpc_address, manifest.release, manifest.space
    embedder = TritonEmbedder(*encoder) if query_seconds is None else TritonEmbedder(*encoder, query_seconds=query_seconds)
    return Release(
        CollectionInfo.of(manifest),
        opened.preprocessor,
        embedder,
        opened.golden,
        opened.words,
        manifest.fusion or Fusion("dense"),
        _training_of(manifest),
        served.name,
        served.precision,
    )


def _training_of(manifest: Manifest) -> dict[str, Any]:
    known = {"base_model": manifest.base_model, **manifest.lineage}
    return {name: known[name] for name in _TRAINING_FIELDS if known.get(name)}
