"""The growth of cost: of the store with its size, of offline stages and indexing with the changes, each with its exponent.

store     1k, 10k, 100k, 1M made-up chunks, each in a process of its own: fill, index build, query, memory, disk, restart
stages    dvc repro ingest..pairs in a clone: first run, nothing changed, one document in a hundred changed
indexing  the same change through `etl publish`, the log and the consumer, with the encoder in process
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.growth_stages import indexing_cost, stages_cost
from bench.machine import machine
from bench.rounds import percentiles
from bench.workers import run_once
from twinline.contract.canonical import JSON

_STORE_SIZES: Final = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
_STAGE_SIZES: Final = (1_000, 4_000, 16_000, 64_000, 256_000)
_SHARE: Final = 0.03
# About the size of `pydocs:`, because embedding takes minutes.
_INDEXED: Final = 2_000
_FITTED: Final = ("fill_seconds", "index_seconds", "query_p50_ms", "memory_mib", "disk_mib", "restart_seconds")


def measure_growth(
    workspace: Path, release: Path, parts: Sequence[str], *, most: int, rows: int, say: Callable[[str], None]
) -> dict[str, JSON]:
    """Measure, and return one JSON object.

    Args:
        workspace: folder for collections, clones and corpora.
        release: its contract and encoder index the documents.
        parts: of `store`, `stages`, `indexing`.
        most: the largest store, in chunks.
        rows: the largest corpus of the stages, in documents.
        say: prints the current measurement.
    """
    report: dict[str, JSON] = {"bench": "growth", "machine": machine()}
    if "store" in parts:
        found = []
        for size in (size for size in _STORE_SIZES if size <= most):
            say(f"store of {size} chunks")
            found.append(_store(size, workspace / "store"))
        report["rows"] = [*found]
        report["exponents"] = {name: exponent([row["chunks"] for row in found], [row[name] for row in found]) for name in _FITTED}
    if "stages" in parts:
        costs = []
        for kind in ("lines", "folder"):
            for size in sizes_up_to(rows):
                say(f"stages over {size} documents, {kind}")
                costs.append(stages_cost(workspace / "stages", size, kind))
        report["stages"] = [*costs]
        report["stages_fits"] = {
            kind: _stages_fit([row for row in costs if row["source"] == kind]) for kind in ("lines", "folder")
        }
    if "indexing" in parts:
        say("indexing, and one document in a hundred changed")
        report["indexing"] = indexing_cost(workspace / "indexing", release, min(rows, _INDEXED))
    return report


def sizes_up_to(rows: int) -> list[int]:
    """Return the corpus sizes to measure: at least three, so that a line can be fitted."""
    return [size for size in _STAGE_SIZES if size <= rows] if rows >= _STAGE_SIZES[2] else [rows // 4, rows // 2, rows]


def line(sizes: Sequence[float], costs: Sequence[float]) -> dict[str, float]:
    """Return cost = fixed + each * size by least squares, with the standard error of `each`."""
    mean_x, mean_y = sum(sizes) / len(sizes), sum(costs) / len(costs)
    spread = sum((x - mean_x) ** 2 for x in sizes)
    each = sum((x - mean_x) * (y - mean_y) for x, y in zip(sizes, costs, strict=True)) / spread
    fixed = mean_y - each * mean_x
    left = sum((y - fixed - each * x) ** 2 for x, y in zip(sizes, costs, strict=True))
    error = math.sqrt(left / max(1, len(sizes) - 2) / spread)
    return {"fixed": fixed, "each": each, "standard_error": error}


def _stages_fit(rows: Sequence[Mapping[str, Any]]) -> dict[str, JSON]:
    """Return the growth of the stages' cost and memory, and the size from which 1 % of changes costs 3 % of a full run."""
    sizes = [row["documents"] for row in rows]
    full, part = (line(sizes, [row[name] for row in rows]) for name in ("first_seconds", "one_percent_seconds"))
    memory = {name: line(sizes, [row["stage_peak_mib"][name] for row in rows]) for name in rows[0]["stage_peak_mib"]}
    # fixed + each * n of the change <= 3 % of the same of a full run
    gain, lack = _SHARE * full["each"] - part["each"], part["fixed"] - _SHARE * full["fixed"]
    return {
        "full_seconds": {"fixed": round(full["fixed"], 2), "per_1000_documents": round(1000 * full["each"], 4)},
        "one_percent_seconds": {"fixed": round(part["fixed"], 2), "per_1000_documents": round(1000 * part["each"], 4)},
        "three_percent_from_documents": max(0, math.ceil(lack / gain)) if gain > 0 else None,
        "memory_mib_per_1000_documents": {
            name: {"slope": round(1000 * fit["each"], 3), "plus_minus": round(2000 * fit["standard_error"], 3)}
            for name, fit in memory.items()
        },
        **{
            f"{name}_exponent": exponent(sizes, [row[name] for row in rows])
            for name in ("first_seconds", "one_percent_seconds", "peak_mib")
        },
    }


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> JSON:
    """Return b of cost = a * size ** b, by least squares of the logarithms; None with fewer than three sizes."""
    points = [(math.log(size), math.log(cost)) for size, cost in zip(sizes, costs, strict=True) if cost > 0]
    if len(points) < 3:
        return None
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return float(round(slope, 2))


def _store(size: int, folder: Path) -> dict[str, Any]:
    """Measure one size in two processes, so that memory and restart belong to a process without other work."""
    made = run_once("bench.growth_store", "fill", str(size), str(folder))
    opened = run_once("bench.growth_store", "open", str(size), str(folder))
    times = opened.pop("query_ms")
    return {**made, **opened, **{f"query_{name}": value for name, value in percentiles(times, 50, 99).items()}}
