"""Cost and recall of index settings: m, ef_construct, ef_search and quantisation, over real chunks and many similar ones.

Every build is a collection of its own with the product's own settings. Every figure of a search comes from a process without
earlier work. A row compares with the exact answer; the settings of `params.yaml` are marked.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from bench.checkout import CHECKOUT
from bench.index_data import Sample, mixed_sample, real_sample
from bench.machine import machine
from bench.workers import run_once
from twinline.clients.params import read_params
from twinline.contract.canonical import JSON
from twinline.contract.release.index_settings import IndexSettings

# A setting with a lower recall is never proposed, however fast it is.
ENOUGH: Final = 0.99
_SEARCHED: Final = (16, 32, 64, 128, 256)
_GRAPHS: Final = ((16, 100), (8, 100), (32, 100), (16, 200), (32, 200))
# A build of a large collection takes minutes: only the parameters' graph, and the best one where memory does not matter.
_GRAPHS_OF_LARGE: Final = ((16, 100), (32, 200))
_LARGE: Final = 50_000
_OVERSAMPLING: Final = (100, 200, 400)
_SEED: Final = 23
_SIZES: Final = (10_000, 100_000)


@dataclass(frozen=True)
class Size:
    """The sizes of a run."""

    real: int
    mixed: tuple[int, ...]
    questions: int
    graphs: tuple[tuple[int, int], ...] | None = None

    @classmethod
    def of(cls, most: int, *, short: bool) -> "Size":
        """Return the sizes of a run; the short run is just large enough for a graph to be used."""
        if short:
            return cls(300, (8_000,), 100, ((16, 100),))
        return cls(8_000, tuple(size for size in _SIZES if size <= most), 300)


def measure_index(workspace: Path, release: Path, size: Size, say: Callable[[str], None]) -> dict[str, JSON]:
    """Measure, and return one JSON object.

    Args:
        workspace: folder for vectors and collections.
        release: its contract and encoder make vectors of real text.
        size: of the run.
        say: prints the current measurement.
    """
    report: dict[str, JSON] = {"bench": "index", "machine": machine(), "enough_recall": ENOUGH}
    used = IndexSettings.from_json(read_params(CHECKOUT / "params.yaml")["encoder"]["index"])
    say(f"vectors of {size.real} real chunks")
    real = real_sample(release, workspace, size.real, size.questions)
    samples: dict[str, Callable[[], Sample]] = {f"{size.real} real": lambda: real}
    for count in size.mixed:
        samples[f"{count} mixed"] = lambda count=count: mixed_sample(real, count, _SEED)  # type: ignore[misc]
    found: list[dict[str, Any]] = []
    for name, make in samples.items():
        path = make().save(workspace / "sample.npz")
        chunks = int(name.split()[0])
        graphs = size.graphs or (_GRAPHS_OF_LARGE if chunks >= _LARGE else _GRAPHS)
        for row in _measured(name, path, workspace / "collection", list(combinations(used, graphs)), used, say):
            found.append({"vectors": name, **row})
        path.unlink()
    report["rows"] = [*found]
    report["proposed"] = [*proposals(found)]
    return report


def combinations(used: IndexSettings, graphs: Sequence[tuple[int, int]]) -> Iterator[IndexSettings]:
    """Yield settings, grouped by build: every graph uncompressed, and the first one compressed as well."""
    for m, ef_construct in graphs:
        graph = replace(used, m=m, ef_construct=ef_construct, quantization="none")
        yield from (replace(graph, ef_search=looked_at) for looked_at in _SEARCHED)
    m, ef_construct = graphs[0]
    for quantization in ("int8", "binary"):
        compressed = replace(used, m=m, ef_construct=ef_construct, quantization=quantization)
        yield replace(compressed, rescore=False, oversampling_percent=100)
        yield from (replace(compressed, rescore=True, oversampling_percent=percent) for percent in _OVERSAMPLING)
        yield replace(compressed, rescore=True, ef_search=2 * used.ef_search)


def proposals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each set of vectors, among settings with enough recall, the quickest and the one with the least memory.

    Times within a twentieth of the quickest count as equal; among them the shortest build wins.
    """
    found = []
    for vectors, own in groupby(rows, key=lambda row: str(row["vectors"])):
        enough = [row for row in own if row["recall_at_10"] >= ENOUGH]
        if enough:
            quickest = min(row["p50_ms"] for row in enough)
            near = [row for row in enough if row["p50_ms"] <= 1.05 * quickest]
            for why, row in (
                ("quickest", min(near, key=lambda row: row["build_seconds"])),
                ("least memory", min(enough, key=lambda row: row["memory_mib"])),
            ):
                found.append({"of": vectors, "proposed_as": why, **{name: row[name] for name in _PROPOSED}})
    return found


_PROPOSED: Final = ("m", "ef_construct", "ef_search", "quantization", "rescore", "oversampling_percent", "recall_at_10", "p50_ms")


def _measured(
    name: str, sample: Path, folder: Path, settings: Sequence[IndexSettings], used: IndexSettings, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    for (m, ef_construct, quantization), group in groupby(settings, key=lambda one: (one.m, one.ef_construct, one.quantization)):
        searches = list(group)
        say(f"{name}: m {m}, ef_construct {ef_construct}, quantization {quantization}")
        listed = [json.dumps(one.to_json()) for one in searches]
        built = run_once("bench.index_worker", "build", str(sample), str(folder), listed[0])
        # The first setting opens the collection; it is the setting of the build.
        for one, row in zip(searches, run_once("bench.index_worker", "ask", str(sample), str(folder), *listed), strict=True):
            shown = {field: value for field, value in one.to_json().items() if field != "keywords"}
            yield {**shown, **row, **built, "used": "yes" if one == used else ""}
