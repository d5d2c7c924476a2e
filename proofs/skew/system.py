"""The system that faults are planted in: two releases of different spaces, served, indexed, and a log that still has all.

    base model ──export──> release A, prefixes of its own ──deploy──> Triton, collection   (active)
        └─ weights moved ──> release B, another space     ──deploy──> Triton, collection

Broker and Triton stay up. The online process is stopped, so that this one may open the collections.
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
# Of each weight's own spread: far beyond what any precision allows, and still an encoder.
_MOVED_BY: Final = 0.05


class NothingErased:
    """The list of erased documents of this system: empty."""

    def current(self) -> Erasures:
        """Return the empty list."""
        return Erasures()


@dataclass(frozen=True)
class System:
    """What runs, and where its parts lie; `a` is the active release, `b` one of another space.

    Attributes:
        exported: an export of A's encoder, as the export stage leaves it.
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
        """Return A's encoder folder, as training left it and the release carries it."""
        return self.release() / "encoder"

    def model(self, part: str, manifest: Manifest | None = None) -> Path:
        """Return the folder of a model in Triton's repository: `tokenizer`, `encoder` or `embed` of A by default."""
        return self.settings.model_repository / f"{part}_{(manifest or self.a).release}"

    def collection(self, manifest: Manifest | None = None) -> Path:
        """Return the folder of a release's collection; A's by default."""
        return self.settings.store_folder / collection_name((manifest or self.a).release)


@contextmanager
def running_system(folder: Path, source: str) -> Iterator[System]:
    """Make the system and run it for the time of a block.

    Args:
        folder: the exported releases in it are used again as long as the code that made them is the same.
        source: the documents, `KIND:LOCATION`.
    """
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    workspace = make_workspace(folder, {})
    releases = [release_folder(workspace, name) for name in ("a", "b")]
    a, b = (Manifest.load(release) for release in releases)
    with running_stack(workspace):
        workspace.module("twinline", "publish", "--source", source, "--all")
        # A last: it stays the active one.
        for release in reversed(releases):
            workspace.module("twinline", "release", "deploy", str(release))
        settings = workspace.settings()
        Supervisor(settings.home).stop_part("online")
        exported, scratch = home / "exported", home / "scratch"
        _export_of(settings.releases / a.release, a, exported)
        scratch.mkdir()
        yield System(settings, a, b, exported, scratch, _messages(settings, a))


def release_folder(workspace: Workspace, name: str) -> Path:
    """Return a packaged release of the base model, `a` as it is, `b` with every weight moved: two spaces; made once."""
    out = workspace.folder / "releases" / f"{name}-{_made_by()}"
    if not out.is_dir():
        base = workspace.folder / "base" / name
        _write_base(base, moved=name == "b")
        workspace.module("export", "base", "--out", str(out), "--base-model", str(base))
    return out


def _made_by() -> str:
    chosen = repr((DEFAULT_BASE_MODEL, _PROMPTS, _SEED, _MOVED_BY, code_fingerprint(*BASE_RELEASE)))
    return sha256_hex(chosen.encode())[:12]


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
    """Lay out again what the export stage made, from the release that was packaged of it."""
    for part in sorted({Path(entry.file).parent for entry in manifest.formats}):
        shutil.copytree(release / part, target / part)
    formats = tuple(
        ExportedFormat(entry.name, entry.backend, entry.precision, entry.file)  # type: ignore[arg-type]
        for entry in manifest.formats
    )
    write_export(target, Export(manifest.space, formats))


def _messages(settings: Settings, manifest: Manifest) -> Mapping[Place, Message]:
    name = collection_name(manifest.release)
    with closing(EdgeStore(settings.store_folder).open(name, CollectionInfo.of(manifest))) as collection:
        return KafkaLog(settings).messages(CollectionDocuments(collection).places())
