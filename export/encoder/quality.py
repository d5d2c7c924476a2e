"""The quality stage: size, speed and answers to the held-out queries of each format that passed parity.

Parity measures the distance of vectors; this stage measures its cost in search, and drops a format over its budget.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from export.encoder.formats import ExportedFormat, export_sha256
from export.encoder.heldout import HeldOutPart, sample
from export.encoder.params import FASTEST, QualityParams
from export.encoder.parity_stage import ParityReport
from export.encoder.runtimes import open_runtime
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.runtime import Runtime
from twinline.contract.encoder.tensors import served_length
from twinline.contract.encoder.tokens import Encoded
from twinline.contract.errors import ContractError, MismatchError
from twinline.contract.release.checks import Check
from twinline.contract.release.manifest import DroppedFormat, Format, Quality
from twinline.contract.release.verdict import FORMAT_TO_SERVE, read_stated, stated
from twinline.scoring.intervals import paired_bootstrap
from twinline.scoring.ranking import rank_by_vectors
from twinline.scoring.retrieval import score_queries

METRIC: Final = "ndcg_at_10"
# A query as people type them, for latency.
_SHORT_QUERY: Final = "how do I roll back a release?"
# Formats take turns, so that changes of the machine's clock or load meet all of them.
_TURNS: Final = 3
_QUERIES_A_TURN: Final = 10
# `fastest` gives up a more exact format only for a gain above the noise of the measurement: the served format is part of the
# release, and equal runs should make equal releases.
_WORTH: Final = 1.1
_EXACTNESS: Final[Mapping[str, int]] = {"fp32": 0, "bf16": 1, "fp16": 1, "int8": 2}


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The measurements of one export, the formats dropped by them, and the served format."""

    export_sha256: str
    reference: str
    statement: str
    figures: Mapping[str, Quality]
    dropped: tuple[DroppedFormat, ...]
    check: Check
    serves: str

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**asdict(self), "check": stated(self.check)}, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_quality(path: Path) -> QualityReport:
    """Read a report from `QualityReport.save`.

    Raises:
        ContractError: there is none.
    """
    if not path.is_file():
        raise ContractError(f"{path} does not exist: run `python -m export quality` first")
    value = json.loads(path.read_bytes())
    return QualityReport(
        export_sha256=value["export_sha256"],
        reference=value["reference"],
        statement=value["statement"],
        figures={name: Quality(**entry) for name, entry in value["figures"].items()},
        dropped=tuple(DroppedFormat(**entry) for entry in value["dropped"]),
        check=read_stated(value["check"]),
        serves=value["serves"],
    )


def measure_quality(
    exported: Path,
    preprocessor: Preprocessor,
    parity: ParityReport,
    held_out: HeldOutPart,
    buckets: Sequence[int],
    serve: Sequence[str],
    params: QualityParams,
) -> QualityReport:
    """Ask every format that passed parity the held-out queries, and choose the one to serve.

    Args:
        exported: the export's folder.
        preprocessor: of the encoder.
        parity: its formats; the first float32 one is the reference for the others.
        held_out: queries and documents.
        buckets: the padded lengths of serving.
        serve: format names in order of preference, or `fastest`.
        params: budgets, and sizes of the measurement.

    Raises:
        ContractError: no float32 format passed parity.
        MismatchError: the parity report is of another export.
    """
    if parity.export_sha256 != export_sha256(exported):
        raise MismatchError(f"the parity report is of another export than {exported}: `dvc repro encoder-parity`")
    reference = next((entry for entry in parity.formats if entry.precision == "fp32"), None)
    if reference is None:
        names = ", ".join(entry.name for entry in parity.formats) or "none"
        raise ContractError(f"no fp32 format passed parity (these did: {names}): add onnx_fp32 to encoder.export.formats")
    part = sample(held_out, params)
    documents, queries = (preprocessor.encode(texts, role) for texts, role in _texts(part))
    scores: dict[str, Mapping[str, float]] = {}
    figures: dict[str, Quality] = {}
    # The reference first: the others are measured against it.
    entries = sorted(parity.formats, key=lambda entry: entry is not reference)
    speeds = _speeds(exported, entries, preprocessor, documents, buckets, params.batch_size)
    for entry in entries:
        run = open_runtime(exported, ExportedFormat(**_fields(entry)))
        document_vectors, query_vectors = (
            embed(run, encoded, buckets, preprocessor.pad_id, params.batch_size) for encoded in (documents, queries)
        )
        ranking = rank_by_vectors(list(part.queries), query_vectors, part.document_ids, part.chunk_counts, document_vectors)
        scores[entry.name] = score_queries(ranking, part.judgements)[METRIC]
        lost = paired_bootstrap(scores[reference.name], scores[entry.name], samples=params.bootstrap_samples)
        worst = _worst_slice(scores[entry.name], scores[reference.name], part.slices)
        figures[entry.name] = Quality(
            ndcg_at_10=float(np.mean(list(scores[entry.name].values()))),
            lost=lost.mean,
            lost_low=lost.low,
            lost_high=lost.high,
            budget=params.max_ndcg_lost[entry.precision],
            worst_slice=worst[0],
            worst_slice_lost=worst[1],
            bytes=_bytes(exported, entry),
            query_ms=speeds[entry.name].query_ms,
            texts_per_second=speeds[entry.name].texts_per_second,
        )
    dropped = [DroppedFormat(name, why) for name, why in ((n, over_budget(f, params)) for n, f in figures.items()) if why]
    statement = (
        f"{len(part.queries)} of {len(held_out.queries)} held-out queries, {len(part.document_ids)} of "
        f"{len(held_out.document_ids)} documents, {len(part.chunk_texts)} chunks"
    )
    check, serves = choose(parity, figures, dropped, serve, reference.name)
    return QualityReport(parity.export_sha256, reference.name, statement, figures, tuple(dropped), check, serves)


def over_budget(figure: Quality, params: QualityParams) -> str:
    """Return why a format may not be served, empty if it may. The upper end of the interval counts as its loss."""
    reasons = []
    # `not <=`: NaN is over every budget
    if not figure.lost_high <= figure.budget:
        reasons.append(
            f"{METRIC} {figure.ndcg_at_10:.4f}, may lose {figure.lost_high:.4f} against fp32 (mean {figure.lost:+.4f}), budget "
            f"encoder.quality.max_ndcg_lost {figure.budget}"
        )
    if params.max_bytes and figure.bytes > params.max_bytes:
        reasons.append(f"{figure.bytes} bytes, budget encoder.quality.max_bytes {params.max_bytes}")
    if params.max_query_ms and not figure.query_ms <= params.max_query_ms:
        reasons.append(f"{figure.query_ms:.2f} ms for one short query, budget encoder.quality.max_query_ms {params.max_query_ms}")
    return "; ".join(reasons)


def choose(
    parity: ParityReport, figures: Mapping[str, Quality], dropped: Sequence[DroppedFormat], serve: Sequence[str], reference: str
) -> tuple[Check, str]:
    """Return the gate's check, and the format to serve: the first wanted one left.

    `fastest` stands for the quickest one left; a less exact format must be a tenth quicker than a more exact one.

    Where none is left the gate refuses. The release is still packaged, with the exact format, to complete the evidence.
    """
    refused = {entry.name: entry.reason for entry in (*parity.dropped, *dropped)}
    left = [entry for entry in parity.formats if entry.name in figures and entry.name not in refused]
    rates = {name: figure.texts_per_second for name, figure in figures.items()}
    wanted = [name for listed in serve for name in (_quickest(left, rates) if listed == FASTEST else (listed,))]
    chosen = next((name for name in wanted if name in figures and name not in refused), None)
    measured = "; ".join(
        f"{name} {METRIC} {f.ndcg_at_10:.4f}, lost {f.lost:+.4f} ({f.lost_low:+.4f} to {f.lost_high:+.4f}), "
        f"{f.bytes / 1e6:.1f} MB, {f.query_ms:.1f} ms a query, {f.texts_per_second:.1f} texts/s"
        for name, f in figures.items()
    )
    left_out = "".join(f"; dropped {name}: {reason}" for name, reason in refused.items())
    numbers = {"serve": list(serve), "serves": chosen, "dropped": refused}
    if chosen is None:
        said = f"none of encoder.package.serve ({', '.join(serve)}) is left: measured {measured}{left_out}"
        return Check(FORMAT_TO_SERVE, False, said, {**numbers}), reference
    return Check(FORMAT_TO_SERVE, True, f"serves {chosen}: {measured}{left_out}", {**numbers}), chosen


def quickest_format(
    exported: Path,
    formats: Sequence[Format],
    preprocessor: Preprocessor,
    texts: Sequence[str],
    buckets: Sequence[int],
    batch_size: int,
) -> tuple[str, Mapping[str, float]]:
    """Return the quickest of the formats that passed parity, and the texts a second of each: for a model without questions.

    Args:
        exported: the export's folder.
        formats: one at least.
        preprocessor: of the encoder.
        texts: encoder texts of documents, of all lengths.
        buckets: the padded lengths of serving.
        batch_size: the texts of the measurement.
    """
    documents = preprocessor.encode(texts, "document")
    speeds = _speeds(exported, formats, preprocessor, documents, buckets, batch_size)
    rates = {name: speed.texts_per_second for name, speed in speeds.items()}
    return _quickest(formats, rates)[0], rates


def _quickest(formats: Sequence[Format], rates: Mapping[str, float]) -> tuple[str, ...]:
    """Return the name of the quickest format, or none; among about equally quick ones, the most exact, then the first.

    Args:
        rates: texts a second by name.
    """
    best: str | None = None
    for entry in sorted(formats, key=lambda entry: _EXACTNESS[entry.precision]):
        if best is None or rates[entry.name] > _WORTH * rates[best]:
            best = entry.name
    return () if best is None else (best,)


def embed(run: Runtime, encoded: Encoded, buckets: Sequence[int], pad_id: int, batch_size: int) -> NDArray[np.float32]:
    """Return vectors `(n, dimension)`; texts of similar length run together, with the padding of serving."""
    order = np.argsort(encoded.token_counts, kind="stable")
    parts = []
    for start in range(0, len(order), batch_size):
        piece = _rows(encoded, order[start : start + batch_size])
        parts.append(run(*piece.padded(served_length(int(piece.token_counts.max()), tuple(buckets)), pad_id)))
    vectors = np.empty((len(order), parts[0].shape[1]), dtype=np.float32)
    vectors[order] = np.concatenate(parts)
    return vectors


def _rows(encoded: Encoded, rows: NDArray[np.int64]) -> Encoded:
    return Encoded([encoded.token_ids[row] for row in rows], encoded.token_counts[rows], encoded.truncated[rows])


def _texts(part: HeldOutPart) -> tuple[tuple[Sequence[str], Any], tuple[Sequence[str], Any]]:
    return (part.chunk_texts, "document"), (list(part.queries.values()), "query")


def _fields(entry: Format) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("name", "backend", "precision", "file")}


@dataclass(frozen=True, slots=True)
class _Speed:
    query_ms: float
    texts_per_second: float


def _speeds(
    exported: Path,
    entries: Sequence[Format],
    preprocessor: Preprocessor,
    documents: Encoded,
    buckets: Sequence[int],
    batch_size: int,
) -> dict[str, _Speed]:
    """Return medians over the turns: milliseconds of one short query, tokens to vector, and documents a second in batches.

    The documents fill one batch and are spread over the lengths. They run in quarters of it; otherwise most would be padding.
    """
    runs = {entry.name: open_runtime(exported, ExportedFormat(**_fields(entry))) for entry in entries}
    short = preprocessor.encode([_SHORT_QUERY], "query")
    padded = short.padded(served_length(int(short.token_counts.max()), tuple(buckets)), preprocessor.pad_id)
    by_length = np.argsort(documents.token_counts, kind="stable")
    places = np.linspace(0, len(by_length) - 1, min(len(by_length), batch_size)).astype(np.int64)
    some = _rows(documents, by_length[places])
    size = max(1, batch_size // 4)
    queries: dict[str, list[float]] = {name: [] for name in runs}
    batches: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(_TURNS + 1):
        for name, run in runs.items():
            times = [_seconds(lambda run=run: run(*padded)) for _ in range(_QUERIES_A_TURN)]  # type: ignore[misc]
            seconds = _seconds(lambda run=run: embed(run, some, buckets, preprocessor.pad_id, size))  # type: ignore[misc]
            # The first turn compiles and fills caches, so it does not count.
            if turn:
                queries[name].extend(times)
                batches[name].append(seconds)
    return {name: _Speed(1000 * median(queries[name]), len(some.token_ids) / median(batches[name])) for name in runs}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _worst_slice(
    scores: Mapping[str, float], reference: Mapping[str, float], slices: Mapping[str, Sequence[str]]
) -> tuple[str, float]:
    """Return the slice with the largest mean loss, and the loss."""
    lost = {
        name: float(np.mean([reference[query] - scores[query] for query in queries]))
        for name, queries in slices.items()
        if queries
    }
    name = max(lost, key=lambda name: lost[name], default="")
    return name, lost.get(name, 0.0)


def _bytes(exported: Path, entry: Format) -> int:
    """Return the size of a format's folder: weights may lie beside the graph."""
    return sum(path.stat().st_size for path in (exported / entry.file).parent.iterdir() if path.is_file())
