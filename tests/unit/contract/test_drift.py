"""Drift figures: quiet on one distribution, loud on another, and silent about samples too small to tell."""

from pathlib import Path

import numpy as np
import pytest

from twinline.contract.errors import MismatchError
from twinline.contract.monitor.drift import BINS, Features, Profile, compare, ks, psi, psi_noise
from twinline.contract.monitor.drift_reference import DriftReference, nearest, unknown_id


def texts(seed: int, count: int = 600, shift: float = 0.0, unknown: bool = True) -> Features:
    random = np.random.default_rng(seed)
    return Features(
        token_count=np.round(random.gamma(4 + shift, 8, count)),
        truncated=(random.random(count) < 0.1 + shift / 10).astype(np.float64),
        similarity=np.clip(random.normal(0.7 - shift / 10, 0.08, count), -1, 1),
        unknown_share=(random.random(count) < 0.02) * 0.1 if unknown else None,
        independent=count,
    )


def verdicts(reference: Profile, sample: Features) -> set[str]:
    return {figure.verdict for figure in compare(reference, sample)}


def test_samples_of_one_distribution_are_stable() -> None:
    quiet = sum(verdicts(Profile.of(texts(seed)), texts(seed + 1000)) == {"stable"} for seed in range(100))
    assert quiet >= 95


def test_a_shifted_distribution_is_drifted() -> None:
    for seed in range(100):
        figures = compare(Profile.of(texts(seed)), texts(seed + 1000, shift=4))
        found = {(figure.feature, figure.statistic): figure.verdict for figure in figures}
        assert found["token_count", "psi"] == found["similarity", "psi"] == found["truncated", "rate"] == "drifted"
        assert found["unknown_share", "rate"] == "stable"


def test_a_small_sample_is_too_few_however_it_looks() -> None:
    reference = Profile.of(texts(1))
    assert verdicts(reference, texts(2, count=20)) == verdicts(reference, texts(2, count=20, shift=5)) == {"too few"}
    assert compare(reference, texts(2, count=0)) == []


def test_the_noise_of_psi_is_what_chance_gives() -> None:
    random = np.random.default_rng(5)
    n, m = 400, 250
    draws = random.multinomial(n, [0.2] * BINS, 4000) / n, random.multinomial(m, [0.2] * BINS, 4000) / m
    found = [psi(first, second) for first, second in zip(*draws, strict=True)]
    assert np.mean(found) == pytest.approx((BINS - 1) * (1 / n + 1 / m), rel=0.1)
    assert np.mean(np.array(found) > psi_noise(BINS, n, m)) == pytest.approx(0.01, abs=0.006)


def test_an_empty_bin_counts_but_stays_finite() -> None:
    assert 1 < psi(np.array([0.5, 0.5]), np.array([0.0, 1.0])) < 10


def test_ks_is_the_largest_distance_of_the_cumulative_distributions() -> None:
    assert ks(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1
    assert ks(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 9.0, 9.0])) == 0.5


def test_a_tokenizer_without_unknown_token_has_no_such_feature() -> None:
    assert unknown_id(b'{"model": {"type": "BPE", "unk_token": null, "vocab": {"a": 0}}}') is None
    assert unknown_id(b'{"model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[PAD]": 0, "[UNK]": 1}}}') == 1
    assert unknown_id(b'{"model": {"type": "Unigram", "unk_id": 3, "vocab": [["a", 0]]}}') == 3
    figures = compare(Profile.of(texts(1, unknown=False)), texts(2))
    assert "unknown_share" not in {figure.feature for figure in figures}


def test_a_document_is_no_neighbour_of_itself() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert nearest(vectors, None, vectors, ["a", "b", "c"]).tolist() == [1, 1, 1]
    assert nearest(vectors, ["a", "b", "c"], vectors, ["a", "b", "c"]).tolist() == [0, 0, 0]
    assert nearest(vectors[:1], ["a"], vectors[:1], ["a"]).tolist() == [-1]


def test_a_reference_survives_its_files_and_is_refused_for_another_space(tmp_path: Path) -> None:
    reference = DriftReference({"query": Profile.of(texts(1))}, np.eye(3, dtype=np.float32), ["a", "b", "c"], "space")
    assert DriftReference.load(tmp_path, "space") is None
    reference.save(tmp_path)
    loaded = DriftReference.load(tmp_path, "space")
    assert loaded is not None
    assert compare(loaded.profiles["query"], texts(2)) == compare(reference.profiles["query"], texts(2))
    assert loaded.documents == ["a", "b", "c"]
    with pytest.raises(MismatchError, match="is of space space, the release of other"):
        DriftReference.load(tmp_path, "other")
    (tmp_path / "profile.safetensors").write_bytes(b"broken")
    with pytest.raises(MismatchError, match="fetch the release again"):
        DriftReference.load(tmp_path, "space")
