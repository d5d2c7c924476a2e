"""Qdrant Edge: the embedded store, a folder with one shard a collection.

    store/active                           the active collection's name, replaced by rename
    store/documents_R/collection.json      CollectionInfo
    store/documents_R/log.json             LogRecord
    store/documents_R/shard/               the engine's files
    store/.building/documents_R/           the same, not yet visible
    store/.dropped-documents_R/            on its way out

One process owns a shard; the engine's lock refuses a second.
"""

import ctypes
import json
import os
import shutil
from pathlib import Path
from typing import Any

import qdrant_edge as engine

from twinline.clients.log_record import LogRecord
from twinline.clients.store.edge_collection import EdgeCollection, engine_errors, read_log, replace_file
from twinline.clients.store.protocol import GOLDEN_VECTOR_NAME, CollectionInfo, payload_indexes
from twinline.contract.errors import ContractError, MismatchError
from twinline.contract.release.index_settings import IndexSettings

# The engine's own default, in kilobytes of vectors: below it, comparing all is quicker than the graph.
_FULL_SCAN_KB = 10_000
_DROPPED = ".dropped-"

# The folder of a rebuilt collection that is to replace a served one.
REBUILT = ".rebuilt"
# Between two renames the name would have no collection; an exchange leaves no gap (Linux 3.15, glibc 2.28).
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class EdgeStore:
    """A `Store` over a folder."""

    has_one_owner = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._building = folder / ".building"

    def create(self, name: str, info: CollectionInfo) -> EdgeCollection:
        self.begin(name, info).close()
        self.finish(name)
        return self.open(name, info)

    def begin(self, name: str, info: CollectionInfo) -> EdgeCollection:
        if (self.folder / name).exists():
            raise ContractError(f"collection {name} is in {self.folder} already: retire its release before building it again")
        folder = self._building / name
        if not (folder / "collection.json").exists():
            # An attempt that died before its last step, the info file, holds nothing.
            shutil.rmtree(folder, ignore_errors=True)
            _make_shard(folder, info)
            replace_file(folder / "collection.json", json.dumps(info.to_json(), indent=2))
        _read_info(folder).check(info, name)
        return EdgeCollection(name, info, _load_shard(folder), folder)

    def finish(self, name: str) -> None:
        # Loading proves that no process still writes to it: the engine's lock would refuse.
        _load_shard(self._building / name).close()
        (self._building / name).rename(self.folder / name)

    def exchange(self, name: str) -> None:
        """Exchange a closed collection with its closed namesake in the folder `.rebuilt`: at once, or not at all.

        Raises:
            ContractError: none was built there, or this file system cannot exchange two folders.
        """
        mine, other = self.folder / name, self.folder / REBUILT / name
        if not (other / "collection.json").exists():
            raise ContractError(f"no collection {name} was built in {other.parent}: twinline replay --new")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(_AT_FDCWD, os.fsencode(mine), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
            raise ContractError(f"{mine} and {other} could not be exchanged: {os.strerror(ctypes.get_errno())}")

    def open(self, name: str, expected: CollectionInfo) -> EdgeCollection:
        info = self.info(name)
        info.check(expected, name)
        return EdgeCollection(name, info, _load_shard(self.folder / name), self.folder / name)

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("[!.]*/collection.json"))

    def begun(self) -> list[str]:
        return sorted(path.name for path in self._building.glob("*") if path.is_dir())

    def info(self, name: str) -> CollectionInfo:
        return _read_info(self.folder / name)

    def log(self, name: str) -> LogRecord | None:
        return read_log(self.folder / name)

    def drop(self, name: str) -> None:
        if self.active() == name:
            raise ContractError(f"collection {name} is the active one: activate another before dropping it")
        for place in (self.folder, self._building):
            if (place / name).exists():
                # Opening proves that no other process has it open. Without an info file there is nothing to open.
                if (place / name / "collection.json").exists():
                    _load_shard(place / name).close()
                gone = self.folder / f"{_DROPPED}{name}"
                shutil.rmtree(gone, ignore_errors=True)
                # Renamed first: an interrupted deletion must not leave half a collection under its name.
                (place / name).rename(gone)
                shutil.rmtree(gone)
                return
        raise ContractError(f"no collection {name} in {self.folder}: there are {self.names()}")

    def sweep(self) -> None:
        for gone in self.folder.glob(f"{_DROPPED}*"):
            shutil.rmtree(gone)

    def active(self) -> str | None:
        try:
            return (self.folder / "active").read_text().strip()
        except FileNotFoundError:
            return None

    def activate(self, name: str) -> None:
        if name not in self.names():
            raise ContractError(f"cannot activate {name}: {self.folder} has {self.names()}")
        replace_file(self.folder / "active", name + "\n")


def _make_shard(folder: Path, info: CollectionInfo) -> None:
    (folder / "shard").mkdir(parents=True)
    dense = {
        name: engine.EdgeVectorParams(
            spec.dimension,
            engine.Distance.Cosine,
            hnsw_config=engine.HnswIndexConfig(info.index.m, info.index.ef_construct, _FULL_SCAN_KB),
            quantization_config=_quantization(info.index),
        )
        for name, spec in info.vectors.items()
        if spec.dimension is not None
    }
    # The engine keeps a slot for every point in every named vector: on disk these cost no memory.
    golden = engine.EdgeVectorParams(info.dimension, engine.Distance.Cosine, on_disk=True)
    # No modifier: weights include the rarity of terms; the engine's own statistics must not change scores.
    sparse = {name: engine.EdgeSparseVectorParams() for name, spec in info.vectors.items() if spec.kind == "sparse"}
    config = engine.EdgeConfig(vectors={**dense, GOLDEN_VECTOR_NAME: golden}, sparse_vectors=sparse or None)
    with engine_errors(str(folder)):
        shard = engine.EdgeShard.create(str(folder / "shard"), config)
        for field, type_ in payload_indexes(info.index).items():
            shard.update(engine.UpdateOperation.create_field_index(field, getattr(engine.PayloadSchemaType, type_.title())))
        shard.close()


def _quantization(index: IndexSettings) -> Any:
    # In memory: reading compressed vectors from disk would save nothing.
    if index.quantization == "int8":
        return engine.ScalarQuantizationConfig(engine.ScalarType.Int8, always_ram=True)
    return engine.BinaryQuantizationConfig(always_ram=True) if index.quantization == "binary" else None


def _load_shard(folder: Path) -> Any:
    with engine_errors(str(folder)):
        return engine.EdgeShard.load(str(folder / "shard"))


def _read_info(folder: Path) -> CollectionInfo:
    place = folder / "collection.json"
    try:
        value = json.loads(place.read_text())
    except FileNotFoundError as exc:
        raise ContractError(f"no collection at {folder}: build it first (python -m streaming build)") from exc
    except ValueError as exc:
        raise MismatchError(f"{place} is not JSON: drop the collection and build it again") from exc
    return CollectionInfo.from_json(value, str(place))
