"""The prompt contract's file: read exactly or refused, by value, place and remedy; every field counts for the fingerprint."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.contract.answers_world import byte_rules, packaged_rules, with_changes
from twinline.contract.answers.decoding import DecodingSettings, decoding_settings
from twinline.contract.answers.packaged_model import packaged_tokenizer
from twinline.contract.answers.rules import AnswerRules
from twinline.contract.answers.selfcheck import byte_tokenizer
from twinline.contract.answers.specification import (
    PROMPT_CONTRACT_FILE,
    Allowed,
    AnswerContract,
    Budgets,
    Decoding,
    GrammarSettings,
    check_stop_ids,
    make_answer_contract,
)
from twinline.contract.encoder.specification import TOKENIZER_FILE
from twinline.contract.errors import DocumentError, MismatchError

CONTRACT = packaged_rules().contract


def test_a_contract_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    CONTRACT.save(tmp_path, packaged_tokenizer())
    assert AnswerContract.load(tmp_path) == (CONTRACT, packaged_tokenizer())
    assert AnswerRules.load(tmp_path).contract.fingerprint == CONTRACT.fingerprint
    assert AnswerContract.from_json(json.loads(json.dumps(CONTRACT.to_json()))).fingerprint == CONTRACT.fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        replace(CONTRACT, tokenizer_sha256="0" * 64),
        replace(CONTRACT, vocabulary=49_280),
        replace(CONTRACT, chat_format="llama3"),
        replace(CONTRACT, system_text="Answer."),
        replace(CONTRACT, stop_ids=(2, 3)),
        replace(CONTRACT, pad_id=3),
        replace(CONTRACT, languages=("en", "tr")),
        replace(CONTRACT, budgets=replace(CONTRACT.budgets, context=4_096)),
        replace(CONTRACT, budgets=replace(CONTRACT.budgets, passages=1_024)),
        replace(CONTRACT, budgets=replace(CONTRACT.budgets, history=0)),
        replace(CONTRACT, grammar=replace(CONTRACT.grammar, refusal="no answer")),
        replace(CONTRACT, grammar=replace(CONTRACT.grammar, max_citations=1)),
        replace(CONTRACT, grammar=replace(CONTRACT.grammar, quote_tokens=20)),
        replace(CONTRACT, grammar=replace(CONTRACT.grammar, sentence_tokens=20)),
        replace(CONTRACT, decoding=replace(CONTRACT.decoding, top_k=5)),
        replace(CONTRACT, decoding=replace(CONTRACT.decoding, request=(Allowed("seed", 0, 9),))),
    ],
)
def test_every_field_counts_for_the_fingerprint_and_survives_storage(changed: AnswerContract) -> None:
    assert changed.fingerprint != CONTRACT.fingerprint
    assert AnswerContract.from_json(changed.to_json()) == changed


def edited(*path: str | int, to: Any = None, without: bool = False) -> Callable[[dict[str, Any]], None]:
    def edit(value: dict[str, Any]) -> None:
        inner: Any = value
        for step in path[:-1]:
            inner = inner[step]
        if without:
            del inner[path[-1]]
        else:
            inner[path[-1]] = to

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (edited("schema", to=2), "schema is 2, this code reads 1"),
        (edited("schema", without=True), "schema is None"),
        (edited("clock", to="now"), r"unknown \['clock'\]"),
        (edited("languages", without=True), "not a prompt contract of schema 1"),
        (edited("pad_id", without=True), r"missing \['pad_id'\]"),
        (edited("budgets", "tools", to=9), r"unknown \['tools'\]"),
        (edited("grammar", "refusal", without=True), r"missing \['refusal'\]"),
        (edited("decoding", "min_p", to=0.1), r"unknown \['min_p'\]"),
        (edited("decoding", "request", to=[{"name": "seed"}]), "missing"),
        (edited("decoding", "request", to=3), "not a prompt contract"),
        (edited("chat_format", to="alpaca"), "chat format is alpaca@1, this code has chatml@1, gemma@1, llama3@1"),
        (edited("chat_version", to=2), "chat format is chatml@2"),
        (edited("passage_format", to=2), r"passage_format is 2, this code knows \[1\]"),
        (edited("passage_format", to=True), "passage_format is True"),
        (edited("packing", to="best"), "packing is 'best'"),
        (edited("grammar", "version", to=9), r"grammar version is 9, this code knows \[1\]"),
        (edited("decoding", "repetition_penalty", to=1.1), "repetition_penalty is 1.1"),
        (edited("decoding", "temperature", to=9), "temperature is 9, must be a number from 0 to 2"),
        (edited("decoding", "temperature", to=0.7), "temperature may be from 0 to 0, without its default 0.7"),
        (edited("decoding", "top_p", to=None), "top_p is None"),
        (edited("decoding", "top_k", to=-1), "top_k is -1"),
        (edited("decoding", "request", 0, "name", to="min_p"), "request parameter 'min_p' is unknown"),
        (edited("decoding", "request", 0, "name", to="seed"), "name one twice"),
        (edited("decoding", "request", 0, "most", to=10**6), "most max_tokens is 1000000"),
        (edited("decoding", "request", 0, "most", to=9), "without its default 320"),
        (edited("system_text", to=""), "system_text is ''"),
        (edited("system_text", to=" Answer."), "without white space at its ends"),
        (edited("grammar", "refusal", to=3), "refusal is 3"),
        (edited("grammar", "max_citations", to=0), "max_citations is 0, must be a whole number from 1 to 16"),
        (edited("grammar", "quote_tokens", to=1.5), "quote_tokens is 1.5"),
        (edited("languages", to=[]), "languages is"),
        (edited("languages", to=["english"]), "by two letters"),
        (edited("stop_ids", to=[]), "must be at least one, each once"),
        (edited("stop_ids", to=[2, 2]), "each once"),
        (edited("stop_ids", to=[99_999]), "stop id is 99999"),
        (edited("pad_id", to=2), "pad_id 2 is a stop id: .* never learns to stop"),
        (edited("pad_id", to=99_999), "pad_id is 99999"),
        (edited("vocabulary", to="49152"), "vocabulary is '49152'"),
        (edited("budgets", "context", to=2_000), "add up to 2560, the context has 2000"),
        (edited("budgets", "answer", to=0), "budget answer is 0"),
    ],
)
def test_a_contract_that_this_code_cannot_honour_is_refused(edit: Callable[[dict[str, Any]], None], said: str) -> None:
    value = json.loads(json.dumps(CONTRACT.to_json()))
    edit(value)
    with pytest.raises(MismatchError, match=said) as refused:
        AnswerContract.from_json(value, "the file")
    assert str(refused.value).startswith("the file")


@pytest.mark.parametrize("value", [[], 3, None, "x"])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(MismatchError, match="this code reads 1"):
        AnswerContract.from_json(value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / PROMPT_CONTRACT_FILE).unlink(), "is missing: the folder is no generator"),
        (lambda folder: (folder / TOKENIZER_FILE).unlink(), "is missing: the folder is no generator"),
        (lambda folder: (folder / PROMPT_CONTRACT_FILE).write_text("{"), "is not JSON"),
        (lambda folder: (folder / TOKENIZER_FILE).write_bytes(packaged_tokenizer() + b" "), "put back the tokenizer.json"),
        (lambda folder: (folder / TOKENIZER_FILE).write_bytes(byte_tokenizer()), "put back the tokenizer.json"),
    ],
)
def test_a_folder_that_was_changed_is_refused(tmp_path: Path, change: Callable[[Path], object], said: str) -> None:
    CONTRACT.save(tmp_path, packaged_tokenizer())
    change(tmp_path)
    with pytest.raises(MismatchError, match=said):
        AnswerRules.load(tmp_path)


def test_another_tokenizer_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="the tokenizer given to save"):
        CONTRACT.save(tmp_path, byte_tokenizer())


def test_the_stop_ids_of_a_models_config_are_the_contracts() -> None:
    contract, _ = make_answer_contract(packaged_tokenizer(), vocabulary=49_152, languages=("en",), config_stop_ids=(2, 5))
    assert contract.stop_ids == (2, 5)
    check_stop_ids(contract, (5,), "config.json")
    with pytest.raises(MismatchError, match=r"config.json: stops at \[7\], the prompt contract at \[2, 5\]"):
        check_stop_ids(contract, (2, 7), "config.json")


def test_padding_is_no_stop_and_both_are_special() -> None:
    assert CONTRACT.pad_id == 0
    assert CONTRACT.stop_ids == (2,)
    with pytest.raises(MismatchError, match="pad_id 33 is no special token"):
        with_changes(byte_rules(), pad_id=33)


def test_a_stop_id_that_ends_no_turn_is_not_appended_in_training() -> None:
    with pytest.raises(MismatchError, match="stops at"):
        with_changes(byte_rules(), stop_ids=(5,))
    with pytest.raises(MismatchError, match="training would append an id that ends no turn"):
        with_changes(byte_rules(), stop_ids=(5, 8))


def test_a_system_text_over_its_budget_is_refused() -> None:
    with pytest.raises(MismatchError, match=r"the system text has .* tokens, its budget is 512"):
        with_changes(byte_rules(), system_text="word " * 200 + "end")


def test_a_tokenizer_of_another_contract_is_refused() -> None:
    with pytest.raises(MismatchError, match="put back the file"):
        AnswerRules(CONTRACT, byte_tokenizer())


def test_a_tokenizer_without_a_pad_token_is_refused() -> None:
    value = json.loads(byte_tokenizer())
    for token in value["added_tokens"]:
        token["content"] = token["content"].replace("<pad>", "<filler>")
    value["model"]["vocab"] = {piece.replace("<pad>", "<filler>"): number for piece, number in value["model"]["vocab"].items()}
    with pytest.raises(MismatchError, match="add one, such as <pad>"):
        make_answer_contract(json.dumps(value).encode(), vocabulary=320, languages=("en",))


def test_truncation_and_padding_of_a_models_file_are_off() -> None:
    value = json.loads(packaged_tokenizer())
    value["truncation"] = {"direction": "Left", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    value["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 2,
        "pad_type_id": 0,
        "pad_token": "x",
    }  # fmt: skip
    contract, own = make_answer_contract(json.dumps(value).encode(), vocabulary=49_152, languages=("en",))
    assert own == packaged_tokenizer()
    assert contract == CONTRACT


def test_greedy_is_what_a_request_without_parameters_gets() -> None:
    wanted = DecodingSettings(max_tokens=320, temperature=0.0, top_p=1.0, top_k=0, seed=0)
    assert decoding_settings(CONTRACT, {}) == wanted
    assert decoding_settings(CONTRACT, {"temperature": 0, "seed": 7}) == replace(wanted, seed=7)
    assert decoding_settings(CONTRACT, {"max_tokens": 5}) == replace(wanted, max_tokens=5)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"temperature": 1}, "temperature is 1, must be a number from 0 to 0"),
        ({"temperature": 0.7}, "temperature is 0.7"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "0"}, "temperature is '0'"),
        ({"temperature": None}, "temperature is None"),
        ({"temperature": False}, "temperature is False"),
        ({"max_tokens": 0}, "must be a whole number from 1 to 320"),
        ({"max_tokens": 321}, "from 1 to 320"),
        ({"max_tokens": 2.0}, "a whole number"),
        ({"max_tokens": [5]}, r"max_tokens is \[5\]"),
        ({"top_p": 0.9}, "lets a request choose max_tokens, seed, temperature, not 'top_p'"),
        ({"repetition_penalty": 1.0}, "not 'repetition_penalty'"),
        ({"system": "Obey."}, "not 'system'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"logit_bias": {}}, "not 'logit_bias'"),
    ],
)
def test_a_parameter_that_the_contract_does_not_allow_is_refused(request_: dict[str, object], said: str) -> None:
    with pytest.raises(DocumentError, match=said) as refused:
        decoding_settings(CONTRACT, request_)
    assert refused.value.reason == "wrong_parameter"


def test_a_contract_may_allow_sampling() -> None:
    ranges = (Allowed("temperature", 0, 1), Allowed("top_p", 0.5, 1), Allowed("top_k", 0, 50), Allowed("max_tokens", 1, 320))
    contract = replace(CONTRACT, decoding=Decoding(request=ranges))
    contract.check("test")
    found = decoding_settings(contract, {"temperature": 0.3, "top_p": 0.75, "top_k": 40})
    assert found == DecodingSettings(320, 0.3, 0.75, 40, 0)


def test_budgets_of_one_contract_are_kept_apart_from_its_grammar() -> None:
    budgets = Budgets(context=2_048, passages=700, history=256)
    contract, _ = make_answer_contract(
        packaged_tokenizer(), vocabulary=49_152, languages=("en",), budgets=budgets, grammar=GrammarSettings(max_citations=1)
    )
    assert contract.budgets == budgets
    assert contract.decoding.request[0] == Allowed("max_tokens", 1, budgets.answer)
    assert byte_rules().contract.grammar.max_citations == 2
