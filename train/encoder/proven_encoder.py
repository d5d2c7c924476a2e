"""An encoder by its exported fp32 file, once parity has proved it: the evaluation's vectors, several times as fast as by torch.

A trained encoder has its export beside it, and a release carries one. The base model's is that of any release here with the same
weights and pooling, such as the one that `twinline release bootstrap` made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from train.encoder.in_batches import embed_in_batches
from train.weights import weights_sha256
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.runtime import Runtime
from twinline.contract.encoder.space import space_id
from twinline.contract.encoder.specification import Contract, Pooling, Role
from twinline.contract.encoder.tensors import served_length
from twinline.contract.encoder.tokens import Encoded
from twinline.contract.errors import MismatchError
from twinline.contract.release.manifest import MANIFEST_FILE, Format, Manifest, hash_files
from twinline.scoring.runtimes import open_onnxruntime, open_openvino

# The quicker first. Both are exact.
_BACKENDS: Final = ("openvino", "onnxruntime")
# Padded tokens in one call, and the step of padded lengths: the runtime prepares itself for each shape.
_BATCH_TOKENS: Final = 4_096
_STEP: Final = 16


@dataclass(frozen=True)
class Proven:
    """An fp32 file, the weights that it computes with, and what proved it."""

    file: Path
    backend: str
    weights_sha256: str
    proof: str


class ProvenEncoder:
    """Implements `contract.encoder.embedding.Embedder` by an exported fp32 file, on the CPU."""

    def __init__(self, run: Runtime, preprocessor: Preprocessor, space: str) -> None:
        self._run = run
        self._preprocessor = preprocessor
        self._space = space
        limit = preprocessor.contract.vector.max_tokens
        self._lengths = (*range(_STEP, limit, _STEP), limit)

    @classmethod
    def load(cls, proven: Proven, preprocessor: Preprocessor) -> ProvenEncoder:
        """Open the file under a contract."""
        run = open_openvino(proven.file, "f32") if proven.backend == "openvino" else open_onnxruntime(proven.file)
        return cls(run, preprocessor, space_id(preprocessor.contract.vector_fingerprint, proven.weights_sha256))

    @property
    def space(self) -> str:
        """Return the identity of the encoder."""
        return self._space

    def embed(self, texts: Sequence[str], role: Role, *, progress: str = "") -> Embeddings:
        """Return one vector a text, `(n, dim)`, in the order given; `progress` is the label of a bar, empty for none."""
        return embed_in_batches(self._preprocessor, texts, role, self._forward, _BATCH_TOKENS, self._space, progress)

    def _forward(self, rows: Encoded) -> NDArray[np.float32]:
        length = served_length(int(rows.token_counts.max()), self._lengths)
        return self._run(*rows.padded(length, self._preprocessor.pad_id))


def find_proven(folders: Iterable[Path], weights: str, pooling: Pooling) -> Proven | None:
    """Return the first fitting file of releases in folders; None where there is none.

    Weights and pooling make a graph; prefixes and limits are the tokenizer's part.

    Raises:
        MismatchError: a fitting release's files are not what its manifest says.
    """
    for folder in folders:
        if not (folder / MANIFEST_FILE).is_file():
            continue
        manifest = Manifest.load(folder)
        if manifest.weights_sha256 == weights and Contract.load(folder)[0].vector.pooling == pooling:
            manifest.verify_files(folder)
            if found := next(_proven(folder, manifest.formats, weights, f"release {manifest.release}"), None):
                return found
    return None


def proven_export(encoder: Path, exported: Path, parity: Path) -> Proven | None:
    """Return the file of a trained encoder's export; None where it was not exported yet.

    Raises:
        MismatchError: the export is of another encoder, was changed since, or the parity report is of another export.
    """
    record = exported / "formats.json"
    if not record.is_file() or not parity.is_file():
        return None
    contract, _ = Contract.load(encoder)
    weights = weights_sha256(encoder)
    said, report = json.loads(record.read_bytes()), json.loads(parity.read_bytes())
    found = {name: digest for name, digest in hash_files(exported).items() if name != record.name}
    for what, one, other in (
        ("space", said["space"], space_id(contract.vector_fingerprint, weights)),
        ("files", said["files"], found),
        ("parity report", report["export_sha256"], hashlib.sha256(record.read_bytes()).hexdigest()),
    ):
        if one != other:
            raise MismatchError(
                f"{exported}: its {what} is not that of {encoder}: export and prove this encoder (`dvc repro encoder-parity`)"
            )
    formats = [Format.from_json(entry) for entry in report["formats"]]
    return next(_proven(exported, formats, weights, str(parity)), None)


def _proven(folder: Path, formats: Sequence[Format], weights: str, proof: str) -> Iterator[Proven]:
    for backend in _BACKENDS:
        for entry in formats:
            # `<=`, so that NaN proves nothing.
            if entry.backend == backend and entry.precision == "fp32" and entry.parity.worst <= entry.parity.limit:
                said = f"{entry.name}, {entry.parity.worst:.1e} from torch by {proof}"
                yield Proven(folder / entry.file, backend, weights, said)


def release_folders(home: Path) -> list[Path]:
    """Return the folders of the releases that are here: the base model's first."""
    return [home / "base" / "release", *sorted((home / "releases").glob("r*"))]
