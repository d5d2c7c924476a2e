"""Leaks into training: every kind is planted once and found; sharing as in published data sets is allowed."""

from typing import Any

import pytest

from tests.unit.train.factories import SIMILARITY
from train.encoder.leaks import Leaks, certain_similarity, find_leaks, judge_leaks, shingles

LONG = " ".join(f"word{number}" for number in range(60))
OTHER = " ".join(f"other{number}" for number in range(60))
QUERIES = [{"query_id": "h1", "text": "How is it held out?", "split": "dev"}]
JUDGED = [{"query_id": "h1", "source": "s", "key": "held", "grade": 1, "split": "dev"}]


def pair(query: str = "a question", key: str = "trained", query_id: str = "t1", text: str = OTHER) -> dict[str, Any]:
    return {"query_id": query_id, "query": query, "source": "s", "key": key, "title": "", "text": text}


def look(*train: dict[str, Any], brought: tuple[str, ...] = (), texts: dict[str, str] | None = None) -> Leaks:
    known = {'["s","held"]': LONG, '["s","trained"]': OTHER} | (texts or {})
    return find_leaks(train, QUERIES, JUDGED, brought, known, SIMILARITY)


def test_pairs_that_share_nothing_with_the_evaluation_pass() -> None:
    check = judge_leaks(look(pair()))
    assert check.passed
    assert check.numbers["leaks"] == {}
    assert "1 training pairs against 1 held-out queries and 1 documents" in check.detail


@pytest.mark.parametrize(
    ("leaked", "texts", "kind"),
    [
        # other case, punctuation and width make no other question
        (pair(query="how is it ｈｅｌｄ out"), {}, "query text"),
        (pair(query_id="h1"), {}, "query id"),
        (pair(key="held"), {}, "relevant document"),
        # the same words under another key
        (pair(key="copy"), {'["s","copy"]': LONG.upper() + "!"}, "near-duplicate document"),
        # one word of sixty was changed
        (pair(key="copy"), {'["s","copy"]': LONG.replace("word0 ", "changed ")}, "near-duplicate document"),
        # a document that is not among the prepared ones stands for itself
        (pair(key="unknown", text=LONG), {}, "near-duplicate document"),
    ],
)
def test_whatever_leaks_is_counted_and_named(leaked: dict[str, Any], texts: dict[str, str], kind: str) -> None:
    check = judge_leaks(look(pair(), leaked, texts=texts))
    assert not check.passed
    assert check.numbers["leaks"] == {kind: 1}
    assert f"1 x {kind} (for example " in check.detail


def test_a_document_that_is_only_alike_is_no_leak() -> None:
    half = " ".join([*LONG.split()[:30], *OTHER.split()[:30]])
    assert judge_leaks(look(pair(key="half"), texts={'["s","half"]': half})).passed


def test_a_data_set_of_published_splits_may_share_documents_and_they_are_counted() -> None:
    check = judge_leaks(look(pair(key="held"), brought=("dev",)))
    assert check.passed
    assert check.numbers["shared_documents"] == {"dev": 1}
    assert "1 documents of dev train as well" in check.detail
    # its queries still may not be shared
    assert not judge_leaks(look(pair(query="how is it held out"), brought=("dev",))).passed


def test_similarity_is_certain_only_above_what_the_estimate_can_miss() -> None:
    assert 0.85 < certain_similarity(SIMILARITY) < 0.95
    assert shingles("One, two", 3) == {"one two"}
    assert shingles("a b c d", 3) == {"a b c", "b c d"}
