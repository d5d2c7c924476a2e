"""Golden prompts: the packaged generator's ids are those that this process makes, and each planted fault is seen in them."""

import gzip
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.contract.answers_world import packaged_rules
from twinline.contract.answers import golden as golden_module
from twinline.contract.answers import packaged_model, selfcheck
from twinline.contract.answers.golden import (
    GOLDEN_PROMPTS_FILE,
    Decoded,
    GoldenPrompts,
    check_golden_prompts,
    make_golden_prompts,
    packaged_golden_prompts,
    read_golden_prompts,
)
from twinline.contract.answers.golden_prompts import golden_prompts
from twinline.contract.answers.packaged_model import packaged_tokenizer
from twinline.contract.answers.reading import read_answer
from twinline.contract.answers.specification import AnswerContract
from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.errors import MismatchError

CONTRACT = packaged_rules().contract


def test_the_packaged_ids_are_made_here_too() -> None:
    rules = packaged_rules()
    check_golden_prompts(packaged_golden_prompts(), rules.contract, rules.tokenizer, "package")
    assert make_golden_prompts(rules.contract, rules.tokenizer).contract == packaged_golden_prompts().contract
    assert [entry.conversation for entry in packaged_golden_prompts().entries] == list(golden_prompts())


def test_there_are_enough_of_them_and_each_has_its_name() -> None:
    names = [each.name for each in golden_prompts()]
    assert len(names) >= 60
    assert [name for name, count in Counter(names).items() if count > 1] == []
    refused = {entry.conversation.name: entry.refused for entry in packaged_golden_prompts().entries if entry.refused}
    assert refused == {"question_over_budget": "question_too_long"}


def test_golden_prompts_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    made = packaged_golden_prompts()
    answered = replace(made.entries[0], decoded=Decoded((75, 2), (-1.25, -0.5), (-0.5, 0.0), (0.75, None), -3.5))
    whole = GoldenPrompts(made.contract, (answered, *made.entries[1:]))
    (tmp_path / GOLDEN_PROMPTS_FILE).write_bytes(whole.to_bytes())
    assert read_golden_prompts(tmp_path) == whole
    assert whole.to_bytes() == read_golden_prompts(tmp_path).to_bytes()


def test_the_packaged_answers_are_answers() -> None:
    rules = packaged_rules()
    outcomes = Counter[str]()
    for entry in packaged_golden_prompts().entries:
        if entry.refused:
            assert entry.decoded is None
            continue
        asked, decoded = entry.conversation, entry.decoded
        assert decoded is not None
        assert len(decoded.ids) == len(decoded.log_probabilities) == len(decoded.masked_log_probabilities) == len(decoded.margins)
        # A mask leaves less to choose from, so what it leaves is likelier; where one is left, it is sure.
        for raw, masked, margin in zip(decoded.log_probabilities, decoded.masked_log_probabilities, decoded.margins, strict=True):
            assert raw <= masked + 1e-5 <= 2e-5
            assert (margin is not None and margin >= 0) or (margin is None and masked == 0)  # fmt: skip
        prompt = rules.prompt(asked.question, asked.history, asked.passages)
        constraint = rules.constraint(prompt)
        for token in decoded.ids:
            constraint.advance(token)
        reason = "stop" if constraint.finished() else "length"
        outcomes[read_answer(rules.grammar, prompt, decoded.ids, reason).outcome] += 1
    # Of an untuned model under the mask: most quote on until the limit of golden answers.
    assert outcomes.total() == 79
    assert min(outcomes["answered"], outcomes["cut"]) >= 10
    assert outcomes["not_in_documents"] >= 2


def planted(edit: Callable[[dict[str, Any]], object]) -> tuple[AnswerContract, AnswerTokenizer]:
    """The packaged tokenizer with one fault, under a contract that was told to expect it."""
    value = json.loads(packaged_tokenizer())
    edit(value)
    tokenizer = AnswerTokenizer(json.dumps(value, ensure_ascii=False).encode())
    return replace(CONTRACT, tokenizer_sha256=tokenizer.sha256), tokenizer


def without_digits(value: dict[str, Any]) -> None:
    value["pre_tokenizer"] = value["pre_tokenizer"]["pretokenizers"][1]


def space_before(value: dict[str, Any]) -> None:
    value["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True


def composed(value: dict[str, Any]) -> None:
    value["normalizer"] = {"type": "NFC"}


def lower_case(value: dict[str, Any]) -> None:
    value["normalizer"] = {"type": "Lowercase"}


def merges_reversed(value: dict[str, Any]) -> None:
    value["model"]["merges"] = value["model"]["merges"][:20_000] + value["model"]["merges"][20_000:][::-1]


def other_split(value: dict[str, Any]) -> None:
    value["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


@pytest.mark.parametrize("fault", [without_digits, space_before, composed, lower_case, merges_reversed, other_split])
def test_another_tokenizer_is_seen_in_the_golden_prompts(fault: Callable[[dict[str, Any]], object]) -> None:
    contract, tokenizer = planted(fault)
    golden = GoldenPrompts(contract.fingerprint, packaged_golden_prompts().entries)
    with pytest.raises(MismatchError, match=r"golden prompt '\w+' has \d+ ids here .* Install the versions"):
        check_golden_prompts(golden, contract, tokenizer, "release")
    # And by its hash alone, before any id is made.
    with pytest.raises(MismatchError, match="the prompt contract names"):
        check_golden_prompts(packaged_golden_prompts(), CONTRACT, tokenizer, "release")


def test_a_missing_split_of_digits_moves_ids_only_where_blanks_precede_them() -> None:
    _, faulty = planted(without_digits)
    same = packaged_rules().tokenizer
    differing = [
        text for text in ("in 2024", "in  2024", "\n\n1.", "\n1.", "½ Ⅻ ١٢٣") if same.encode(text) != faulty.encode(text)
    ]
    assert {"in  2024", "\n\n1."} <= set(differing)


@pytest.mark.parametrize(
    "changed",
    [
        replace(CONTRACT, system_text="You answer questions."),
        replace(CONTRACT, budgets=replace(CONTRACT.budgets, passages=1_000)),
        replace(CONTRACT, chat_version=1, stop_ids=(2, 0), pad_id=3),
        replace(CONTRACT, languages=("tr",)),
    ],
)
def test_golden_prompts_of_another_contract_are_refused(changed: AnswerContract) -> None:
    with pytest.raises(MismatchError, match="the golden prompts are of the prompt contract"):
        check_golden_prompts(packaged_golden_prompts(), changed, packaged_rules().tokenizer, "release")


@pytest.mark.parametrize("place", [0, 30, 79])
def test_one_changed_id_is_named(place: int) -> None:
    made = packaged_golden_prompts()
    entry = made.entries[place]
    ids = (*entry.ids[:-1], 17) if entry.ids else (1,)
    wrong = GoldenPrompts(made.contract, (*made.entries[:place], replace(entry, ids=ids), *made.entries[place + 1 :]))
    with pytest.raises(MismatchError, match=f"golden prompt '{entry.conversation.name}'"):
        check_golden_prompts(wrong, CONTRACT, packaged_rules().tokenizer, "release")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda value: value.update(schema=2), "schema is 2, this code reads 1"),
        (lambda value: value.pop("prompts"), "no golden prompts of schema 1"),
        (lambda value: value["prompts"][0].pop("ids"), "no golden prompts of schema 1"),
        (lambda value: value["prompts"][0].update(passages=[{"text": "x"}]), "is no passage"),
        (lambda value: value["prompts"][0].update(history=[{"role": "user"}]), "no golden prompts"),
        (lambda value: value["prompts"][0].update(decoded={"ids": []}), "no golden prompts"),
    ],
)
def test_a_file_that_was_changed_is_refused(tmp_path: Path, edit: Callable[[dict[str, Any]], object], said: str) -> None:
    value = json.loads(packaged_golden_prompts().to_bytes())
    edit(value)
    (tmp_path / GOLDEN_PROMPTS_FILE).write_text(json.dumps(value))
    with pytest.raises(MismatchError, match=said):
        read_golden_prompts(tmp_path)


def test_a_release_without_golden_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"is missing: .* is no release of a generator"):
        read_golden_prompts(tmp_path)


def test_a_tokenizer_that_was_changed_in_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "tokenizer.json.gz"
    other.write_bytes(gzip.compress(packaged_tokenizer() + b" "))
    monkeypatch.setattr(packaged_model, "PACKAGED_TOKENIZER", other)
    with pytest.raises(MismatchError, match="another hash than this code names"):
        packaged_tokenizer.__wrapped__()


def test_the_rules_in_code_give_their_golden_values() -> None:
    selfcheck.check_answers_in_code.__wrapped__()


@pytest.mark.parametrize("name", list(selfcheck._GOLDEN))
def test_a_rule_that_changed_stops_the_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(selfcheck._GOLDEN, name, "0" * 64)
    with pytest.raises(MismatchError, match=f"golden check of {name}: this process gives"):
        selfcheck.check_answers_in_code.__wrapped__()


def test_the_packaged_file_is_what_the_command_writes() -> None:
    written = gzip.decompress(golden_module.PACKAGED_PROMPTS.read_bytes())
    assert GoldenPrompts.from_bytes(written, "package").to_bytes() == written
