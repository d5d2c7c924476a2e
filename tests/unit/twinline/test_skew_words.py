"""Words and fusion as hops: whatever is one-sided is named where it enters, and a release without words passes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest

from proofs.skew import faults_code
from proofs.skew.faults import Fault
from proofs.skew.faults_consumer import OTHER_STEMMER, case_kept, words_of, words_under
from streaming.indexer import Indexer
from streaming.limits import ConsumerLimits
from tests.fixtures_streaming import ListSink, NothingErased
from tests.unit.twinline.skew_factories import DOCUMENTS, Pieces, live_words, make_pieces
from twinline.clients.store.protocol import Query, StoredPoint
from twinline.clients.store.vectors import DENSE, WORDS
from twinline.contract.documents.ids import point_id
from twinline.contract.documents.records import Document
from twinline.contract.errors import MismatchError, TransientError
from twinline.contract.sparse.fusion import Fusion, Ranked
from twinline.contract.sparse.golden import GOLDEN_WORDS_FILE, check_golden_words
from twinline.contract.sparse.vector import Sparse
from twinline.contract.sparse.weights import Words
from twinline.search import candidates
from twinline.upkeep.skew.measure import measure_skew
from twinline.upkeep.skew.opening import with_vectors
from twinline.upkeep.skew.pieces import Answered
from twinline.upkeep.skew.report import SkewReport

FUSIONS = [Fusion(), Fusion("scores", dense_percent=10), Fusion("ranks"), Fusion("ranks", k=1), Fusion("dense"), Fusion(depth=2)]


@pytest.fixture
def pieces(tmp_path: Path) -> Pieces:
    """A release with words that agrees with itself everywhere."""
    return make_pieces(tmp_path / "release", fusion=Fusion())


def measured(pieces: Pieces) -> SkewReport:
    return measure_skew(pieces.subject, pieces.offline, pieces.live, pieces.plan)


def searching(pieces: Pieces, **changes: Any) -> Pieces:
    """Let the live search have another release than the one that is measured."""
    return replace(pieces, live=replace(pieces.live, words=live_words(replace(pieces.release, **changes), pieces.collection)))


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: f"{fusion.label} of {fusion.depth}")
def test_a_release_with_words_agrees_everywhere(tmp_path: Path, fusion: Fusion) -> None:
    report = measured(make_pieces(tmp_path, fusion=fusion))
    assert report.ok, report.sentence()
    hops = {hop.name: hop for hop in report.hops}
    assert [hops[name].state for name in ("words", "query words", "fusion")] == ["ok"] * 3
    # the golden query, and its first hit's own words
    assert hops["fusion"].texts == hops["query words"].texts == 2
    assert report.sample is not None
    assert report.sample.words == report.sample.chunks > len(DOCUMENTS)
    assert report.to_json()["sample"]["words_share"] == 1  # type: ignore[index, call-overload]


def test_a_release_without_words_says_so_and_passes(tmp_path: Path) -> None:
    report = measured(make_pieces(tmp_path))
    assert report.ok
    [words] = [hop for hop in report.hops if hop.name in ("words", "query words", "fusion")]
    assert (words.name, words.state) == ("words", "ok")
    assert "was made without words" in words.detail
    assert report.sample is not None
    assert report.sample.words is None
    assert "words_share" not in report.sample.to_json()


WORDS_OF_SEARCH: dict[str, Callable[[Words], Words]] = {
    "case": words_under("twinline.contract.sparse.analyzer._lower", case_kept),
    "stemmer": OTHER_STEMMER,
    "rarity": words_of(statistics={"chunks": 1_000_000}),
    "term ids": words_under("twinline.contract.sparse.weights.term_id", faults_code._other_id),
    "no statistics": words_of(statistics={"chunks": 0}),
}


@pytest.mark.parametrize("name", WORDS_OF_SEARCH)
def test_search_by_other_words_breaks_the_hop_of_query_words(pieces: Pieces, name: str) -> None:
    report = measured(searching(pieces, words=WORDS_OF_SEARCH[name](cast(Words, pieces.release.words))))
    assert report.broken_hop == "query words", report.sentence()


def test_a_search_that_has_no_words_breaks_the_hop_of_query_words(pieces: Pieces) -> None:
    report = measured(searching(pieces, words=None))
    assert report.broken_hop == "query words"
    assert "made without words" in report.sentence()


@pytest.mark.parametrize(
    "other",
    [Fusion("ranks"), Fusion("dense"), Fusion(dense_percent=20), Fusion(dense_percent=51), Fusion(depth=1)],
    ids=lambda other: f"{other.label} of {other.depth}",
)
def test_another_fusion_breaks_the_hop_of_fusion(pieces: Pieces, other: Fusion) -> None:
    assert measured(searching(pieces, fusion=other)).broken_hop == "fusion"


@pytest.mark.parametrize(("own", "other"), [(Fusion("ranks"), Fusion("ranks", k=61)), (Fusion("dense"), Fusion("scores"))])
def test_another_fusion_breaks_the_hop_whatever_the_release_has(tmp_path: Path, own: Fusion, other: Fusion) -> None:
    assert measured(searching(make_pieces(tmp_path, fusion=own), fusion=other)).broken_hop == "fusion"


def backwards(fusion: Fusion, given: Any) -> list[Ranked[Any]]:
    return candidates_fuse(fusion, given)[::-1]


candidates_fuse = candidates.fuse


def test_an_order_that_is_not_the_fused_one_breaks_the_hop(pieces: Pieces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "fuse", backwards)
    assert measured(pieces).broken_hop == "fusion"


def test_a_tie_in_another_order_breaks_the_hop(pieces: Pieces) -> None:
    for key in ("one", "two", "three"):
        pieces.index(Document("src", key, "cats"))
    assert measured(pieces).ok
    answer = pieces.live.words.answer  # type: ignore[union-attr]

    def other_order(text: str, mode: Any) -> Answered:
        found = answer(text, mode)
        return replace(found, hits=sorted(found.hits, key=lambda hit: (-hit.score, -hit.id.int)))

    report = measured(replace(pieces, live=replace(pieces.live, words=replace(pieces.live.words, answer=other_order))))  # type: ignore[type-var]
    assert report.broken_hop == "fusion"
    assert "tie, and are not in the order of their ids" in report.sentence()


@pytest.mark.parametrize("name", ["statistics", "golden"])
def test_a_file_of_words_that_was_changed_is_found_with_the_files(pieces: Pieces, name: str) -> None:
    place = pieces.subject.folder / ("words.safetensors" if name == "statistics" else GOLDEN_WORDS_FILE)
    place.write_bytes(place.read_bytes()[:-1] + b" ")
    assert measured(pieces).broken_hop == "release files"


RULES = [fault for fault in faults_code.FAULTS if fault.name.startswith("words_")]


@pytest.mark.parametrize("fault", RULES, ids=lambda fault: fault.name)
def test_a_process_with_another_rule_of_words_breaks_the_hop_of_words(pieces: Pieces, fault: Fault) -> None:
    with fault.plant(cast(Any, None)):
        report = measured(pieces)
    assert report.broken_hop == "words", report.sentence()
    check_golden_words(pieces.subject.folder, pieces.offline.words())  # type: ignore[misc]


def with_words(key: str, new: Callable[[Sparse], Sparse | None]) -> Callable[[Pieces], None]:
    def change(pieces: Pieces) -> None:
        id_ = point_id("src", key, 0)
        point = pieces.collection.points[id_]
        words = new(cast(Sparse, point.vectors[WORDS]))
        others = {DENSE: point.vectors[DENSE], **({} if words is None else {WORDS: words})}
        pieces.collection.points[id_] = StoredPoint(id_, point.payload, others)

    return change


STORED: dict[str, Callable[[Sparse], Sparse | None]] = {
    "a weight is one higher": lambda words: Sparse(words.ids, (words.weights[0] + 1, *words.weights[1:])),
    "a weight is one lower": lambda words: Sparse(words.ids, (words.weights[0] - 1, *words.weights[1:])),
    "a term is gone": lambda words: Sparse(words.ids[1:], words.weights[1:]),
    "a term is another": lambda words: Sparse((words.ids[0] - 1, *words.ids[1:]), words.weights),
    "a term too many": lambda words: Sparse((words.ids[0] - 1, *words.ids), (1, *words.weights)),
    "none at all": lambda words: Sparse((), ()),
    "no vector": lambda words: None,
}


@pytest.mark.parametrize("name", STORED)
def test_stored_words_that_the_text_does_not_make_are_found_by_the_sample(pieces: Pieces, name: str) -> None:
    with_words("tea", STORED[name])(pieces)
    report = measured(pieces)
    assert report.broken_hop == "live sample", report.sentence()
    assert "other terms or weights" in report.sentence()
    assert report.sample is not None
    assert report.sample.words == report.sample.chunks - 1 == report.sample.vectors - 1


CONSUMERS = {
    "case": words_under("twinline.contract.sparse.analyzer._lower", case_kept),
    "stemmer": OTHER_STEMMER,
    "length": words_of(statistics={"mean_length": 100}),
}


@pytest.mark.parametrize("name", CONSUMERS)
def test_what_a_consumer_with_other_words_writes_is_found_by_the_sample(pieces: Pieces, name: str) -> None:
    wrong = replace(pieces.release, words=CONSUMERS[name](cast(Words, pieces.release.words)))
    consumer = Indexer(pieces.collection, wrong, ListSink(), NothingErased(), ConsumerLimits())
    consumer.handle([pieces.log.append(Document("src", "more", "The Bees make honey all day"))])
    report = measured(pieces)
    assert report.broken_hop == "live sample", report.sentence()
    assert "[src, more]" in report.sentence()


def test_a_write_between_two_reads_accuses_nobody(pieces: Pieces) -> None:
    query = pieces.live.words.query  # type: ignore[union-attr]
    calls = iter(range(1_000))

    def moved(asked: Query) -> list[list[StoredPoint]]:
        found = query(asked)
        return [[] for _ in found] if next(calls) == 0 else found

    live = replace(pieces.live, words=replace(pieces.live.words, query=moved))  # type: ignore[type-var]
    assert measured(replace(pieces, live=live)).ok


def test_an_answer_by_words_alone_measures_no_vectors() -> None:
    assert with_vectors({"mode": "hybrid", "hits": []}) == {"mode": "hybrid", "hits": []}
    # of an older online process
    assert with_vectors({"hits": []}) == {"hits": []}
    with pytest.raises(TransientError, match="the encoder is away"):
        with_vectors({"mode": "words", "note": "the encoder is away", "hits": []})


def test_a_manifest_without_fusion_beside_words_is_named(pieces: Pieces) -> None:
    manifest = replace(pieces.subject.manifest, fusion=None)
    report = measured(replace(pieces, subject=replace(pieces.subject, manifest=manifest)))
    assert {hop.name: hop.state for hop in report.hops}["fusion"] == "broken"
    assert not report.ok


def test_a_search_that_gives_a_chunk_of_one_side_nothing_on_the_other_breaks_the_hop(pieces: Pieces) -> None:
    for at in range(12):
        pieces.index(Document("src", f"more {at}", f"cats {'honey ' * (at % 3)}{'day ' * (at % 4)}bees make {at}"))
    few = of_fusion(pieces, Fusion(depth=3))
    assert measured(few).ok, measured(few).sentence()
    with patch("twinline.search.candidates._complete", lambda collection, asks, lists: None):
        assert measured(few).broken_hop == "fusion"


def of_fusion(pieces: Pieces, fusion: Fusion) -> Pieces:
    manifest = replace(pieces.subject.manifest, fusion=fusion)
    return searching(replace(pieces, subject=replace(pieces.subject, manifest=manifest)), fusion=fusion)


def test_words_that_cannot_be_read_break_their_hop_and_leave_no_sample(pieces: Pieces) -> None:
    def refuse() -> Words:
        raise MismatchError("the statistics are of another corpus")

    report = measured(replace(pieces, offline=replace(pieces.offline, words=refuse)))
    assert report.broken_hop == "words"
    assert (report.sample, report.sample_reason) == (None, "the statistics are of another corpus")
