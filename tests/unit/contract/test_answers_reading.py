"""Reading and writing answers: citations lead to the document's code points, outcomes are true, training writes what is read."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.unit.contract.answers_world import TEXTS, byte_rules, cleaned_passage, packaged_rules, passage, walk
from twinline.contract.answers.messages import Message
from twinline.contract.answers.passages import Passage, as_shown
from twinline.contract.answers.prompt import Prompt
from twinline.contract.answers.reading import Citation, ReadAnswer, read_answer
from twinline.contract.answers.rules import AnswerRules
from twinline.contract.answers.selfcheck import byte_tokenizer
from twinline.contract.answers.specification import make_answer_contract
from twinline.contract.answers.writing import Statement, answer_ids
from twinline.contract.documents.cleaning import DEFAULT_CLEANING, clean
from twinline.contract.documents.records import Version
from twinline.contract.documents.span_map import SpanMap
from twinline.contract.errors import ContractError, DocumentError

RAWS = (
    "\ufeff  The tower\t is\r\n42\u00a0m   tall.\r\n\r\n\r\n\r\nIt was built in 1874.",
    "Cafe\u0301 nai\u0308ve re\u0301sume\u0301 at   the   gate. I\u0307stanbul'da ya\u011fmur.",
    "zero\u200bwidth and bell\x07 in  a   row; \u1100\u1161\u11a8 end",
    "文\u3099書  \u0958 検索。第二句。\r\n\u2028third",
    "flags 🇹🇷  and\x00 👩\u200d👧  end",
)


def written(rules: AnswerRules, prompt: Prompt, *statements: Statement) -> ReadAnswer:
    return read_answer(rules.grammar, prompt, answer_ids(rules.grammar, prompt.passages, statements), "stop")


@pytest.mark.parametrize("raw", RAWS)
@pytest.mark.parametrize("rules", [byte_rules, packaged_rules])
def test_a_citation_is_literally_in_the_version_that_it_names(rules: Any, raw: str) -> None:
    opened: AnswerRules = rules()
    prompt = opened.prompt("?", (), [cleaned_passage(raw)])
    cited = 0
    for seed in range(30):
        read = read_answer(
            opened.grammar, prompt, walk(opened.constraint(prompt), seed, opened.contract.stop_ids), "stop"
        )  # fmt: skip
        for citation in read.citations:
            assert clean(raw[citation.start : citation.end], DEFAULT_CLEANING).text == citation.quote
            cited += 1
    assert cited >= 30


@settings(deadline=None, max_examples=120)
@given(
    st.text(st.sampled_from('ab \t\r\n\u0301\u0308eiIİ\u0307\u1100\u1161\x00\u200b文🎉👩\u200d".0'), max_size=60),
    st.integers(0, 2**32),
    st.data(),
)
def test_citations_of_any_chunk_of_any_document_are_literal(raw: str, seed: int, data: st.DataObject) -> None:
    rules = byte_rules()
    cleaned = clean(raw, DEFAULT_CLEANING)
    start = data.draw(st.integers(0, len(cleaned.text)))
    end = data.draw(st.integers(start, len(cleaned.text)))
    chunk = Passage("s", "k", Version("log", 5, 6, 0), 7, "", cleaned.text[start:end], SpanMap.of(cleaned, start, end))
    prompt = rules.prompt("?", (), [chunk])
    for citation in read_answer(
        rules.grammar, prompt, walk(rules.constraint(prompt), seed, rules.contract.stop_ids), "stop"
    ).citations:
        places = [at for at in range(len(cleaned.text)) if cleaned.text.startswith(citation.quote, at)]
        assert (citation.start, citation.end) in [cleaned.raw_span(at, at + len(citation.quote)) for at in places]
        assert citation.version == Version("log", 5, 6, 0)


def test_of_equal_words_the_first_are_cited() -> None:
    rules = byte_rules()
    prompt = rules.prompt("?", (), [passage("to be or to be")])
    assert written(rules, prompt, Statement(1, "to be")).citations[0].start == 0
    assert written(rules, prompt, Statement(1, "be or to be")).citations[0].start == 3


def test_a_citation_names_the_passage_under_its_number() -> None:
    rules = byte_rules()
    passages = [passage(f"text number {n}", f"T{n}", key=f"key{n}", chunk=n) for n in range(3)]
    prompt = rules.prompt("?", (), passages)
    read = written(rules, prompt, Statement(3, "number 2", "So it is."), Statement(1, "number 0"))
    assert read.outcome == "answered"
    assert read.text == '[3] "number 2" So it is.\n[1] "number 0"'
    assert read.citations == (
        Citation(3, "s", "key2", Version("explicit", 3), 5, 13, "number 2"),
        Citation(1, "s", "key0", Version("explicit", 3), 5, 13, "number 0"),
    )


def test_renumbered_passages_are_found_out() -> None:
    rules = byte_rules()
    one, two = passage("alpha beta"), passage("gamma delta")
    ids = answer_ids(rules.grammar, as_shown([one, two], rules.tokenizer), [Statement(2, "gamma")])
    with pytest.raises(ContractError, match="is not allowed"):
        read_answer(rules.grammar, rules.prompt("?", (), [two, one]), ids, "stop")


def test_a_passage_that_was_cut_lends_only_what_was_shown() -> None:
    rules = byte_rules()
    long = passage("One sentence here. " * 60 + "The last words.")
    prompt = rules.prompt("?", (), [long])
    assert prompt.passages[0].is_cut
    with pytest.raises(DocumentError, match="the grammar ends the answer at token"):
        answer_ids(rules.grammar, prompt.passages, [Statement(1, "The last words.")])


def test_a_chunk_stored_without_a_map_is_cited_whole() -> None:
    rules = byte_rules()
    stored = replace(passage("alpha beta"), spans=SpanMap.whole(40, 52))
    read = written(rules, rules.prompt("?", (), [stored]), Statement(1, "beta"))
    assert (read.citations[0].start, read.citations[0].end) == (40, 52)


def test_the_refusal_is_an_outcome_of_its_own() -> None:
    rules = packaged_rules()
    read = written(rules, rules.prompt("?", (), [passage("a b")]))
    assert (read.outcome, read.text, read.citations) == ("not_in_documents", "not in the documents", ())


@pytest.mark.parametrize("reason", ["length", "cancelled", "deadline", "error"])
@pytest.mark.parametrize("kept", [0, 3, 9, -1])
def test_an_answer_that_the_engine_broke_off_is_cut(reason: Any, kept: int) -> None:
    rules = byte_rules()
    prompt = rules.prompt("?", (), [passage("alpha beta gamma")])
    for statements in ([Statement(1, "alpha beta", "Yes.")], []):
        ids = answer_ids(rules.grammar, prompt.passages, statements)
        assert read_answer(rules.grammar, prompt, ids[:kept], reason).outcome == "cut"


@pytest.mark.parametrize("kept", range(16))
def test_an_engine_that_says_stop_in_mid_answer_is_not_believed(kept: int) -> None:
    rules = byte_rules()
    prompt = rules.prompt("?", (), [passage("alpha beta gamma")])
    ids = rules.tokenizer.encode('[1] "alpha beta" é')
    whole = len(rules.tokenizer.encode('[1] "alpha beta"'))
    assert read_answer(rules.grammar, prompt, ids[: min(kept, whole - 1)], "stop").outcome == "cut"
    assert read_answer(rules.grammar, prompt, ids[:-1], "stop").outcome == "cut"


@pytest.mark.parametrize("statements", [[Statement(1, "alpha beta", "Yes.")], [Statement(1, "alpha")], []])
def test_the_stop_id_may_be_among_the_ids_or_not(statements: list[Statement]) -> None:
    rules = byte_rules()
    prompt = rules.prompt("?", (), [passage("alpha beta gamma")])
    ids = answer_ids(rules.grammar, prompt.passages, statements)
    with_it, without = (read_answer(rules.grammar, prompt, given, "stop") for given in (ids, ids[:-1]))
    assert with_it == without
    assert with_it.outcome == ("answered" if statements else "not_in_documents")


def test_the_engines_reason_is_believed_over_the_ids() -> None:
    rules = byte_rules()
    prompt = rules.prompt("?", (), [passage("alpha")])
    ids = answer_ids(rules.grammar, prompt.passages, [Statement(1, "alpha")])
    assert read_answer(rules.grammar, prompt, ids, "length").outcome == "cut"


@pytest.mark.parametrize("after", [1, 2, 5])
def test_an_engine_that_runs_past_its_stop_id_is_found_out(after: int) -> None:
    rules = packaged_rules()
    prompt = rules.prompt("?", (), [passage("alpha")])
    ids = answer_ids(rules.grammar, prompt.passages, [Statement(1, "alpha")])
    with pytest.raises(ContractError, match="the engine ran past the end of the answer"):
        read_answer(rules.grammar, prompt, (*ids, *[rules.contract.stop_ids[0]] * after), "stop")


@pytest.mark.parametrize("text", TEXTS)
def test_a_stream_says_what_a_whole_answer_says(text: str) -> None:
    rules = packaged_rules()
    prompt = rules.prompt("?", (), [passage(text), passage("alpha beta")])
    for seed in range(5):
        ids = walk(rules.constraint(prompt), seed, rules.contract.stop_ids)
        reader = rules.reader(prompt)
        pieces = [piece for token in ids for piece in reader.take(token)]
        whole = read_answer(rules.grammar, prompt, ids, "stop")
        assert reader.finish("stop") == whole
        assert "".join(piece for piece in pieces if isinstance(piece, str)) == whole.text
        assert tuple(piece for piece in pieces if isinstance(piece, Citation)) == whole.citations


def test_a_note_of_the_prompt_reaches_the_answer() -> None:
    rules = packaged_rules()
    prompt = rules.prompt("İstanbul'un nüfusu ne kadar?", (), [passage("alpha")])
    assert "tr" in written(rules, prompt).note


def test_an_answer_is_written_segment_by_segment() -> None:
    rules = packaged_rules()
    shown = as_shown([passage("The tower is 42 m tall.")], rules.tokenizer)
    ids = answer_ids(rules.grammar, shown, [Statement(1, "42 m tall.", "It is 42 m tall.")])
    joined = rules.tokenizer.encode('[1] "42 m tall." It is 42 m tall.')
    # Joined text merges the full stop and the mark behind it, which the mask never does.
    assert ids[:-1] != joined
    assert rules.tokenizer.decode(ids) == rules.tokenizer.decode(joined)
    quote = rules.tokenizer.encode("42 m tall.")
    assert ids[4 : 4 + len(quote) + 1] == (*quote, rules.grammar.close_id)
    assert ids[-1] == rules.contract.stop_ids[0]


def test_a_training_row_begins_with_the_prompt_that_is_served() -> None:
    value = json.loads(byte_tokenizer())
    # A vocabulary with a token across the seam of prompt and answer, and nothing that keeps the two sides apart.
    value["model"]["vocab"]["Ċ["] = len(value["model"]["vocab"])
    value["model"]["merges"].append(["Ċ", "["])
    value["pre_tokenizer"]["use_regex"] = False
    tokenizer_json = json.dumps(value).encode()
    rules = AnswerRules(
        *make_answer_contract(tokenizer_json, vocabulary=320, languages=("en",), budgets=byte_rules().contract.budgets)
    )
    special = {identity: name for name, identity in rules.tokenizer.special.items()}
    prompt = rules.prompt("How tall?", (), [passage("It is 42 m tall.")])
    row = (*prompt.ids, *answer_ids(rules.grammar, prompt.passages, [Statement(1, "42 m", "It is 42 m.")]))
    text = "".join(special.get(identity) or rules.tokenizer.decode([identity]) for identity in row)
    joined = Tokenizer.from_str(tokenizer_json.decode()).encode(text, add_special_tokens=False).ids
    assert row[: len(prompt.ids)] == prompt.ids
    # Text that is joined and then encoded has other ids, and no longer begins with the prompt.
    assert tuple(joined[: len(prompt.ids)]) != prompt.ids


def test_history_is_made_of_messages_again_not_of_ids() -> None:
    rules = packaged_rules()
    prompt = rules.prompt("?", (), [passage("The tower is 42 m tall.")])
    ids = answer_ids(rules.grammar, prompt.passages, [Statement(1, "42 m tall.", "It is.")])
    said = read_answer(rules.grammar, prompt, ids, "stop").text
    history = [Message("user", "?"), Message("assistant", said)]
    again, once_more = rules.prompt("And?", history), rules.prompt("And?", history)
    assert again.ids == once_more.ids
    # The answer's own ids are not what its text is encoded to: replaying them would be another prompt.
    assert tuple(ids[:-1]) != rules.tokenizer.encode(said)


@pytest.mark.parametrize(
    "statements",
    [
        [Statement(1, "gamma")],
        [Statement(2, "alpha")],
        [Statement(1, "")],
        [Statement(1, "alph")],
        [Statement(1, " alpha")],
        [Statement(1, "alpha ")],
        [Statement(1, "Alpha")],
        [Statement(1, 'alpha "beta"')],
        [Statement(1, "alpha", 'He said "x".')],
        [Statement(1, "alpha", "See [1].")],
        [Statement(1, "alpha", "Two\nlines.")],
        [Statement(1, "alpha", "long " * 30)],
        [Statement(1, "alpha"), Statement(1, "beta"), Statement(1, "alpha")],
        [Statement(0, "alpha")],
    ],
)
def test_an_answer_that_serving_could_never_give_is_not_written(statements: list[Statement]) -> None:
    rules = byte_rules()
    shown = as_shown([passage('alpha beta "beta" delta')], rules.tokenizer)
    with pytest.raises(DocumentError, match="the grammar ends the answer at token") as refused:
        answer_ids(rules.grammar, shown, statements)
    assert refused.value.reason == "no_answer"
