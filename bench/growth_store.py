"""One store of a size, in a process of its own: `python -m bench.growth_store fill|open SIZE FOLDER`, one line of JSON out."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from bench.synthetic import fill, made_up_info, unit_vectors
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import Collection, CollectionInfo, nearest

_NAME: Final = "documents_alone"
_QUERIES: Final = 300


def fill_store(size: int, folder: Path) -> dict[str, Any]:
    """Fill a new store and build its index; return the seconds of each, and its size on disk."""
    info = made_up_info()
    filled, built, disk = build_index(folder, _NAME, info, lambda collection: fill(collection, info, 0, size))
    return {
        "chunks": size,
        "fill_seconds": round(filled, 3),
        "index_seconds": round(built, 3),
        "disk_mib": round(disk, 1),
    }


def build_index(folder: Path, name: str, info: CollectionInfo, put: Callable[[Collection], None]) -> tuple[float, float, float]:
    """Make a new store in `folder`, fill it by `put` and build its index; return the seconds of each, and its MiB on disk."""
    shutil.rmtree(folder, ignore_errors=True)
    with closing(EdgeStore(folder).create(name, info)) as collection:
        started = time.perf_counter()
        put(collection)
        collection.flush()
        filled = time.perf_counter()
        collection.optimize()
        built = time.perf_counter()
    # The files' blocks on disk, not their lengths: the engine's large files are sparse.
    disk = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    return filled - started, built - filled, disk / 2**20


def open_store(size: int, folder: Path) -> dict[str, Any]:
    """Open a store and query it; return the times, and the memory that it adds to this process."""
    info, process = made_up_info(), psutil.Process()
    before = process.memory_info().rss
    started = time.perf_counter()
    with closing(EdgeStore(folder).open(_NAME, info)) as collection:
        opened = time.perf_counter()
        times = []
        for vector in unit_vectors(np.random.default_rng(size), _QUERIES, info.dimension):
            began = time.perf_counter()
            nearest(collection, vector, 10)
            times.append((time.perf_counter() - began) * 1000)
        memory = process.memory_info().rss - before
    return {"restart_seconds": round(opened - started, 4), "memory_mib": round(memory / 2**20, 1), "query_ms": times}


def main() -> None:
    """Do one act and print its figures."""
    act, size, folder = sys.argv[1:]
    print(json.dumps({"fill": fill_store, "open": open_store}[act](int(size), Path(folder))))


if __name__ == "__main__":
    main()
