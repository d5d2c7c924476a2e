"""The compared encoders, each in a process of its own, on the same threads, over the same texts."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.machine import cores
from bench.peers import environments
from bench.rounds import Work
from bench.workers import answer_of, answering, ask
from export.encoder.runtimes import openvino_hint
from twinline.clients.base_model import DEFAULT_BASE_MODEL, resolve_base_model
from twinline.contract.encoder.runtime import Precision
from twinline.contract.errors import SettingsError, TransientError
from twinline.contract.release.manifest import Manifest

_WORKER: Final = Path(__file__).resolve().parent / "peers" / "worker.py"
REFERENCE: Final = "sentence-transformers torch fp32"
BARE: Final = "ONNX Runtime fp32, sorted"
_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class Candidate:
    """An encoder to compare: its name in the worker, its options, and its environment."""

    name: str
    encoder: str
    options: Mapping[str, Any]
    environment: str = ""


@dataclass
class Worker:
    """A running candidate; a turn encodes all of the texts."""

    name: str
    process: subprocess.Popen[str]
    texts: Sequence[str]
    vectors: Path
    log: Path
    versions: Mapping[str, str] = field(default_factory=dict)

    def turn(self) -> Work:
        """Encode the texts once."""
        answer = self._ask({"texts": list(self.texts), "vectors": None})
        return Work(len(self.texts), answer["seconds"])

    def encode(self) -> NDArray[np.float32]:
        """Return the vectors `(n, dim)` of the texts, for the comparison."""
        self._ask({"texts": list(self.texts), "vectors": str(self.vectors)})
        found: NDArray[np.float32] = np.load(self.vectors)
        return found

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return ask(self.process, request, self.name, self.log)


def sorted_openvino(precision: Precision) -> str:
    """Return the name of a bare loop over OpenVINO at a precision."""
    return f"OpenVINO {precision}, sorted"


def candidates(release: Path, formats: Sequence[Precision], scratch: Path) -> list[Candidate]:
    """Return the encoders that can be compared on this machine.

    Args:
        release: a packaged release; bare runtimes and ours run its ONNX and OpenVINO files.
        formats: precisions of the bare OpenVINO loop: fp32, bf16, int8 (which the release must have).
        scratch: for copies of model folders, because some peers write into them.

    Raises:
        SettingsError: the release lacks an exact format.
    """
    manifest = Manifest.load(release)
    base = resolve_base_model(DEFAULT_BASE_MODEL)
    files = {entry.name: str(release / entry.file) for entry in manifest.formats}
    if missing := sorted({"onnx_fp32", "openvino_fp32"} - files.keys()):
        raise SettingsError(f"release {manifest.release} has no {missing[0]}, the reference for its served format: export it")
    own: dict[str, Any] = {
        "threads": cores(),
        "batch": _BATCH,
        "max_tokens": max(manifest.serving.length_buckets),
        "dimension": manifest.dimension,
        "model": str(base),
        "tokenizer": str(release / "tokenizer.json"),
        "onnx": files["onnx_fp32"],
    }
    found = [
        Candidate(REFERENCE, "sentence_transformers", own),
        Candidate(BARE, "bare_onnxruntime", own),
    ]
    if "bf16" in formats:
        found.append(Candidate("sentence-transformers torch bf16", "sentence_transformers", {**own, "bf16": True}))
    for precision in formats:
        file = files["openvino_int8" if precision == "int8" else "openvino_fp32"]
        options = {**own, "openvino": file, "precision": openvino_hint(precision)}
        found.append(Candidate(sorted_openvino(precision), "bare_openvino", options))
        found.append(Candidate(f"{sorted_openvino(precision)}, a stream a core", "streams_openvino", options))
    for backend in ("onnx", "openvino"):
        folder = _own_copy(base, scratch / f"sentence-transformers-{backend}")
        options = {**own, "backend": backend, "model": str(folder)}
        found.append(Candidate(f"sentence-transformers {backend}", "sentence_transformers", options, "sentence-transformers"))
    folder = _own_copy(base, scratch / "fastembed")
    shutil.copyfile(own["onnx"], folder / "model.onnx")
    shutil.copyfile(own["tokenizer"], folder / "tokenizer.json")
    found.append(Candidate("fastembed", "fastembed", {**own, "model": str(folder)}, "fastembed"))
    found.append(Candidate("infinity-emb torch", "infinity", own, "infinity"))
    return found


@contextmanager
def running(wanted: Sequence[Candidate], texts: Sequence[str], scratch: Path) -> Iterator[tuple[list[Worker], dict[str, str]]]:
    """Run the candidates of this machine while the block runs; the second value has the reasons of the ones left out."""
    skipped: dict[str, str] = {}
    workers: list[Worker] = []
    with ExitStack() as held:
        for candidate in wanted:
            python = environments.python_of(candidate.environment) if candidate.environment else Path(sys.executable)
            if python is None:
                skipped[candidate.name] = f"no environment: python -m bench peers makes it ({candidate.environment})"
                continue
            log = scratch / f"{candidate.encoder}-{candidate.options.get('backend', '')}.log"
            process = held.enter_context(_started(candidate, python, log))
            try:
                ready = answer_of(process, candidate.name, log)
            except TransientError as exc:
                if candidate.environment == "":
                    raise
                skipped[candidate.name] = str(exc)
                continue
            vectors = scratch / f"{len(workers)}.npy"
            workers.append(Worker(candidate.name, process, texts, vectors, log, ready["versions"]))
        yield workers, skipped


@contextmanager
def _started(candidate: Candidate, python: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    threads = str(candidate.options["threads"])
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    variables = {**os.environ, **offline, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)}
    variables.pop("PYTHONPATH", None)
    command = [str(python), str(_WORKER), candidate.encoder, json.dumps(dict(candidate.options))]
    with log.open("ab") as stderr, answering(command, variables, stderr) as process:
        yield process


def _own_copy(model: Path, folder: Path) -> Path:
    """Copy a model folder: some peers write their exports beside the weights."""
    shutil.copytree(model, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder
