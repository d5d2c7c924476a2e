"""The citation grammar: whatever allowed tokens are taken, quotes are literal, text is whole, and there is always a way on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.contract.answers_world import TEXTS, byte_rules, fallback_rules, packaged_rules, passage, walk, with_changes
from twinline.contract.answers.constraint import Constraint
from twinline.contract.answers.grammar import Grammar, incomplete
from twinline.contract.answers.passages import Passage, as_shown
from twinline.contract.answers.reading import read_answer
from twinline.contract.answers.rules import AnswerRules
from twinline.contract.errors import ContractError, MismatchError

STRANGE = st.text(
    st.one_of(st.sampled_from('" "\n\r\t.a1é文🎉\u0301\u200d\x04\U00050000'), st.characters(exclude_categories=["Cs"])),
    max_size=80,
)


def check_answer(rules: AnswerRules, passages: list[Passage], seed: int) -> int:
    """Walk once, and return how many quotes were literal."""
    prompt = rules.prompt("?", (), passages)
    constraint = rules.constraint(prompt)
    ids = walk(constraint, seed, rules.contract.stop_ids)
    assert constraint.finished()
    read = read_answer(rules.grammar, prompt, ids, "stop")
    # Whole characters only: this would raise.
    b"".join(rules.tokenizer.token_bytes[token] or b"" for token in ids).decode()
    assert read.text == rules.tokenizer.decode(ids)
    shown = {each.number: each for each in prompt.passages}
    for citation in read.citations:
        whole = shown[citation.n].text
        assert citation.quote == shown[citation.n].passage.text[citation.start : citation.end]
        assert citation.quote in whole
        assert citation.quote == citation.quote.strip() != ""
        assert '"' not in citation.quote
        assert f'[{citation.n}] "{citation.quote}"' in read.text
    assert len(read.citations) == read.text.count('"') / 2
    assert len(read.citations) <= rules.contract.grammar.max_citations
    return len(read.citations)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("rules", [byte_rules, fallback_rules, packaged_rules])
def test_random_walks_give_literal_quotes_and_nothing_else(rules: object, text: str) -> None:
    opened = rules()  # type: ignore[operator]
    passages = [passage(text), passage("A second one, 42 m tall.", "Title")]
    assert sum(check_answer(opened, passages, seed) for seed in range(12)) >= 12


@settings(deadline=None, max_examples=150)
@given(STRANGE, STRANGE, st.integers(0, 2**32))
def test_walks_over_any_text_end_and_are_literal(first: str, second: str, seed: int) -> None:
    check_answer(byte_rules(), [passage(first), passage(second)], seed)


@settings(deadline=None, max_examples=100)
@given(STRANGE, st.integers(0, 2**32))
def test_walks_of_a_vocabulary_with_byte_tokens_end_and_are_literal(text: str, seed: int) -> None:
    check_answer(fallback_rules(), [passage(text)], seed)


@settings(deadline=None, max_examples=60)
@given(STRANGE, st.integers(0, 2**32))
def test_walks_of_a_large_vocabulary_end_and_are_literal(text: str, seed: int) -> None:
    check_answer(packaged_rules(), [passage(text)], seed)


def test_the_first_token_chooses_between_refusal_and_citation() -> None:
    rules = packaged_rules()
    mask = rules.constraint(rules.prompt("?", (), [passage("a b")])).allowed()
    assert set(np.flatnonzero(mask)) == {rules.grammar.refusal_ids[0], rules.tokenizer.encode("[1]")[0]}


@pytest.mark.parametrize("passages", [[], [passage('"" "" "')], [passage("   ")], [passage("")], [passage("\x04\x04")]])
def test_without_words_to_quote_there_is_only_the_refusal(passages: list[Passage]) -> None:
    rules = packaged_rules()
    constraint = rules.constraint(rules.prompt("?", (), passages))
    taken = walk(constraint, 1, rules.contract.stop_ids)
    assert tuple(taken) == (*rules.grammar.refusal_ids, rules.contract.stop_ids[0])


def test_after_the_refusal_nothing_may_follow_but_a_stop_id() -> None:
    rules = byte_rules()
    constraint = rules.constraint(rules.prompt("?", (), [passage("a b")]))
    for token in rules.grammar.refusal_ids:
        assert not constraint.finished()
        constraint.advance(token)
    assert constraint.finished()
    for _ in range(3):
        assert set(np.flatnonzero(constraint.allowed())) == set(rules.contract.stop_ids)
        constraint.advance(rules.contract.stop_ids[0])


@pytest.mark.parametrize("count", [1, 9, 12])
def test_only_numbers_of_shown_passages_with_words_are_listed(count: int) -> None:
    rules = byte_rules()
    shown = as_shown([passage('"' if n == 2 else f"word{n} x") for n in range(count)], rules.tokenizer)
    constraint = rules.grammar.constraint(shown)
    numbers = set()
    for seed in range(60):
        constraint = rules.grammar.constraint(shown)
        walk(constraint, seed, rules.contract.stop_ids)
        numbers |= {claim.number for claim in constraint.claims}
    assert numbers <= set(range(1, count + 1)) - {3}
    assert len(numbers) >= min(count, 5)


def take(constraint: Constraint, ids: tuple[int, ...]) -> None:
    for token in ids:
        constraint.advance(token)


@pytest.mark.parametrize(
    ("taken", "token"),
    [
        ('[1] "tower ', "w"),  # another word than the passage's
        ('[1] "', "o"),  # from within a word
        ('[1] "The tow', '"'),  # to within a word
        ('[1] "The tower ', '"'),  # a space at the end
        ('[1] "', '"'),  # nothing
        ("[", "2"),  # a passage that is not listed
        ("[", "0"),
        ('[1] "tall. She said', " "),  # on the way across a quotation mark
        ("[1]", '"'),  # no space before the quote
        ('[1] "The tower" says ', '"'),  # a second quotation mark in the sentence
        ('[1] "The tower" see ', "["),  # what looks like a citation and is none
        ('[1] "The tower"', "x"),  # no space before the sentence
        ('[1] "The tower"\n', "\n"),
        ('[1] "The tower" ok\n', "n"),  # a refusal behind a claim
        ('[1] "The tower" ', "\x07"),
        ("not in the documents", "."),
        ("", "T"),  # no citation
    ],
)
def test_a_token_that_makes_no_answer_is_refused(taken: str, token: str) -> None:
    rules = byte_rules()
    constraint = rules.constraint(rules.prompt("?", (), [passage(TEXTS[0])]))
    take(constraint, rules.tokenizer.encode(taken))
    (last,) = rules.tokenizer.encode(token)
    assert not constraint.allowed()[last]
    with pytest.raises(ContractError, match=r"token \d+ is not allowed in state \w+ of the citation grammar"):
        constraint.advance(last)


@pytest.mark.parametrize("token", [-1, 319, 320, 10**9])
def test_a_token_beyond_the_vocabulary_is_refused(token: int) -> None:
    rules = byte_rules()
    with pytest.raises(ContractError, match="is not allowed"):
        rules.constraint(rules.prompt("?", (), [passage("a b")])).advance(token)


def test_a_quote_ends_at_the_first_end_of_a_word_after_its_limit() -> None:
    rules = with_changes(byte_rules(), grammar=replace(byte_rules().contract.grammar, quote_tokens=5))
    constraint = rules.constraint(rules.prompt("?", (), [passage("lighthouse keepers and more of them")]))
    take(constraint, rules.tokenizer.encode('[1] "lighthouse'))
    assert set(np.flatnonzero(constraint.allowed())) == {rules.grammar.close_id}


def test_a_word_without_end_can_be_left_between_its_characters() -> None:
    rules = with_changes(byte_rules(), grammar=replace(byte_rules().contract.grammar, quote_tokens=5))
    constraint = rules.constraint(rules.prompt("?", (), [passage("QUJD" * 500)]))
    ids = walk(constraint, 3, rules.contract.stop_ids)
    assert len(ids) < 500


def test_the_number_of_citations_is_limited() -> None:
    rules = byte_rules()
    constraint = rules.constraint(rules.prompt("?", (), [passage("a b")]))
    take(constraint, rules.tokenizer.encode('[1] "a"\n[1] "b"'))
    allowed = set(np.flatnonzero(constraint.allowed()))
    assert not allowed & set(rules.grammar.line_ids)
    assert set(rules.contract.stop_ids) <= allowed


def test_a_sentence_ends_at_its_limit_and_the_answer_counts_as_cut() -> None:
    rules = byte_rules()
    prompt = rules.prompt("?", (), [passage("a b")])
    most = rules.contract.grammar.sentence_tokens
    for end, outcome in (("x", "cut"), (".", "answered"), ("!", "answered")):
        ids = rules.tokenizer.encode('[1] "a" ' + "x" * (most - 2) + end)
        constraint = rules.constraint(prompt)
        take(constraint, ids)
        assert set(np.flatnonzero(constraint.allowed())) == {*rules.contract.stop_ids, *rules.grammar.line_ids}
        assert read_answer(rules.grammar, prompt, (*ids, rules.contract.stop_ids[0]), "stop").outcome == outcome


@pytest.mark.parametrize("character", ["é", "文", "🎉", "\U0010ffff", "\ud7ff", "\ue000", "\u0800", "\U00010000"])
def test_a_character_of_a_sentence_is_finished_before_anything_else(character: str) -> None:
    rules = byte_rules()
    prompt = rules.prompt("?", (), [passage("a b")])
    constraint = rules.constraint(prompt)
    take(constraint, rules.tokenizer.encode('[1] "a" '))
    *start, last = rules.tokenizer.encode(character)
    for token in start:
        constraint.advance(token)
        allowed = np.flatnonzero(constraint.allowed())
        assert not set(rules.contract.stop_ids) & set(allowed)
        assert all(0x80 <= (rules.tokenizer.token_bytes[each] or b"\x00")[0] < 0xC0 for each in allowed)
    constraint.advance(last)
    assert constraint.allowed()[rules.contract.stop_ids[0]]


@settings(deadline=None)
@given(st.binary(max_size=8))
def test_incomplete_is_the_beginning_of_a_character_or_none(data: bytes) -> None:
    def begins(start: bytes) -> bool:
        return any(character.startswith(start) for character in CHARACTERS)

    wanted = None
    for length in range(min(4, len(data) + 1)):
        tail = data[len(data) - length :]
        try:
            data[: len(data) - length].decode()
        except UnicodeDecodeError:
            continue
        if not tail or begins(tail):
            wanted = tail
            break
    assert incomplete(data) == wanted


# Every lead byte with every second byte that may follow it.
CHARACTERS = {chr(code).encode() for code in (*range(0x80, 0x3000), *range(0x3000, 0x110000, 64)) if not 0xD800 <= code < 0xE000}


def test_masks_that_answers_share_cannot_be_written_to() -> None:
    rules = packaged_rules()
    for mask in (rules.grammar.stop_mask, rules.grammar.sentence_mask, rules.grammar.first_mask):
        with pytest.raises(ValueError, match="read-only"):
            mask[0] = True


def test_a_constraint_is_what_the_engine_takes() -> None:
    rules = packaged_rules()
    constraint: Constraint = rules.constraint(rules.prompt("?"))
    mask = constraint.allowed()
    assert mask is not None
    assert mask.shape == (49_152,)
    assert mask.dtype == np.bool_


def test_a_vocabulary_below_the_tokenizers_is_refused() -> None:
    contract = replace(packaged_rules().contract, vocabulary=49_000)
    with pytest.raises(MismatchError, match=r"49152 ids, the contract's vocabulary 49000"):
        Grammar(contract, packaged_rules().tokenizer)


def test_logits_wider_than_the_tokenizer_are_never_allowed() -> None:
    rules = with_changes(packaged_rules(), vocabulary=49_280)
    constraint = rules.constraint(rules.prompt("?", (), [passage("a b")]))
    for token in walk(constraint, 5, rules.contract.stop_ids):
        assert token < 49_152
    assert len(constraint.allowed()) == 49_280


def test_a_refusal_that_begins_like_a_citation_is_refused() -> None:
    with pytest.raises(MismatchError, match="begins as a citation does"):
        with_changes(byte_rules(), grammar=replace(byte_rules().contract.grammar, refusal="[none]"))
