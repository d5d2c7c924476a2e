"""A stack of the bench's own with one served release, and a collection of a given size."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.documents import read_documents
from bench.stream import publish_all
from bench.synthetic import fill
from bench.workspace import Workspace, make_workspace, running_stack
from export.encoder.to_openvino import has_bf16, has_vnni
from triton_models.repository import write_models
from twinline.clients.code import BASE_RELEASE, code_fingerprint
from twinline.clients.online import AdminClient
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import CollectionInfo
from twinline.clients.triton.control import TritonControl
from twinline.contract.documents.records import Document
from twinline.contract.release.folder import ReleaseFolder
from twinline.contract.release.manifest import Manifest, collection_name
from twinline.contract.sparse.vector import Sparse

_ELSE: Final = "openvino_fp32"
# More than any benchmark embeds by this encoder, except `bench index`, whose figures do not depend on it.
_MEASURED: Final = 1_000
_CALIBRATED: Final = 400


@dataclass(frozen=True)
class Served:
    """A running stack in which Triton serves one release.

    Attributes:
        release: its id; its folder is among the settings' releases.
    """

    workspace: Workspace
    settings: Settings
    release: str

    @property
    def manifest(self) -> Manifest:
        """Return the release's manifest."""
        return Manifest.load(self.settings.releases / self.release)

    @property
    def collection(self) -> str:
        """Return the name of the release's collection."""
        return collection_name(self.release)

    @property
    def admin(self) -> AdminClient:
        """Return a client of the online process's admin API."""
        return AdminClient(self.settings.admin_url)


def base_release(workspace: Path) -> Path:
    """Return the packaged base model, exported again only when the exporting code has changed.

    It serves the quickest format for this processor; `fastest` in `params.yaml` finds it by measuring.
    """
    made_by = code_fingerprint(*BASE_RELEASE)[:12]
    served = best_format()
    folder = workspace / "releases" / f"base-{served}-{made_by}"
    if not folder.is_dir():
        export = make_workspace(workspace / "export", {})
        documents = _write_documents(export.folder / "documents.parquet")
        options = ("--serve", f"{served},{_ELSE}", "--documents", str(documents))
        export.module("export", "base", "--out", str(folder), *options)
    return folder


def best_format() -> str:
    """Return the quickest format for this processor, by its instructions."""
    if not has_bf16():
        return _ELSE
    return "openvino_int8" if has_vnni() else "openvino_bf16"


def _write_documents(path: Path) -> Path:
    """Write real documents for the calibration, without the first ones, which are measured."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    documents = read_documents("pydocs", _MEASURED + _CALIBRATED)[_MEASURED:]
    rows = [{"source": one.source, "key": one.key, "title": one.title, "text": one.text} for one in documents]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@contextmanager
def served_release(folder: Path, release: Path) -> Iterator[Served]:
    """Run a stack with an empty log and store, and the release's models loaded in its Triton, while the block runs."""
    shutil.rmtree(folder / "home", ignore_errors=True)
    workspace = make_workspace(folder, {})
    manifest = Manifest.load(release)
    settings = workspace.settings()
    shutil.copytree(release, settings.releases / manifest.release)
    with running_stack(workspace):
        *_, ensemble = write_models(release, settings.model_repository)
        with closing(TritonControl(settings.triton_grpc_address)) as control:
            control.load(ensemble)
        yield Served(workspace, settings, manifest.release)


def real_words(system: Served, documents: Sequence[Document]) -> list[Sparse]:
    """Return the words of all chunks of some documents under the served release; none where it has no words."""
    opened = ReleaseFolder.load(system.settings.releases / system.release)
    if opened.words is None:
        return []
    chunks = (chunk for document in documents for chunk in opened.preprocessor.chunks(document))
    return [opened.words.document(chunk.encoder_text) for chunk in chunks]


def make_searchable(system: Served, documents: Sequence[Document], chunks: int) -> int:
    """Index documents, add made-up chunks until there are `chunks`, build the index and answer searches from it.

    The bench itself adds the made-up chunks before another process owns the collection: through the log they would take hours.

    Returns:
        The number of chunks in the collection now.
    """
    publish_all(system.settings, documents)
    system.workspace.module("streaming", "build", "--release", system.release)
    info = CollectionInfo.of(system.manifest)
    with closing(EdgeStore(system.settings.store_folder).open(system.collection, info)) as collection:
        real = collection.count({"kind": "chunk"})
        if real < chunks:
            fill(collection, info, 0, chunks - real, real_words(system, documents))
            collection.optimize()
            collection.flush()
    with closing(system.admin) as admin:
        admin.serve(system.collection)
        admin.activate(system.collection)
    return max(real, chunks)
