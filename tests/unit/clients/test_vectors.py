"""Named vectors: what is no vector, and the forms that other versions of this code read and have written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adapter_suites.store_suite import INFO, NAME, TERMS, WITH_TERMS, chunk, chunk_with_terms, direction, explicit, texts
from twinline.clients.store.audit import vector_fault
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import CollectionInfo, StoredPoint, nearest
from twinline.clients.store.vectors import DENSE, VectorSpec, one_dense
from twinline.contract.errors import ContractError, MismatchError, SettingsError
from twinline.contract.sparse.vector import LARGEST_ID, LARGEST_WEIGHT, Sparse

# As the version before vectors had names wrote it beside a collection.
BEFORE: dict[str, Any] = {
    "release": "r000000000001",
    "space": "space-a",
    "contract_fingerprint": "c" * 64,
    "vector_fingerprint": "v" * 64,
    "index_fingerprint": "i" * 64,
    "dimension": 4,
    "distance": "cosine",
    "index": INFO.index.to_json(),
}


@pytest.mark.parametrize(
    ("ids", "weights", "named"),
    [
        ((1, 2), (1,), "2 ids and 1 weights"),
        ((2, 1), (1, 1), "ascending"),
        ((1, 1), (1, 1), "ascending"),
        ((-1,), (1,), "ids -1"),
        ((LARGEST_ID + 1,), (1,), str(LARGEST_ID)),
        ((1,), (0,), "weight 0"),
        ((1,), (LARGEST_WEIGHT + 1,), str(LARGEST_WEIGHT)),
        ((1,), (0.5,), "weight 0.5"),
    ],
)
def test_what_no_engine_keeps_exactly_is_no_sparse_vector(ids: Any, weights: Any, named: str) -> None:
    with pytest.raises(ContractError, match=named):
        Sparse(ids, weights)


@pytest.mark.parametrize(
    ("kind", "dimension", "distance"),
    [("dense", None, "cosine"), ("dense", 0, "cosine"), ("dense", 4, "dot"), ("sparse", 4, "dot"), ("sparse", None, "cosine")],
)
def test_a_kind_has_its_own_dimension_and_distance(kind: Any, dimension: Any, distance: Any) -> None:
    with pytest.raises(SettingsError, match=kind):
        VectorSpec(kind, dimension, distance)


@pytest.mark.parametrize("names", [[], [TERMS], [DENSE, "golden"]])
def test_a_collection_has_the_dense_vector_and_never_the_golden_one(names: list[str]) -> None:
    with pytest.raises(SettingsError, match="one is dense"):
        replace(INFO, vectors={name: one_dense(4)[DENSE] for name in names})


def test_a_collection_that_says_nothing_of_its_vectors_has_one_dense_vector() -> None:
    assert CollectionInfo.from_json(BEFORE, "a collection") == INFO
    assert CollectionInfo.from_json({**BEFORE, "dimension": 8}, "a collection").vectors == one_dense(8)


def test_a_collection_with_the_dense_vector_alone_is_written_as_before_vectors_had_names() -> None:
    assert json.dumps(INFO.to_json()) == json.dumps(BEFORE)


def test_a_collection_with_terms_says_so_and_is_read_back() -> None:
    written = json.loads(json.dumps(WITH_TERMS.to_json()))
    assert written["vectors"][TERMS] == {"kind": "sparse", "dimension": None, "distance": "dot"}
    assert CollectionInfo.from_json(written, "a collection") == WITH_TERMS


@pytest.mark.parametrize(
    "changes",
    [
        {"dimension": None},
        {"distance": "dot"},
        {"vectors": [DENSE]},
        {"vectors": {DENSE: {"kind": "dense"}}},
        {"vectors": {TERMS: {"kind": "sparse", "dimension": None, "distance": "dot"}}},
    ],
)
def test_vectors_that_make_no_sense_are_refused_with_the_place(changes: dict[str, Any]) -> None:
    with pytest.raises(MismatchError, match=r"the place .* build it again"):
        CollectionInfo.from_json({**BEFORE, **changes}, "the place")
    without = {name: value for name, value in BEFORE.items() if name != "dimension"}
    with pytest.raises(MismatchError, match=r"the place .* build it again"):
        CollectionInfo.from_json(without, "the place")


def test_an_embedded_collection_of_the_version_before_is_opened_searched_and_written(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    store.create(NAME, INFO).close()
    (tmp_path / NAME / "collection.json").write_text(json.dumps(BEFORE))
    opened = store.open(NAME, INFO)
    opened.put_points([chunk("a", 0, explicit(1))])
    assert (texts(opened), [hit.payload["key"] for hit in nearest(opened, direction(1, 0, 0, 0), 5)]) == ({"a 0 v1"}, ["a"])
    opened.close()


def test_a_points_json_keeps_the_dense_vector_where_it_was_and_adds_others_by_name() -> None:
    dense, both = chunk("a", 0, explicit(1)), chunk_with_terms("a", {3: 7, 9: 1})
    plain = {"id": str(dense.id), "payload": dense.payload, "vector": [1, 0, 0, 0]}
    assert dense.to_json() == plain
    assert replace(dense, vectors={}).to_json() == {**plain, "vector": None}
    assert both.to_json()["vectors"] == {TERMS: {"ids": [3, 9], "weights": [7, 1]}}


@pytest.mark.parametrize("point", [chunk("a", 0, explicit(1)), chunk_with_terms("a", {3: 7}), chunk_with_terms("a", {})])
def test_a_point_survives_its_json(point: StoredPoint) -> None:
    for vectors in (point.vectors, {}):
        back = StoredPoint.from_json(json.loads(json.dumps(replace(point, vectors=vectors).to_json())))
        assert (back.id, back.payload, list(back.vectors)) == (point.id, point.payload, list(vectors))
        assert back.vectors.get(TERMS) == vectors.get(TERMS)
        assert np.array_equal(np.asarray(back.dense), np.asarray(vectors.get(DENSE)), equal_nan=False)


def test_a_chunk_without_one_of_its_vectors_is_found_to_be_faulty() -> None:
    point = chunk_with_terms("a", {3: 7})
    assert vector_fault(point.vectors, WITH_TERMS.vectors) == ""
    assert vector_fault({DENSE: point.vectors[DENSE]}, WITH_TERMS.vectors) == "it has no terms"
    assert vector_fault({TERMS: point.vectors[TERMS]}, WITH_TERMS.vectors) == "it has none"
    assert vector_fault({DENSE: point.vectors[TERMS], TERMS: point.vectors[TERMS]}, WITH_TERMS.vectors) == "it is sparse"
    assert vector_fault({DENSE: direction(1, 0)}, INFO.vectors) == "it has 2 dimensions, not 4"
