"""The bench of index settings: exact answers, which settings share a build, what is proposed, and one small real run."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.index import combinations, proposals
from bench.index_data import Sample, mixed_sample
from bench.index_worker import ask, build
from twinline.contract.errors import SettingsError
from twinline.contract.release.index_settings import IndexSettings


def unit(numbers: np.random.Generator, count: int) -> Any:
    vectors = numbers.standard_normal((count, 32), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def sample() -> Sample:
    numbers = np.random.default_rng(5)
    return Sample.of(unit(numbers, 400), unit(numbers, 25))


def test_recall_counts_those_that_are_as_good_as_the_tenth(sample: Sample) -> None:
    order = [int(row) for row in np.argsort(-(sample.vectors @ sample.queries[3]))]
    assert sample.recall(3, order[:10]) == 1.0
    assert sample.recall(3, order[3:13]) == pytest.approx(0.7)
    assert sample.recall(3, order[10:20]) == 0.0


def test_the_same_text_in_two_places_is_found_in_either() -> None:
    numbers = np.random.default_rng(6)
    vectors = unit(numbers, 20)
    twice = Sample.of(np.concatenate([vectors, vectors[:1]]), vectors[:1])
    order = [int(row) for row in np.argsort(-(twice.vectors @ twice.queries[0]))]
    swapped = [20 if row == 0 else row for row in order if row != 20][:9]
    assert twice.recall(0, swapped) == pytest.approx(0.9)


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(SettingsError, match="9 vectors"):
        Sample.of(np.ones((9, 4), np.float32), np.ones((1, 4), np.float32))


def test_mixed_vectors_are_unit_vectors_near_real_ones_and_the_same_every_time(sample: Sample) -> None:
    made = mixed_sample(sample, 1_000, 1)
    assert made.vectors.shape == (1_000, 32)
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)
    nearest = (made.vectors @ sample.vectors.T).max(axis=1)
    assert np.median(nearest) > 0.7
    np.testing.assert_array_equal(made.vectors, mixed_sample(sample, 1_000, 1).vectors)
    np.testing.assert_array_equal(made.queries, sample.queries)


def test_settings_that_share_a_build_stand_together_and_none_is_measured_twice() -> None:
    used = IndexSettings()
    found = list(combinations(used, [(16, 100), (32, 200)]))
    assert len(set(found)) == len(found)
    assert used in found
    builds = [(one.m, one.ef_construct, one.quantization) for one in found]
    changes = sum(a != b for a, b in pairwise(builds))
    assert changes + 1 == len(set(builds)) == 4


def row(**values: Any) -> dict[str, Any]:
    plain = {
        **IndexSettings().to_json(),
        "vectors": "a",
        "recall_at_10": 1.0,
        "p50_ms": 1.0,
        "memory_mib": 10,
        "build_seconds": 5,
    }
    return {**plain, **values}


def test_what_is_proposed_finds_enough_and_is_the_soonest_built_of_the_quickest() -> None:
    rows = [
        row(m=8, recall_at_10=0.98, p50_ms=0.1, memory_mib=1),  # too little is found
        row(m=16, p50_ms=0.50, build_seconds=9),
        row(m=32, p50_ms=0.51, build_seconds=4),
        row(quantization="int8", p50_ms=0.8, memory_mib=3),
        row(vectors="b", recall_at_10=0.5),
    ]
    quickest, smallest = proposals(rows)
    assert (quickest["of"], quickest["proposed_as"], quickest["m"]) == ("a", "quickest", 32)
    assert (smallest["proposed_as"], smallest["quantization"]) == ("least memory", "int8")


def test_a_collection_is_built_by_the_products_own_settings_and_asked_by_each(sample: Sample, tmp_path: Path) -> None:
    path = sample.save(tmp_path / "sample.npz")
    settings = IndexSettings(quantization="binary", rescore=False)
    built = build(path, tmp_path / "store", settings)
    assert built["disk_mib"] > 0
    coarse, fine = ask(path, tmp_path / "store", [settings, replace(settings, rescore=True, oversampling_percent=400)])
    assert set(fine) == {"recall_at_10", "p50_ms", "p99_ms", "memory_mib"}
    # So few dimensions make poor bits; what a search decides is heeded without building again.
    assert coarse["recall_at_10"] < fine["recall_at_10"] < 1
    build(path, tmp_path / "store", IndexSettings())
    assert ask(path, tmp_path / "store", [IndexSettings()])[0]["recall_at_10"] == 1
