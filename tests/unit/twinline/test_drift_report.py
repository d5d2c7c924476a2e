"""The drift report of a release: queries beside new documents, and plain words where there is nothing to compare."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from twinline.clients.store.protocol import StoredPoint
from twinline.clients.store.vectors import DENSE
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import ChunkerSettings, make_contract
from twinline.contract.errors import SettingsError
from twinline.contract.monitor.drift import Features, Profile
from twinline.contract.monitor.drift_reference import DriftReference
from twinline.upkeep.skew import drift
from twinline.upkeep.skew.drift import HEADINGS, NO_REFERENCE, measure_drift
from twinline.upkeep.skew.opening import open_subject


def features(seed: int, length: float, count: int = 500) -> Features:
    random = np.random.default_rng(seed)
    return Features(
        random.normal(length, 3, count).round(), np.zeros(count), random.normal(0.5, 0.1, count), np.zeros(count), count
    )


class FakeAdmin:
    """Has one chunk stored of every document but those that are missing."""

    def __init__(self, preprocessor: Preprocessor, missing: frozenset[str] = frozenset()) -> None:
        self.queries: Features | None = features(2, 30)
        self._preprocessor, self._missing = preprocessor, missing
        self.documents = [Document("notes", str(index), "lease " * (3 + index % 4)) for index in range(300)]

    def query_features(self, name: str) -> Features | None:
        return self.queries

    def points(self, name: str, *, source: str, key: str, **_: Any) -> tuple[list[StoredPoint], None]:
        if key in self._missing:
            return [], None
        chunk = self._preprocessor.chunks(self.documents[int(key)])[0]
        vector = np.array([1, int(key) % 3, 0, 0], np.float32)
        return [StoredPoint(point_id(source, key, 0), {"content_hash": chunk.content_hash}, {DENSE: vector})], None


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "lease": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    contract, own = make_contract(
        tokenizer.to_str().encode(), max_tokens=64, dimension=4, chunker=ChunkerSettings(overlap_tokens=8, title_max_tokens=8)
    )
    folder = tmp_path / "r1"
    contract.save(folder, own)
    preprocessor = Preprocessor.load(folder)
    admin = FakeAdmin(preprocessor, missing=frozenset({"7", "8"}))
    monkeypatch.setattr(drift, "read_newest", lambda _settings, limit: admin.documents[:limit])
    settings = SimpleNamespace(releases=tmp_path)
    subject = SimpleNamespace(folder=folder, manifest=SimpleNamespace(space="space", release="r1"))
    return SimpleNamespace(folder=folder, admin=admin, settings=settings, measured=(settings, admin, subject, preprocessor))


def save_reference(world: Any) -> None:
    profiles = {"query": Profile.of(features(1, 10)), "document": Profile.of(features(3, 10))}
    # the sample is document 0 itself: it must not be its own neighbour
    owners = [str(head_id("notes", "0"))]
    DriftReference(profiles, np.array([[1, 0, 0, 0]], np.float32), owners, "space").save(world.folder)  # type: ignore[arg-type]


def test_longer_queries_are_drift_and_the_report_is_plain_json(world: Any) -> None:
    save_reference(world)
    report = measure_drift(*world.measured)
    query, document = report.roles
    assert {(f.feature, f.statistic): f.verdict for f in query.figures}["token_count", "psi"] == "drifted"
    assert {(f.feature, f.statistic): f.verdict for f in query.figures}["similarity", "psi"] == "stable"
    assert report.is_drifted
    assert (document.sample_count, report.unindexed_chunks) == (298, 2)
    assert json.loads(json.dumps(report.to_json()))["roles"][0]["role"] == "query"
    assert {len(row) for row in report.rows()} == {len(HEADINGS)}


def test_a_release_that_was_not_trained_here_says_so(world: Any) -> None:
    report = measure_drift(*world.measured)
    assert report.note == NO_REFERENCE
    assert not report.is_drifted
    assert [row[1] for row in report.rows()] == [NO_REFERENCE]


def test_without_queries_there_is_no_verdict_on_them(world: Any) -> None:
    save_reference(world)
    world.admin.queries = None
    assert measure_drift(*world.measured).roles[0].note == "none seen yet"


def test_a_release_that_is_not_here_is_named(world: Any) -> None:
    with pytest.raises(SettingsError, match="release 'r9' is not in"):
        open_subject(world.settings, "r9")
