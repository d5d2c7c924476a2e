"""Qdrant Edge: the embedded store, a folder with one shard a collection.

    store/active                           the active collection's name, replaced by rename
    store/documents_R/collection.json      CollectionInfo
    store/documents_R/shard/               the engine's files
    store/.building/documents_R/           the same, not yet visible

One process owns a shard; the engine's lock refuses a second.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import qdrant_edge as engine

from clients.edge_collection import EdgeCollection, engine_errors
from clients.store import GOLDEN_VECTOR_NAME, INTEGER_FIELDS, KEYWORD_FIELDS, VECTOR_NAME, CollectionInfo
from contract.errors import ContractError, MismatchError


class EdgeStore:
    """A `Store` over a folder."""

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
            # A first attempt that died before its last step, the info file, holds nothing.
            shutil.rmtree(folder, ignore_errors=True)
            _make_shard(folder, info)
            _replace(folder / "collection.json", json.dumps(info.to_json(), indent=2))
        _read_info(folder).check(info, name)
        return EdgeCollection(name, info, _load_shard(folder))

    def finish(self, name: str) -> None:
        # Loading proves that nobody writes to it any more: the engine's lock would refuse.
        EdgeCollection(name, _read_info(self._building / name), _load_shard(self._building / name)).close()
        (self._building / name).rename(self.folder / name)

    def open(self, name: str, expected: CollectionInfo) -> EdgeCollection:
        info = self.info(name)
        info.check(expected, name)
        return EdgeCollection(name, info, _load_shard(self.folder / name))

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("[!.]*/collection.json"))

    def begun(self) -> list[str]:
        return sorted(path.name for path in self._building.glob("*") if path.is_dir())

    def info(self, name: str) -> CollectionInfo:
        return _read_info(self.folder / name)

    def drop(self, name: str) -> None:
        if self.active() == name:
            raise ContractError(f"collection {name} is the active one: activate another before dropping it")
        for place in (self.folder, self._building):
            if (place / name).exists():
                # Without its info file it is what a first attempt left that died early: no shard that could be loaded.
                if (place / name / "collection.json").exists():
                    with engine_errors(f"collection {name}"):
                        engine.EdgeShard.load(str(place / name / "shard")).close()
                gone = self.folder / f".dropped-{name}"
                shutil.rmtree(gone, ignore_errors=True)
                # Renamed first: a deletion cut short must not leave half a collection under its name.
                (place / name).rename(gone)
                shutil.rmtree(gone)
                return
        raise ContractError(f"no collection {name} in {self.folder}: there are {self.names()}")

    def active(self) -> str | None:
        try:
            return (self.folder / "active").read_text().strip()
        except FileNotFoundError:
            return None

    def activate(self, name: str) -> None:
        if name not in self.names():
            raise ContractError(f"cannot activate {name}: {self.folder} has {self.names()}")
        _replace(self.folder / "active", name + "\n")


def _make_shard(folder: Path, info: CollectionInfo) -> None:
    (folder / "shard").mkdir(parents=True)
    config = engine.EdgeConfig(
        vectors={
            VECTOR_NAME: engine.EdgeVectorParams(info.dimension, engine.Distance.Cosine),
            # The engine keeps a slot for every point in every named vector: on disk these cost no memory.
            GOLDEN_VECTOR_NAME: engine.EdgeVectorParams(info.dimension, engine.Distance.Cosine, on_disk=True),
        }
    )
    with engine_errors(str(folder)):
        shard = engine.EdgeShard.create(str(folder / "shard"), config)
        for fields, schema in (
            (KEYWORD_FIELDS, engine.PayloadSchemaType.Keyword),
            (INTEGER_FIELDS, engine.PayloadSchemaType.Integer),
        ):
            for field in fields:
                shard.update(engine.UpdateOperation.create_field_index(field, schema))
        shard.close()


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


def _replace(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w") as file:
        file.write(content)
        file.flush()
        # Before the rename, or a power failure could leave the name on an empty file.
        os.fsync(file.fileno())
    beside.replace(path)
