"""A platform small enough to plant faults in: an encoder folder, its export, its release, its models, its collection."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from export.encoder.build import encoder_space
from export.encoder.formats import Export, export_sha256, write_export
from export.encoder.package import ReleaseNotes, ReleaseParts, WordsPart, package_release
from export.encoder.parity_stage import ParityReport
from export.encoder.words import WordsParams, write_words
from tests.adapter_suites.memory_store import MemoryCollection, MemoryStore
from triton_models.names import encoder_model, tokenizer_model
from triton_models.repository import write_models
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import CollectionInfo
from twinline.contract.encoder.encoder_record import encoder_identity
from twinline.contract.encoder.golden import GoldenVector
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.space import hash_safetensors
from twinline.contract.encoder.specification import ChunkerSettings, Contract, make_contract
from twinline.contract.release.manifest import Format, Manifest, Parity, collection_name
from twinline.contract.sparse.fusion import Fusion

DIMENSION = 4
# What the words of a release are counted on.
CORPUS = ["the lease of the house", "a house and a lease", "leases run for a year", "the year of the house", "Iğdır"]
PARITY = Parity(worst=1e-9, median=1e-10, worst_text="a text", limit=1e-6)
OPENVINO = Format("openvino_fp32", "openvino", "fp32", "openvino/model.xml", PARITY)


def vector_of(text: str) -> NDArray[np.float32]:
    """Return the unit vector `(DIMENSION,)` that the encoder of these tests gives a text."""
    raw = np.frombuffer(hashlib.sha256(text.encode()).digest()[:DIMENSION], np.uint8).astype(np.float32) + 1
    return raw / np.linalg.norm(raw)


def edit(path: Path, change: Mapping[str, Any]) -> None:
    """Change values of a JSON file, by dotted name."""
    value = json.loads(path.read_bytes())
    for name, new in change.items():
        place = value
        *parents, last = name.split(".")
        for parent in parents:
            place = place[parent]
        place[last] = new
    path.write_text(json.dumps(value))


@dataclass
class Platform:
    """Where everything lies."""

    folder: Path
    manifest: Manifest
    parts: ReleaseParts
    store: MemoryStore

    @property
    def encoder(self) -> Path:
        return self.parts.encoder

    @property
    def exported(self) -> Path:
        return self.parts.exported

    @property
    def release(self) -> Path:
        return self.settings.releases / self.manifest.release

    @property
    def settings(self) -> Settings:
        return Settings(home=self.folder / "home")

    @property
    def collection(self) -> MemoryCollection:
        return self.store.ready[collection_name(self.manifest.release)]

    @property
    def encoder_model(self) -> Path:
        return self.settings.model_repository / encoder_model(self.manifest.release)

    @property
    def tokenizer_model(self) -> Path:
        return self.settings.model_repository / tokenizer_model(self.manifest.release)

    def with_words(self, fusion: Fusion | None = None) -> "Platform":
        """Return a platform beside this one whose release has words."""
        folder = self.folder / "with words"
        words = folder / "words"
        words.mkdir(parents=True)
        documents = folder / "documents.parquet"
        rows = [{"source": "s", "key": str(at), "title": "", "text": text} for at, text in enumerate(CORPUS)]
        pq.write_table(pa.Table.from_pylist(rows), documents)
        write_words([documents], Preprocessor.load(self.encoder), WordsParams(language="english"), words)
        parts = replace(self.parts, words=WordsPart(words, fusion or Fusion()))
        other = Platform(folder, None, parts, MemoryStore())  # type: ignore[arg-type]
        other.manifest = other.package()
        other.settle()
        return other

    def settle(self) -> None:
        """Bring the packaged release into the folder of releases, and make its empty collection."""
        self.release.parent.mkdir(parents=True)
        (self.folder / "packaged").rename(self.release)
        made = self.store.create(collection_name(self.manifest.release), CollectionInfo.of(self.manifest))
        made.put_golden({entry.name: entry.vector for entry in self.parts.golden})

    def package(self, parts: ReleaseParts | None = None, **metrics: Any) -> Manifest:
        """Package the encoder into its release folder."""
        notes = ReleaseNotes("a base", metrics, {})
        return package_release(parts or self.parts, notes, self.folder / "packaged", ("openvino_fp32",), (16, 64), 8)

    def load_tokenizer(self) -> None:
        """Do what Triton does when it loads the tokenizer model."""
        spec = spec_from_file_location("tokenizer_model", self.tokenizer_model / "1" / "model.py")
        assert spec
        assert spec.loader
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        arguments = {"model_repository": str(self.tokenizer_model), "model_version": "1"}
        module.TritonPythonModel().initialize(arguments)


def write_encoder(folder: Path, seed: int = 0, **changes: Any) -> Contract:
    """Write an encoder folder as training leaves it."""
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "lease": 2, "the": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    options = {"max_tokens": 64, "dimension": DIMENSION, "chunker": ChunkerSettings(overlap_tokens=8, title_max_tokens=8)}
    contract, own = make_contract(tokenizer.to_str().encode(), **{**options, **changes})
    contract.save(folder, own)
    weights = np.random.default_rng(seed).random((2, DIMENSION), np.float32)
    save_file({"weight": weights}, folder / "model.safetensors")
    config = {"hidden_size": DIMENSION, "max_position_embeddings": 64, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps(config))
    record_encoder(folder)
    return contract


def record_encoder(folder: Path) -> None:
    """Write `training.json` as training does."""
    contract, _ = Contract.load(folder)
    identity = encoder_identity(folder, contract, hash_safetensors(folder / "model.safetensors"))
    (folder / "training.json").write_text(json.dumps({"base_model": "a base", **identity}))


def export(encoder: Path, exported: Path) -> ParityReport:
    """Write an export, and the report of its parity."""
    for name in ("openvino/model.xml", "openvino/model.bin"):
        (exported / name).parent.mkdir(parents=True, exist_ok=True)
        (exported / name).write_text(f"content of {name}")
    contract, _ = Contract.load(encoder)
    write_export(exported, Export(encoder_space(encoder, contract), (), ()))
    return ParityReport(export_sha256(exported), (OPENVINO,), ())


def golden(encoder: Path) -> Sequence[GoldenVector]:
    """Return two golden texts as this encoder reads them."""
    preprocessor = Preprocessor.load(encoder)
    return [
        GoldenVector(name, role, text, tuple(preprocessor.encode([text], role).token_ids[0]), False, vector_of(text))
        for name, role, text in (("question", "query", "the lease"), ("turkish", "document", "the lease of Iğdır"))  # type: ignore[misc]
    ]


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Everything is as it should be: each test plants one fault."""
    encoder, exported = tmp_path / "encoder", tmp_path / "exported"
    write_encoder(encoder)
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text("{}")
    parts = ReleaseParts(encoder, exported, export(encoder, exported), golden(encoder), {"evaluation.json": evaluation})
    platform = Platform(tmp_path, None, parts, MemoryStore())  # type: ignore[arg-type]
    platform.manifest = platform.package()
    platform.settle()
    write_models(platform.release, platform.settings.model_repository)
    # The model server's own module is there only inside the server.
    server = ModuleType("triton_python_backend_utils")
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", server)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return platform


Plant = Callable[[Platform], object]
__all__ = ["OPENVINO", "Plant", "Platform", "edit", "export", "record_encoder", "replace", "vector_of", "write_encoder"]
