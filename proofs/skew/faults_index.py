"""Faults of a collection: it belongs to another release, or was damaged later."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from bench.stored import CollectionDocuments
from proofs.skew.faults import Fault, Plant, fields_set, file_holds, folder_holds
from proofs.skew.system import System
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import Collection, Head, StoredPoint
from twinline.clients.store.vectors import DENSE, WORDS
from twinline.contract.release.manifest import Manifest, collection_name
from twinline.contract.sparse.vector import Sparse

_OPENED: Final = ("consumer start",)
_SAMPLE: Final = ("live sample",)
_COLLECTION: Final = "collection"
Points = list[StoredPoint]


@contextmanager
def _opened(system: System, manifest: Manifest | None = None) -> Iterator[Collection]:
    which = manifest or system.a
    store = EdgeStore(system.settings.store_folder)
    name = collection_name(which.release)
    with closing(store.open(name, store.info(name))) as collection:
        yield collection


def damaged(damage: Callable[[System, Collection], object]) -> Plant:
    """Return a planting of a copy of A's collection, damaged by `damage`, in its place."""

    @contextmanager
    def plant(system: System) -> Iterator[None]:
        folder = system.collection()
        with folder_holds(folder, folder, system.scratch):
            with _opened(system) as collection:
                damage(system, collection)
            yield

    return plant


def _points(change: Callable[[Points], Points]) -> Plant:
    """Return a planting of stored points changed by `change`; points that it leaves out stay."""

    def damage(system: System, collection: Collection) -> None:
        collection.put_points(change(CollectionDocuments(collection).all_chunks()))

    return damaged(damage)


def _with_payload(**fields: Callable[[Any], Any]) -> Callable[[Points], Points]:
    def change(points: Points) -> Points:
        point = _longest(points)
        return [replace(point, payload={**point.payload, **{name: new(point.payload[name]) for name, new in fields.items()}})]

    return change


def _with_vector(new: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Callable[[Points], Points]:
    def change(points: Points) -> Points:
        point = _longest(points)
        assert point.dense is not None  # noqa: S101  (it was asked for)
        return [replace(point, vectors={**point.vectors, DENSE: new(point.dense)})]

    return change


def _longest(points: Points) -> StoredPoint:
    return max(points, key=lambda point: (point.payload["token_count"], point.id))


def _vectors_moved_on(points: Points) -> Points:
    some = points[:8]
    return [replace(point, vectors=other.vectors) for point, other in zip(some, some[1:] + some[:1], strict=True)]


def _vector_of_another(points: Points) -> Points:
    first = points[0]
    other = next(each for each in points if each.payload["key"] != first.payload["key"])
    return [replace(first, vectors=other.vectors)]


def _words_of_another(points: Points) -> Points:
    first = points[0]
    other = next(each for each in points if each.payload["key"] != first.payload["key"])
    return [replace(first, vectors={**first.vectors, WORDS: other.vectors[WORDS]})]


def _with_words(new: Callable[[Sparse], Sparse]) -> Callable[[Points], Points]:
    def change(points: Points) -> Points:
        point = _longest(points)
        words = point.vectors[WORDS]
        assert isinstance(words, Sparse)  # noqa: S101  (the collection has them)
        return [replace(point, vectors={**point.vectors, WORDS: new(words)})]

    return change


def _as_int8(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    step = np.abs(vector).max() / 127
    return np.asarray(np.round(vector / step) * step, np.float32)


def _golden(change: Callable[[Mapping[str, NDArray[np.float32]]], Mapping[str, NDArray[np.float32]]]) -> Plant:
    return damaged(lambda _, collection: collection.put_golden(change(collection.read_golden())))


def _golden_missing(system: System, collection: Collection) -> None:
    # The store cannot remove them, so the same points are built again without them.
    points, heads = CollectionDocuments(collection).all_chunks(), CollectionDocuments(collection).heads()
    _rebuild(system, collection, heads, points)


def _rebuild(system: System, collection: Collection, heads: Sequence[Head], points: Points) -> None:
    info, folder = collection.info, system.collection()
    collection.close()
    folder.rename(folder.with_name(".gone"))
    try:
        with closing(EdgeStore(system.settings.store_folder).create(collection.name, info)) as new:
            new.put_heads(heads)
            new.put_points(points)
    finally:
        shutil.rmtree(folder.with_name(".gone"))


def _chunk_missing(system: System, collection: Collection) -> None:
    head = longest_documents(collection, 1)[0]
    collection.delete_surplus([replace(head, chunk_count=head.chunk_count - 1)])


def _chunk_too_many(points: Points) -> Points:
    point = _longest(points)
    documents = [each for each in points if each.payload["key"] == point.payload["key"]]
    index = max(each.payload["chunk_index"] for each in documents) + 1
    return [StoredPoint(UUID(int=point.id.int ^ 1), {**point.payload, "chunk_index": index}, point.vectors)]


def _collection_of_b(*, info_of_a: bool, golden_of_a: bool = False, payload_of_a: bool = False) -> Plant:
    """Return a planting of B's collection in the place of A's, with the wanted records of A."""

    @contextmanager
    def plant(system: System) -> Iterator[None]:
        with _opened(system) as collection:
            golden = collection.read_golden()
        papers = (system.collection() / "collection.json").read_bytes()
        with folder_holds(system.collection(), system.collection(system.b), system.scratch):
            if info_of_a:
                (system.collection() / "collection.json").write_bytes(papers)
            if golden_of_a or payload_of_a:
                with _opened(system) as collection:
                    collection.put_golden(golden)
                    if payload_of_a:
                        collection.put_points([_of_a(system, each) for each in CollectionDocuments(collection).all_chunks()])
            yield

    return plant


def _of_a(system: System, point: StoredPoint) -> StoredPoint:
    a = system.a
    papers = {"release": a.release, "space": a.space, "contract": a.fingerprints.contract}
    return replace(point, payload={**point.payload, **papers})


def _info(changes: Mapping[str, Any]) -> Plant:
    def plant(system: System) -> Any:
        place = system.collection() / "collection.json"
        return file_holds(place, fields_set(changes)(place.read_bytes()))

    return plant


def longest_documents(collection: Collection, count: int) -> list[Head]:
    """Return the heads of the documents with the most chunks."""
    heads = CollectionDocuments(collection).heads()
    return sorted(heads, key=lambda head: (-head.chunk_count, head.key))[:count]


_DAMAGED: Final[tuple[tuple[str, str, Plant], ...]] = (
    ("vector_rolled", "one stored vector is rolled by one place", _points(_with_vector(lambda vector: np.roll(vector, 1)))),
    ("vectors_moved_on", "eight chunks each have the next one's vector", _points(_vectors_moved_on)),
    ("vector_of_another", "a chunk has the vector of another document", _points(_vector_of_another)),
    ("words_of_another", "a chunk is stored under the words of another document", _points(_words_of_another)),
    ("words_weight", "one stored weight of a term is one higher",
     _points(_with_words(lambda words: replace(words, weights=(words.weights[0] + 1, *words.weights[1:]))))),
    ("words_term", "one stored term is missing",
     _points(_with_words(lambda words: Sparse(words.ids[1:], words.weights[1:])))),
    ("vector_int8", "one stored vector is rounded to int8", _points(_with_vector(_as_int8))),
    ("text_edited", "one stored text is edited, its vector stays", _points(_with_payload(text=lambda text: text + " not"))),
    ("span_shifted", "the span of one chunk is shifted by one",
     _points(_with_payload(start=lambda at: at + 1, end=lambda at: at + 1))),
    ("token_count", "one stored token count is wrong", _points(_with_payload(token_count=lambda count: count - 1))),
    ("content_hash", "one stored content hash is another's", _points(_with_payload(content_hash=lambda _: "0" * 64))),
    ("payload_of_another_release", "one point says that another release wrote it",
     _points(_with_payload(release=lambda _: "r000000000000"))),
    ("contract_of_a_point", "one point names another contract", _points(_with_payload(contract=lambda _: "0" * 64))),
    ("place_of_another", "one chunk names the place in the log of another document",
     _points(_with_payload(offset=lambda offset: offset - 1 if offset else 1))),
    ("title", "one stored title is edited", _points(_with_payload(title=lambda title: title + " (old)"))),
    ("tenant", "one chunk belongs to another tenant", _points(_with_payload(tenant=lambda _: "somebody else"))),
    ("chunk_missing", "the last chunk of a document is missing", damaged(_chunk_missing)),
    ("chunk_too_many", "a document has a chunk too many, of an older state", _points(_chunk_too_many)),
)  # fmt: skip

FAULTS: Final = (
    Fault("collection_of_b", "A's collection is B's whole", _COLLECTION, _OPENED, _collection_of_b(info_of_a=False)),
    Fault("shard_of_b", "A's collection has the shard of B under its own collection.json", _COLLECTION, _OPENED,
          _collection_of_b(info_of_a=True), short=True),
    Fault("shard_of_b_golden_of_a", "the same, and A's golden points are in it", _COLLECTION, ("query",),
          _collection_of_b(info_of_a=True, golden_of_a=True)),
    Fault("shard_of_b_papers_of_a", "the same, and each of its points says that A wrote it", _COLLECTION, _SAMPLE,
          _collection_of_b(info_of_a=True, golden_of_a=True, payload_of_a=True)),
    Fault("collection_contract", "collection.json names another contract", _COLLECTION, _OPENED,
          _info({"contract_fingerprint": "0" * 64})),
    Fault("collection_without_words", "collection.json knows no words", _COLLECTION, _OPENED,
          _info({"vectors": lambda vectors: {name: spec for name, spec in vectors.items() if name != WORDS}})),
    Fault("golden_points_missing", "the collection holds no golden points", _COLLECTION, _OPENED, damaged(_golden_missing)),
    Fault("golden_points_rolled", "the collection's golden vectors are rolled by one place", _COLLECTION, _OPENED,
          _golden(lambda vectors: {name: np.roll(vector, 1) for name, vector in vectors.items()})),
    *(
        # The first query near the point is refused: a golden query, or a search for a sampled document.
        Fault(f"stored_{name}", planted, _COLLECTION,
              ("query", "search", *_SAMPLE) if "point" in name or "release" in name else _SAMPLE, plant)
        for name, planted, plant in _DAMAGED
    ),
)  # fmt: skip
