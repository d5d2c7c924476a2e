"""Planted queries: certain answers, the same ones every time, and none where a corpus has too few names of its own."""

import json
import random
from typing import Any

import pytest

from twinline.contract.encoder.sparse_settings import LANGUAGE_NAMES
from twinline.contract.sparse.names import names
from twinline.scoring.exact_names import _FRAMES, Planted, ask_for, not_first, plant, shares_first

COPY = " ".join(f"{chr(97 + number // 26)}{chr(97 + number % 26)}q" for number in range(80)) + " about copied_name here"


def corpus(*texts: str | list[str]) -> tuple[list[str], list[int], list[str]]:
    """Return documents `d0`, `d1`, ... of the chunks that are given."""
    chunks = [[text] if isinstance(text, str) else text for text in texts]
    ids = [json.dumps(["s", f"d{number}"]) for number in range(len(chunks))]
    return ids, [len(each) for each in chunks], [text for each in chunks for text in each]


def planted(*texts: str | list[str], language: str = "english", least: int = 1, most: int = 200) -> Planted:
    return plant(*corpus(*texts), language, least=least, most=most)


def asked(found: Planted) -> dict[str, set[str]]:
    """Return the keys of the answers by the name that is asked for."""
    return {
        next(iter(names(query.text)), query.text): {json.loads(document)[1] for document in query.documents}
        for query in found.queries
    }


@pytest.mark.parametrize(
    ("texts", "names_of"),
    [
        (["see E4711 here", "nothing"], {"E4711": {"d0"}}),
        (["see E4711 here", "E4711 too"], {}),
        (["see E4711 here", "e4711 too"], {}),  # in another case
        (["call max_tokens", "a maxTokens of it"], {}),  # in another spelling
        (["call max_tokens", "the max tokens of it"], {}),  # as words
        (["call max_tokens", "use self.max_tokens now"], {"self.max_tokens": {"d1"}}),  # as a part of another one
        (["call json.load", "call json.loads"], {"json.load": {"d0"}, "json.loads": {"d1"}}),
        (["version 3.10.2", "version 3.10.2.1"], {"3.10.2.1": {"d1"}}),
        ([["E4711 first", "E4711 again"], "nothing"], {"E4711": {"d0"}}),  # two chunks of one document
        ([COPY, COPY, "nothing"], {"copied_name": {"d0", "d1"}}),  # a copy is the same answer
        ([COPY, COPY.replace("abq", "other"), "nothing"], {"copied_name": {"d0", "d1"}}),  # near
        ([COPY, "another about copied_name"], {}),
        (["ECONNREFUSED here", "IL-6 is short enough to be, x_y is not"], {"IL-6": {"d1"}}),
        (["words alone, of 1998 and 20th", ""], {}),
        ([], {}),
    ],
)
def test_a_name_is_planted_where_its_answer_is_certain(texts: list[Any], names_of: dict[str, set[str]]) -> None:
    found = planted(*texts)
    assert asked(found) == names_of
    assert found.names == len(names_of)


def test_half_are_bare_and_half_in_a_sentence_and_documents_take_turns() -> None:
    texts = [" ".join(f"code_{chr(97 + document)}{chr(97 + number)}" for number in range(20)) for document in range(10)]
    found = planted(*texts, most=60)
    assert found.names == 200
    assert [query.form for query in found.queries] == ["bare", "in a sentence"] * 30
    assert all((query.form == "bare") == (" " not in query.text) for query in found.queries)
    assert len(asked(found)) == 60, "no name twice"
    by_document = [json.loads(next(iter(query.documents)))[1] for query in found.queries]
    assert all(by_document.count(f"d{number}") == 6 for number in range(10))
    assert len({query.text.replace(next(iter(names(query.text))), "") for query in found.queries}) == 4, (
        "three sentences, or none"
    )


def test_the_order_of_documents_and_the_rest_of_the_corpus_change_nothing() -> None:
    texts = [f"text about code_{chr(97 + number)}x" for number in range(26)]
    first = {query.text for query in planted(*texts).queries}
    random.Random(4).shuffle(texts)
    assert {query.text for query in planted(*texts).queries} == first
    assert {query.text for query in planted(*texts, "more words, and none of them a name").queries} == first


def test_a_corpus_of_too_few_names_has_none_planted() -> None:
    texts = [f"text about code_{chr(97 + number)}x" for number in range(9)]
    assert planted(*texts, least=10) == Planted((), 9)
    assert len(planted(*texts, least=9).queries) == 9


@pytest.mark.parametrize("language", [*LANGUAGE_NAMES, "elvish"])
def test_a_sentence_is_in_the_language_of_the_corpus_and_holds_the_name_alone(language: str) -> None:
    texts = [ask_for("E4711", number, language) for number in range(1, 7, 2)]
    assert {form for _, form in texts} == {"in a sentence"}
    for text, _ in texts:
        assert names(text) == ["E4711"]
        assert len(text.split()) > 2
    own = _FRAMES.get(language, _FRAMES["english"])
    assert {text for text, _ in texts} == {frame.format("E4711") for frame in own}


def test_the_share_of_first_hits_is_told_by_form() -> None:
    found = planted(*(f"text about code_{chr(97 + number)}x" for number in range(4)))
    right = {query.id: {next(iter(query.documents)): 2.0, "other": 1.0} for query in found.queries}
    assert shares_first(found.queries, right) == {"bare": 1.0, "in a sentence": 1.0}
    assert not_first(found.queries, right) == []
    bare = found.queries[0]
    wrong = right | {bare.id: {"other": 3.0, **right[bare.id]} | {"other": 3.0}}
    assert shares_first(found.queries, wrong) == {"bare": 0.5, "in a sentence": 1.0}
    assert not_first(found.queries, wrong) == [bare.text]
    assert shares_first(found.queries, {}) == {"bare": 0.0, "in a sentence": 0.0}, "no answer is no right one"
    assert shares_first([], {}) == {}
