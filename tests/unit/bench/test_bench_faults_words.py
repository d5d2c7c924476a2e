"""Planted faults of stored words and of one-sided words: each changes what it says, and only that."""

import json
import re
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest

from proofs.skew import faults_code, faults_consumer, faults_index
from proofs.skew.faults import Fault, fields_set
from proofs.skew.faults_consumer import OTHER_STEMMER, case_kept, words_of, words_under
from proofs.skew.run import all_faults
from proofs.skew.system import _CORPUS, System
from streaming import points
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import CollectionInfo, StoredPoint
from twinline.clients.store.vectors import DENSE, WORDS, VectorSpec, one_dense
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.errors import MismatchError
from twinline.contract.sparse.analyzer import Analyzer, words
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.languages import find_language
from twinline.contract.sparse.statistics import Statistics
from twinline.contract.sparse.vector import Sparse
from twinline.contract.sparse.weights import Words
from twinline.search import candidates, opening

TEXT = "How Do the readers read a file, line by line?"
ANALYZER = Analyzer(1, "english")


def right() -> Words:
    texts = [f"{title} {text}" for title, text in _CORPUS]
    statistics = Statistics.count(ANALYZER.terms(text) for text in texts)
    return Words(SparseContract(1, "english", 1, 90, 40, "0" * 64), statistics)


CHANGES: dict[str, Callable[[Words], Words]] = {
    "case": words_under("twinline.contract.sparse.analyzer._lower", case_kept),
    "stop words": words_under("twinline.contract.sparse.analyzer.LANGUAGES", faults_code._NO_STOP_WORDS),
    "stemmer": OTHER_STEMMER,
    "rarity": words_of(statistics={"chunks": 1_000_000}),
    "length": words_of(statistics={"mean_length": 100}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_words_are_wrong_on_their_side_alone(name: str) -> None:
    own = right()
    other = CHANGES[name](own)
    differs = other.document(TEXT) != own.document(TEXT), other.query(TEXT) != own.query(TEXT)
    # the rarity is of queries, the length of documents
    assert differs == (name != "rarity", name != "length")
    assert own.document(TEXT) == right().document(TEXT), "and afterwards all is as before"
    assert own.query(TEXT) == right().query(TEXT)


def test_the_corpus_of_the_system_is_english_and_its_words_are_of_unequal_rarity() -> None:
    counts: dict[str, int] = {}
    for title, text in _CORPUS:
        for word in words(f"{title} {text}"):
            counts[word] = counts.get(word, 0) + 1
    assert find_language(counts) == "english"
    assert len(set(right().query(" ".join(text for _, text in _CORPUS)).weights)) > 2


# --- stored ---


def point(key: str, text: str, tokens: int) -> StoredPoint:
    vectors = {DENSE: np.ones(4, np.float32), WORDS: right().document(text)}
    return StoredPoint(UUID(int=tokens), {"key": key, "token_count": tokens}, vectors)


STORED = {name: plant for name, _, plant in faults_index._DAMAGED if name.startswith("words_")}


def test_stored_words_are_damaged_and_nothing_else() -> None:
    first, second = point("a", "the reader reads", 3), point("b", "a file has lines", 9)
    [moved] = faults_index._words_of_another([first, second])
    assert (moved.id, moved.payload, moved.dense is first.dense) == (first.id, first.payload, True)
    assert moved.vectors[WORDS] == second.vectors[WORDS] != first.vectors[WORDS]
    change = faults_index._with_words(lambda found: Sparse(found.ids[1:], found.weights[1:]))
    [cut] = change([first, second])
    assert (cut.id, len(cast(Sparse, cut.vectors[WORDS]).ids)) == (second.id, 1)
    assert len(STORED) == 3


def test_a_collection_that_knows_no_words_is_not_the_releases() -> None:
    info = CollectionInfo("r1", "s", "c", "v", "i", {**one_dense(4), WORDS: VectorSpec("sparse", None, "dot")})
    [fault] = [fault for fault in faults_index.FAULTS if fault.name == "collection_without_words"]
    assert fault.expected == ("consumer start",)
    said = json.dumps(info.to_json()).encode()
    edit = fields_set({"vectors": lambda vectors: {name: spec for name, spec in vectors.items() if name != WORDS}})
    found = CollectionInfo.from_json(json.loads(edit(said)), "collection.json")
    with pytest.raises(MismatchError, match="has vectors"):
        found.check(info, "documents_r1")


# --- search and consumers ---


def planted(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Return the release that search opens while a fault is planted."""
    info = CollectionInfo("r1", "s", "c", "v", "i", one_dense(4))
    release = Release(info, None, None, GoldenSet((), 0.0), right(), Fusion())  # type: ignore[arg-type]
    monkeypatch.setattr(faults_code, "open_release", lambda *_: release)
    with fault.plant(cast(System, None)):
        return opening.open_release(Settings(), "r1")


SEARCH = [fault for fault in faults_code.FAULTS if fault.name.startswith(("search_words_", "fusion_"))]


@pytest.mark.parametrize("fault", [fault for fault in SEARCH if fault.name != "fusion_one_side"], ids=lambda fault: fault.name)
def test_a_fault_of_search_changes_the_words_or_the_fusion_of_search_alone(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = planted(fault, monkeypatch)
    if fault.name.startswith("fusion_"):
        assert opened.fusion != Fusion()
        assert fault.expected == ("fusion",)
    else:
        assert opened.words is None or opened.words.query(TEXT) != right().query(TEXT)
        assert fault.expected == ("query words",)


def test_the_fault_of_one_side_replaces_a_function_that_is_there() -> None:
    [fault] = [fault for fault in SEARCH if fault.name == "fusion_one_side"]
    before: Any = candidates._complete
    with fault.plant(cast(System, None)):
        assert candidates._complete is not before
    assert candidates._complete is before


def test_a_consumer_that_takes_words_of_the_text_alone_leaves_out_the_title() -> None:
    chunk: Any = type("Chunk", (), {"text": "a file", "encoder_text": "A title. a file"})
    made = faults_consumer._words_of_text_alone(chunk, np.ones(4, np.float32), right())
    assert made[WORDS] == right().document("a file") != points.chunk_vectors(chunk, np.ones(4, np.float32), right())[WORDS]


def test_at_least_fifteen_faults_are_of_words_and_fusion() -> None:
    found = [fault for fault in all_faults() if re.search(r"(?<!long_)words|fusion", fault.name)]
    assert len(found) == 43
    assert {place for fault in found for place in fault.expected} == {
        "consumer start", "release files", "query words", "fusion", "live sample",
    }  # fmt: skip
