"""One index in a process of its own: `python -m bench.index_worker build|ask SAMPLE FOLDER SETTINGS...`, one line of JSON out.

SETTINGS are JSON objects of index settings. `build` takes one; `ask` takes several that share a build and differ in the settings
of a search.
"""

import json
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil

from bench.growth_store import build_index
from bench.index_data import WANTED, Sample
from bench.rounds import percentiles
from bench.synthetic import made_up_info, put_vectors
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import CollectionInfo, nearest
from twinline.clients.store.vectors import one_dense
from twinline.contract.release.index_settings import IndexSettings

_NAME: Final = "documents_alone"
_WARMING: Final = 20


def build(sample: Path, folder: Path, settings: IndexSettings) -> dict[str, Any]:
    """Fill a new collection with these settings and build its index; return the seconds of each, and its size on disk."""
    vectors = Sample.load(sample).vectors
    info = _info(settings, vectors.shape[1])
    filled, built, disk = build_index(folder, _NAME, info, lambda collection: put_vectors(collection, info, 0, vectors))
    return {"fill_seconds": round(filled, 2), "build_seconds": round(built, 2), "disk_mib": round(disk, 1)}


def ask(sample: Path, folder: Path, searches: list[IndexSettings]) -> list[dict[str, Any]]:
    """Open the collection and ask every question under each of the settings; return recall, times, and added memory."""
    asked = Sample.load(sample)
    process = psutil.Process()
    before = process.memory_info().rss
    info = _info(searches[0], asked.vectors.shape[1])
    rows = []
    with closing(EdgeStore(folder).open(_NAME, info)) as collection:
        for settings in searches:
            # The depth of a search is no part of the build: the collection reads it for each query.
            collection.info = replace(info, index=settings)
            for vector in asked.queries[:_WARMING]:
                nearest(collection, vector, WANTED)
            times, recalls = [], []
            for number, vector in enumerate(asked.queries):
                began = time.perf_counter()
                points = nearest(collection, vector, WANTED)
                times.append((time.perf_counter() - began) * 1000)
                recalls.append(asked.recall(number, [int(point.payload["key"]) for point in points]))
            memory = process.memory_info().rss - before
            rows.append(
                {
                    "recall_at_10": round(sum(recalls) / len(recalls), 4),
                    **percentiles(times, 50, 99),
                    "memory_mib": round(memory / 2**20, 1),
                }
            )
    return rows


def _info(settings: IndexSettings, dimension: int) -> CollectionInfo:
    return replace(made_up_info(), index=settings, vectors=one_dense(dimension))


def main() -> None:
    """Do one act and print its figures."""
    act, sample, folder, *listed = sys.argv[1:]
    settings = [IndexSettings.from_json(json.loads(entry)) for entry in listed]
    done = build(Path(sample), Path(folder), settings[0]) if act == "build" else ask(Path(sample), Path(folder), settings)
    print(json.dumps(done))


if __name__ == "__main__":
    main()
