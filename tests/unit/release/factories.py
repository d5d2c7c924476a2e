"""Small releases, experiments and servers for the tests of release/."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twinline.clients.online import CollectionStatus, OnlineStatus
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.golden import GoldenVector, write_golden
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import SettingsError
from twinline.contract.release.checks import Check
from twinline.contract.release.manifest import Fingerprints, Format, Manifest, Parity, Serving, hash_files, release_id
from twinline.contract.release.verdict import EVALUATION_CHECKS, FORMAT_TO_SERVE, Verdict, stated

DIMENSION = 4
PARITY = Parity(worst=2e-7, median=1e-8, worst_text="a text", limit=1e-6)


def text_vector(text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a vector that depends on nothing but the text."""
    numbers = np.frombuffer(hashlib.sha256(text.encode()).digest()[: DIMENSION * 2], dtype=np.uint16)
    vector = numbers.astype(np.float32) + 1.0
    return vector / np.linalg.norm(vector)


def make_release(folder: Path, texts: Sequence[str] = ("alpha", "beta")) -> Manifest:
    """Write a release folder that is whole, with a golden query and a golden document per text."""
    folder.mkdir(parents=True)
    (folder / "contract.json").write_text("{}")
    (folder / "encoder").mkdir()
    (folder / "encoder" / "model.safetensors").write_bytes(b"weights")
    write_golden(folder, [golden(role, text) for role in ("query", "document") for text in texts])
    serving = Serving("onnx_fp32", (16,), 8)
    files = hash_files(folder)
    manifest = Manifest(
        release=release_id("space-1", "contract-1", serving, files),
        space="space-1",
        fingerprints=Fingerprints("vector-1", "index-1", "contract-1"),
        weights_sha256="w",
        dimension=DIMENSION,
        base_model="base",
        formats=(Format("onnx_fp32", "onnxruntime", "fp32", "onnx/model.onnx", PARITY),),
        dropped_formats=(),
        serving=serving,
        files=files,
    )
    manifest.save(folder)
    return manifest


def golden(role: Role, text: str) -> GoldenVector:
    """Return a golden text of as many tokens as it has letters."""
    return GoldenVector(f"{role}-{text}", role, text, tuple(range(len(text))), False, text_vector(text))


def verdict(*, refused: str = "", reason: str = "ndcg_at_10 0.71 against 0.70", without: str = "") -> str:
    """Return what the evaluation stage writes; one check may be refused, another left out."""
    names = [name for name in EVALUATION_CHECKS if name != without]
    return json.dumps(Verdict([Check(name, name != refused, reason) for name in names]).to_json())


def quality(*, passed: bool = True, statement: str = "serves onnx_fp32") -> str:
    """Return what the quality stage writes, as far as the gate reads it."""
    return json.dumps({"check": stated(Check(FORMAT_TO_SERVE, passed, statement))})


def parity(worst: float = 2e-7, precision: str = "fp32", dropped: Sequence[str] = ()) -> str:
    """Return what the parity stage writes."""
    figures = {"worst": worst, "median": 1e-9, "worst_text": "a text", "limit": 1e-6}
    entry = {"name": f"onnx_{precision}", "backend": "onnxruntime", "precision": precision, "file": "x", "parity": figures}
    return json.dumps({"formats": [entry], "dropped": [{"name": name, "reason": "too far off"} for name in dropped]})


class FakeRevision:
    """The files of a revision, in a dict."""

    name = "revision 1"

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def read_text(self, path: str) -> str:
        if path not in self._files:
            raise SettingsError(f"{self.name} has no {path}")
        return self._files[path]


class FakeOnline:
    """The online process: what it serves, what is active, and what was asked of it."""

    def __init__(self, served: Sequence[str] = (), active: str | None = None, refused: Mapping[str, str] | None = None) -> None:
        self.served = list(served)
        self.active = active
        self.refused = dict(refused or {})
        self.calls: list[str] = []

    def status(self) -> OnlineStatus:
        collections = [
            CollectionStatus(name, name, "space-1", "contract-1", name == self.active, True, 3, 3, 0, []) for name in self.served
        ]
        return OnlineStatus(self.active, collections, self.refused)

    def serve(self, name: str) -> None:
        self.calls.append(f"serve {name}")
        if name not in self.served:
            self.served.append(name)

    def activate(self, name: str) -> None:
        self.calls.append(f"activate {name}")
        self.active = name


class FakeControl:
    """A model server that remembers what it was told to load."""

    def __init__(self, loaded: Sequence[str] = ()) -> None:
        self.loaded = list(loaded)

    def ready(self, model: str) -> bool:
        return model in self.loaded

    def load(self, model: str) -> None:
        self.loaded.append(model)


class FakeEmbedder:
    """Gives each text its own vector; `shift` turns the vectors of one text, `extra_tokens` miscounts."""

    space = "space-1"

    def __init__(self, shifted: str = "", extra_tokens: int = 0) -> None:
        self._shifted = shifted
        self._extra_tokens = extra_tokens

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        vectors = np.stack([text_vector(text if text != self._shifted else text + "!") for text in texts])
        counts = np.array([len(text) + self._extra_tokens for text in texts], dtype=np.int32)
        return Embeddings(vectors, counts, np.zeros(len(texts), dtype=np.bool_), self.space)
