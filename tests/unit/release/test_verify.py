"""Verification finds a collection that lags, lacks a document, holds another vector or does not find what it holds."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from tests.unit.release.factories import FakeEmbedder, golden, make_release, text_vector
from twinline.clients.erasure_list import Erasures
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Head, StoredPoint
from twinline.clients.store.vectors import DENSE
from twinline.contract.documents.ids import point_id
from twinline.contract.documents.records import Deletion, Document, Version, encode_key, encode_value
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import DocumentError, TransientError
from twinline.contract.release.manifest import Manifest
from twinline.release.verify import index as verify
from twinline.release.verify import log_sample
from twinline.release.verify.log_sample import LogState, is_chosen

DOCUMENT = Document("src", "a", "The quick brown fox jumps over the lazy dog.", title="Fox")


class OneChunk:
    """A preprocessor for which a document is one chunk."""

    class _Chunk:
        def __init__(self, document: Document) -> None:
            self.index, self.text, self.encoder_text = 0, document.text, f"{document.title} {document.text}"

    def chunks(self, document: Document) -> list[Any]:
        if not document.text:
            raise DocumentError("no_text", "empty")
        return [self._Chunk(document)]


class Stored:
    """A collection that holds what it is given, and finds what it is told to."""

    def __init__(self, points: Mapping[UUID, StoredPoint], hits: list[Document]) -> None:
        self._points = dict(points)
        self.golden_vectors: dict[str, Any] = {}
        self._hits = [_hit(document) for document in hits]

    def points(self, name: str, *, kind: str | None = None, limit: int = 256, offset: UUID | None = None) -> Any:
        found = sorted(
            (point for point in self._points.values() if point.payload["kind"] == kind), key=lambda point: point.id.int
        )
        rest = [point for point in found if offset is None or point.id.int >= offset.int]
        return rest[:limit], rest[limit].id if len(rest) > limit else None

    def golden(self, name: str) -> Any:
        return self.golden_vectors

    def point(self, name: str, point_id: UUID) -> StoredPoint | None:
        return self._points.get(point_id)

    def search(self, name: str, query: str, limit: int = 10, exact: bool = False) -> Mapping[str, Any]:
        return {"hits": self._hits}


def _hit(document: Document) -> dict[str, Any]:
    return {"source": document.source, "key": document.key, "chunk": {"text": document.text}}


def chunk_point(document: Document, text: str | None = None, vector_of: str | None = None) -> StoredPoint:
    embedded = FakeEmbedder().embed([vector_of or f"{document.title} {document.text}"], "document").vectors[0]
    payload = {"kind": "chunk", "text": text or document.text}
    return StoredPoint(point_id(document.source, document.key, 0), payload, {DENSE: embedded})


@pytest.fixture
def candidate(tmp_path: Path) -> verify.Candidate:
    manifest: Manifest = make_release(tmp_path / "release")
    preprocessor: Preprocessor = OneChunk()  # type: ignore[assignment]
    return verify.Candidate("documents_r1", manifest, preprocessor, FakeEmbedder())


def passed(checks: list[verify.Check]) -> dict[str, bool]:
    return {check.name: check.passed for check in checks}


def looked_at(candidate: verify.Candidate, stored: Stored) -> dict[str, bool]:
    look = verify.look_at(candidate, stored, DOCUMENT)
    assert look is not None
    return passed(verify.sample_checks([look], verify.vector_limit(candidate)))


@pytest.mark.parametrize(
    ("stored", "passes"),
    [
        ({"query-alpha": "alpha", "document-alpha": "alpha"}, True),
        # of another encoder
        ({"query-alpha": "alpha", "document-alpha": "beta"}, False),
        ({"query-alpha": "alpha"}, False),
    ],
)
def test_golden_texts_are_read_back_from_the_collection(stored: dict[str, str], passes: bool) -> None:
    reads = Stored({}, [])
    reads.golden_vectors = {name: text_vector(text) for name, text in stored.items()}
    entries = GoldenSet((golden("query", "alpha"), golden("document", "alpha")), 1e-6)
    check = verify.golden_check("documents_r1", entries, reads)
    assert check.passed is passes
    assert "limit 4e-06" in check.detail


def test_a_stored_chunk_equal_to_one_made_here_passes(candidate: verify.Candidate) -> None:
    stored = Stored({chunk_point(DOCUMENT).id: chunk_point(DOCUMENT)}, [DOCUMENT])
    checks = looked_at(candidate, stored)
    assert all(checks.values()), checks


@pytest.mark.parametrize(
    ("point", "failing"),
    [
        # another chunker was at work
        (chunk_point(DOCUMENT, text="The quick brown fox"), "equal text"),
        # another encoder was
        (chunk_point(DOCUMENT, vector_of="something else"), "equal vectors"),
        # the chunk is not there
        (None, "equal text"),
    ],
)
def test_a_stored_chunk_that_differs_is_found(candidate: verify.Candidate, point: StoredPoint | None, failing: str) -> None:
    stored = Stored({point.id: point} if point else {}, [DOCUMENT])
    assert not looked_at(candidate, stored)[failing]


@pytest.mark.parametrize("distances", [(1e-9, float("nan")), (float("nan"), 1e-9)])
def test_a_stored_vector_that_is_no_vector_fails_wherever_it_comes(distances: tuple[float, ...]) -> None:
    looks = [verify.Look(DOCUMENT, (), (distance,), True, 1, 1) for distance in distances]
    assert not passed(verify.sample_checks(looks, 1e-6))["equal vectors"]
    assert [look.is_good(1e-6) for look in looks].count(False) == 1


def test_a_document_that_its_own_text_does_not_find_fails(candidate: verify.Candidate) -> None:
    other = Document("src", "b", "Something else entirely.")
    assert not looked_at(candidate, Stored({}, [other]))["found by own text"]


def test_a_copy_under_another_key_is_as_good_an_answer(candidate: verify.Candidate) -> None:
    copy = Document("src", "copy", DOCUMENT.text)
    assert looked_at(candidate, Stored({}, [copy]))["found by own text"]


def test_a_sample_of_nothing_does_not_pass() -> None:
    checks = passed(verify.sample_checks([], 1e-6))
    assert not checks["equal vectors"]
    assert not checks["found by own text"]


def log_of(*entries: tuple[Document | Deletion, int]) -> LogState:
    state = LogState()
    for offset, (item, milliseconds) in enumerate(entries):
        state.take(item, Version("log", milliseconds, offset), is_sampled=True)
    return state


def head(document: Document, milliseconds: int, offset: int, deleted: bool = False) -> dict[tuple[str, str], Head]:
    version = Version("log", milliseconds, offset)
    return {(document.source, document.key): Head(document.source, document.key, version, deleted, 1)}


@pytest.mark.parametrize(
    ("heads", "is_whole"),
    [
        (head(DOCUMENT, 20, 1), True),
        # a message that came after the end we looked at
        (head(DOCUMENT, 30, 2), True),
        # the older state is still there
        (head(DOCUMENT, 10, 0), False),
        ({}, False),
    ],
)
def test_every_document_must_be_there_in_its_newest_state(heads: dict[tuple[str, str], Head], is_whole: bool) -> None:
    state = log_of((DOCUMENT, 10), (DOCUMENT, 20))
    assert verify.whole_check(state, heads, set).passed is is_whole


def test_a_document_in_the_dead_letters_is_not_missing() -> None:
    assert verify.whole_check(log_of((DOCUMENT, 10)), {}, lambda: {encode_key("src", "a")}).passed


@pytest.mark.parametrize(
    ("entries", "is_empty"),
    [
        ([], True),
        ([(DOCUMENT, 10)], False),
        ([(DOCUMENT, 10), (Deletion("src", "a"), 20)], True),
        # it came back
        ([(Deletion("src", "a"), 10), (DOCUMENT, 20)], False),
    ],
)
def test_a_log_is_empty_when_it_leaves_nothing_to_index(entries: list[tuple[Document | Deletion, int]], is_empty: bool) -> None:
    assert log_of(*entries).is_empty is is_empty


def test_the_log_is_folded_by_version_not_by_order() -> None:
    state = LogState()
    state.take(Document("src", "a", "new", version=7), Version("explicit", 7), is_sampled=True)
    state.take(Document("src", "a", "old", version=3), Version("explicit", 3), is_sampled=True)
    assert state.documents["src", "a"].text == "new"
    state.take(Deletion("src", "a", 8), Version("explicit", 8), is_sampled=True)
    assert state.documents == {}
    assert state.versions["src", "a"].number == 8


def test_a_document_that_was_updated_meanwhile_is_not_compared() -> None:
    state = log_of((DOCUMENT, 10))
    assert verify.still_current(state.documents, state, head(DOCUMENT, 10, 0)) == [DOCUMENT]
    assert verify.still_current(state.documents, state, head(DOCUMENT, 30, 2)) == []
    assert verify.still_current(state.documents, state, head(DOCUMENT, 10, 0, deleted=True)) == []


def test_heads_are_read_to_the_last_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_PAGE", 2)
    heads = [Head("src", str(number), Version("log", 1, number), False, 1) for number in range(5)]
    stored = Stored({each.id: StoredPoint(each.id, each.to_payload()) for each in heads}, [])
    assert len(verify.read_heads(stored, "documents_r1")) == 5


def offsets(*values: int) -> Iterator[dict[int, int]]:
    for value in values:
        yield {0: value}


def test_waiting_ends_when_the_consumer_has_passed_the_end() -> None:
    committed = offsets(0, 3, 5, 9)
    assert verify.wait_until_caught_up({0: 5}, lambda: next(committed), 60, sleep=lambda _: None).passed


def test_a_consumer_that_moves_is_waited_for_and_one_that_stands_is_not() -> None:
    moving = offsets(*range(200))
    assert verify.wait_until_caught_up({0: 199}, lambda: next(moving), 5, sleep=lambda _: None).passed
    with pytest.raises(TransientError, match="3 offsets behind"):
        verify.wait_until_caught_up({0: 5}, lambda: {0: 2}, 5, sleep=lambda _: None)


def test_the_sample_depends_on_the_keys_alone_and_has_about_the_size_asked_for() -> None:
    chosen = [key for key in map(str, range(2_000)) if is_chosen("src", key, 20)]
    assert chosen == [key for key in map(str, range(2_000)) if is_chosen("src", key, 20)]
    assert 60 < len(chosen) < 140


@pytest.mark.parametrize(("documents", "least", "most"), [(3, 3, 3), (24, 24, 24), (48, 48, 48), (49, 12, 48), (3_000, 12, 48)])
def test_the_sample_does_not_shrink_with_offsets_that_hold_no_message(
    documents: int, least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(number: int) -> SimpleNamespace:
        # One message in a thousand offsets, as a log of small transactions and compaction leaves them.
        key, value = encode_key("s", f"k{number}"), encode_value(Document("s", f"k{number}", "text"))
        return SimpleNamespace(
            key=key, value=value, headers=[], timestamp=1_763_800_000_000, timestamp_type=1, partition=0, offset=number * 1_000
        )

    monkeypatch.setattr(log_sample, "read_topic", lambda *_, **__: map(record, range(documents)))
    monkeypatch.setattr(log_sample, "current_erasures", lambda _: Erasures())

    state = log_sample.read_log(Settings(), {0: documents * 1_000}, 24)

    assert least <= len(state.documents) <= most
    assert len(state.versions) == documents
    again = log_sample.read_log(Settings(), {0: documents}, 24)
    assert again.documents.keys() == state.documents.keys()


def test_an_embedder_in_another_space_is_no_embedder() -> None:
    assert isinstance(FakeEmbedder().embed(["x"], "query"), Embeddings)
    assert np.isclose(np.linalg.norm(FakeEmbedder().embed(["x"], "query").vectors[0]), 1.0)
