"""Bulk embedding: the encoder alone and the whole streaming path, against a user's alternatives, in one run.

real documents ─> chunks of the contract ─> every peer's encode, alternating
              └─> Kafka ─> consumer ─> Triton ─> Edge, flushed and committed
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.alone import broker_alone, store_alone
from bench.documents import read_documents
from bench.encoders import BARE, REFERENCE, Worker, candidates, running, sorted_openvino
from bench.machine import limits, machine, peak_gflops
from bench.rounds import Contender, Work, summary, take_turns
from bench.stream import NAME, NaiveConsumer, StreamingPath, publish_all
from bench.system import served_release
from export.encoder.to_openvino import has_bf16
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.runtime import Precision
from twinline.contract.release.manifest import Manifest

_SHORT_DOCUMENTS: Final = 96
_DOCUMENTS: Final = 384
# The naive consumer takes as many seconds as ours takes minutes; its rate needs no more.
_NAIVE_SHARE: Final = 8


def measure_speed(workspace: Path, release: Path, corpus: str, *, short: bool, stream: bool = True) -> dict[str, JSON]:
    """Measure, and return one JSON object.

    Args:
        workspace: folder for scratch and the stack's state.
        release: a packaged release.
        corpus: `pydocs` or `scifact`.
        short: few documents and rounds.
        stream: also the whole path, which needs the stack.
    """
    documents = read_documents(corpus, _SHORT_DOCUMENTS if short else _DOCUMENTS)
    rounds = 2 if short else 5
    preprocessor, manifest = Preprocessor.load(release), Manifest.load(release)
    chunks = [chunk for document in documents for chunk in preprocessor.chunks(document)]
    texts = [chunk.encoder_text for chunk in chunks]
    tokens = [chunk.token_count for chunk in chunks]
    measured = limits(0.3 if short else 2.0)
    precision = manifest.serving_format().precision
    ours = sorted_openvino(precision)
    scratch = _empty(workspace / "scratch")
    report: dict[str, JSON] = {
        "bench": "speed",
        "machine": machine(),
        "limits": {**measured, **broker_alone(workspace / "alone", short=short), **store_alone(scratch / "store", short=short)},
        "corpus": corpus,
        "documents": len(documents),
        "chunks": len(chunks),
        "tokens": sum(tokens),
        "release": manifest.release,
        "served_format": manifest.serving.format,
    }
    precisions: set[Precision] = {"fp32", precision}
    if has_bf16():
        precisions.add("bf16")
    wanted = candidates(release, sorted(precisions), scratch)
    with running(wanted, texts, scratch) as (workers, skipped):
        done = take_turns(workers, rounds)
        rows = summary(done, REFERENCE, "chunks")
        flops = encoder_flops(release, tokens)
        quality = _distances(workers)
        for row, worker in zip(rows, workers, strict=True):
            rate = row["chunks_per_second"]
            gflops = rate * flops / len(chunks) / 1e9
            row |= {
                "tokens_per_second": round(rate * sum(tokens) / len(chunks)),
                "percent_of_peak": round(100 * gflops / peak_gflops(measured, _precision(worker.name)), 1),
                "worst_cosine_distance": quality[worker.name],
            }
        report |= {"rows": [*rows], "skipped": dict(skipped), "peers": {w.name: dict(w.versions) for w in workers}, "ours": ours}
        if stream:
            report["path"] = _path(workspace, release, documents, workers, rounds)
    return report


def _path(workspace: Path, release: Path, documents: Sequence[Document], workers: Sequence[Worker], rounds: int) -> list[JSON]:
    """Return rows in documents a second: in turn the whole path, the peers' encode alone, and the naive consumer."""
    with served_release(workspace / "stack", release) as system:
        publish_all(system.settings, documents)
        folder = _empty(workspace / "collections")
        per_document = sum(len(worker.texts) for worker in workers[:1]) / len(documents)
        path = StreamingPath(system.settings, system.release, folder, len(documents))
        naive = NaiveConsumer(system.settings, system.release, folder, max(8, len(documents) // _NAIVE_SHARE))
        alone = [worker for worker in workers if worker.name in (REFERENCE, BARE)]
        contenders: list[Contender] = [path, *alone, naive]
        done = take_turns(contenders, rounds)
        shutil.rmtree(folder)
    # One unit for all: the peers get the chunks of the same documents.
    for worker in alone:
        done[worker.name] = [Work(work.units / per_document, work.seconds) for work in done[worker.name]]
    rows = summary(done, NAME, "documents")
    for row in rows:
        row["path_is_times_faster"] = round(1 / row.pop("ratio"), 2)
        del row["ratio_lowest"], row["ratio_highest"]
    return [*rows]


def encoder_flops(release: Path, tokens: Sequence[int]) -> float:
    """Return the floating-point operations of one pass over texts of these token counts, without padding.

    Per layer and token: four products with (h, h), two with (h, f), and attention over the text's own length; a
    multiply-add is two.
    """
    config = json.loads((release / "encoder" / "config.json").read_text())
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    per_token = layers * (8 * hidden * hidden + 4 * hidden * inner)
    return float(sum(count * per_token + layers * 4 * count * count * hidden for count in tokens))


def _distances(workers: Sequence[Worker]) -> dict[str, JSON]:
    """Return each worker's worst cosine distance to sentence-transformers in torch, over all texts."""
    vectors = {worker.name: _unit(worker.encode()) for worker in workers}
    reference = vectors[REFERENCE]
    return {name: float(f"{(((found - reference) ** 2).sum(axis=1) / 2).max():.2g}") for name, found in vectors.items()}


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    found: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return found


def _precision(name: str) -> Precision:
    return "bf16" if "bf16" in name else "int8" if "int8" in name else "fp32"


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
