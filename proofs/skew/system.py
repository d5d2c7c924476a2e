"""The system for planted faults: two releases of different spaces, served and indexed, and a complete log.

    base model ──export──> release A, prefixes of its own ──deploy──> Triton, collection   (active)
        └─ weights moved ──> release B, another space     ──deploy──> Triton, collection

Broker and Triton stay up. The online process is stopped, so that this process may open the collections.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.stored import CollectionDocuments
from bench.workspace import Workspace, make_workspace, running_stack
from export.encoder.formats import Export, ExportedFormat, write_export
from streaming.decode import Message
from twinline.clients.base_model import DEFAULT_BASE_MODEL, resolve_base_model
from twinline.clients.code import BASE_RELEASE, code_fingerprint
from twinline.clients.erasure_list import Erasures
from twinline.clients.settings import Settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import CollectionInfo
from twinline.contract.canonical import sha256_hex
from twinline.contract.release.manifest import Manifest, collection_name
from twinline.stack.supervisor import Supervisor
from twinline.upkeep.skew.pieces import Place
from twinline.upkeep.skew.stored import KafkaLog

SOURCE: Final = "pydocs:json,http,statistics,concurrent,difflib,email"
SHORT_SOURCE: Final = "pydocs:json,argparse"

_PROMPTS: Final = {"query": "query: ", "document": "passage: "}
_SEED: Final = 20_260_101
# A share of each weight's own spread: far beyond every precision's limit, and still an encoder.
_MOVED_BY: Final = 0.05


# In English, so that words have a stemmer and stop words.
_CORPUS: Final = (
    ("Reading a file", "How do I read a file line by line? The file is opened, and each line of it is read until there is none."),
    ("JSON", "A decoder reads a JSON document from a string, and an encoder writes it. The keys of an object are strings."),
    ("Arguments", "The parser of arguments reads the options of a command line, and it is told which of them are needed."),
    ("HTTP", "A server answers a request with a status, with headers and with a body. The client closes the connection."),
    ("Statistics", "The mean of the data is their sum, and the median is the middle one of them when they are in order."),
    ("Futures", "An executor runs a function in a thread or in a process, and a future has the result of it when it is done."),
    ("Mail", "A message has headers and a body, and an attachment of it is encoded, so that it may be sent by mail."),
    ("Differences", "The lines of two files are compared, and the difference between them is written line by line."),
)


class NothingErased:
    """The list of erased documents of this system: empty."""

    def current(self) -> Erasures:
        """Return the empty list."""
        return Erasures()


@dataclass(frozen=True)
class System:
    """The running system and the places of its parts; `a` is the active release, `b` is of another space.

    Attributes:
        exported: an export of A's encoder, as from the export stage.
        scratch: for copies; on the same disk as the rest.
        messages: of all documents, by their place in the log.
    """

    settings: Settings
    a: Manifest
    b: Manifest
    exported: Path
    scratch: Path
    messages: Mapping[Place, Message]

    def release(self, manifest: Manifest | None = None) -> Path:
        """Return the folder of a fetched release; A's by default."""
        return self.settings.releases / (manifest or self.a).release

    @property
    def encoder(self) -> Path:
        """Return A's encoder folder inside the release, as training wrote it."""
        return self.release() / "encoder"

    def model(self, part: str, manifest: Manifest | None = None) -> Path:
        """Return the folder of a model in Triton's repository: `tokenizer`, `encoder` or `embed` of A by default."""
        return self.settings.model_repository / f"{part}_{(manifest or self.a).release}"

    def collection(self, manifest: Manifest | None = None) -> Path:
        """Return the folder of a release's collection; A's by default."""
        return self.settings.store_folder / collection_name((manifest or self.a).release)


@contextmanager
def running_system(folder: Path, source: str) -> Iterator[System]:
    """Make the system and run it while the block runs.

    Args:
        folder: its exported releases are reused as long as the exporting code stays the same.
        source: the documents, `KIND:LOCATION`.
    """
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    workspace = make_workspace(folder, {})
    releases = [release_folder(workspace, name) for name in ("a", "b")]
    a, b = (Manifest.load(release) for release in releases)
    with running_stack(workspace):
        workspace.module("twinline", "publish", "--source", source, "--all")
        # A last, so that it stays active.
        for release in reversed(releases):
            workspace.module("twinline", "release", "deploy", str(release))
        settings = workspace.settings()
        Supervisor(settings.home).stop_part("online")
        exported, scratch = home / "exported", home / "scratch"
        _export_of(settings.releases / a.release, a, exported)
        scratch.mkdir()
        yield System(settings, a, b, exported, scratch, _messages(settings, a))


def release_folder(workspace: Workspace, name: str) -> Path:
    """Return a packaged release of the base model, made once: `a` unchanged, `b` with every weight moved, so two spaces."""
    out = workspace.folder / "releases" / f"{name}-{_made_by()}"
    if not out.is_dir():
        base, corpus = workspace.folder / "base" / name, workspace.folder / "corpus" / "documents.parquet"
        _write_base(base, moved=name == "b")
        _write_corpus(corpus)
        workspace.module("export", "base", "--out", str(out), "--base-model", str(base), "--documents", str(corpus))
    return out


def _made_by() -> str:
    chosen = repr((DEFAULT_BASE_MODEL, _PROMPTS, _SEED, _MOVED_BY, _CORPUS, code_fingerprint(*BASE_RELEASE)))
    return sha256_hex(chosen.encode())[:12]


def _write_corpus(path: Path) -> None:
    """Write documents with words of unequal rarity: of a release without a corpus, all words weigh alike."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"source": "corpus", "key": str(at), "title": title, "text": text} for at, (title, text) in enumerate(_CORPUS)]
    pq.write_table(pa.Table.from_pylist(rows), path)


def _write_base(folder: Path, *, moved: bool) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(resolve_base_model(DEFAULT_BASE_MODEL), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": _PROMPTS}))
    if moved:
        numbers = np.random.default_rng(_SEED)
        weights = load_file(folder / "model.safetensors")
        for name in sorted(name for name, tensor in weights.items() if tensor.dtype == np.float32):
            tensor = weights[name]
            noise = numbers.standard_normal(tensor.shape, np.float32)
            weights[name] = (tensor + noise * np.float32(_MOVED_BY * tensor.std())).astype(np.float32)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _export_of(release: Path, manifest: Manifest, target: Path) -> None:
    """Restore the export stage's folder from the packaged release."""
    for part in sorted({Path(entry.file).parent for entry in manifest.formats}):
        shutil.copytree(release / part, target / part)
    formats = tuple(ExportedFormat(entry.name, entry.backend, entry.precision, entry.file) for entry in manifest.formats)
    write_export(target, Export(manifest.space, formats))


def _messages(settings: Settings, manifest: Manifest) -> Mapping[Place, Message]:
    name = collection_name(manifest.release)
    with closing(EdgeStore(settings.store_folder).open(name, CollectionInfo.of(manifest))) as collection:
        return KafkaLog(settings).messages(CollectionDocuments(collection).places())
