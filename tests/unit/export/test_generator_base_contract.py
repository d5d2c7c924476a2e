"""A model's own files make its prompt contract, or one of them is named that does not fit the others."""

import json
from pathlib import Path
from typing import Any

import pytest

from export.generator.base_contract import base_contract
from twinline.contract.answers.selfcheck import byte_tokenizer
from twinline.contract.answers.specification import Budgets, check_stop_ids
from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.errors import MismatchError

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = AnswerTokenizer(byte_tokenizer()).special
END, OTHER = SPECIAL["<|im_end|>"], SPECIAL["<eos>"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_bytes(byte_tokenizer())
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    write(tmp_path / "config.json", vocab_size=320, eos_token_id=END, max_position_embeddings=4_096)
    return tmp_path


def write(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(fields))


def test_a_contract_says_what_the_models_files_say(model: Path) -> None:
    contract, tokenizer_json = base_contract(model, ("en", "tr"))
    assert (contract.chat_format, contract.vocabulary, contract.stop_ids) == ("chatml", 320, (END,))
    assert (contract.budgets.context, contract.languages) == (4_096, ("en", "tr"))
    assert AnswerTokenizer(tokenizer_json).sha256 == contract.tokenizer_sha256


def test_a_folder_of_ours_keeps_its_contract(model: Path, tmp_path: Path) -> None:
    made = base_contract(model, ("en",), Budgets(context=4_000, passages=600))
    made[0].save(tmp_path / "ours", made[1])
    assert base_contract(tmp_path / "ours", ("tr",)) == made


@pytest.mark.parametrize(("stated", "stops"), [([END, OTHER], (END, OTHER)), (OTHER, (END, OTHER)), (None, (END,)), ([], (END,))])
def test_all_stop_ids_of_a_models_config_end_an_answer(model: Path, stated: Any, stops: tuple[int, ...]) -> None:
    write(model / "config.json", vocab_size=320, eos_token_id=stated, max_position_embeddings=4_096)
    assert base_contract(model, ("en",))[0].stop_ids == stops


def test_a_stop_id_that_only_the_generation_config_knows_ends_an_answer_too(model: Path) -> None:
    write(model / "generation_config.json", eos_token_id=[OTHER, END], temperature=1.0)
    contract, _ = base_contract(model, ("en",))
    assert contract.stop_ids == (END, OTHER)
    check_stop_ids(contract, (OTHER,), "the engine")


def test_a_model_that_pads_with_its_stop_gets_another_pad(model: Path) -> None:
    value = json.loads(byte_tokenizer().decode().replace("<pad>", "<|fim_pad|>"))
    (model / "tokenizer.json").write_text(json.dumps(value))
    write(model / "config.json", vocab_size=320, eos_token_id=[END, OTHER], pad_token_id=OTHER, max_position_embeddings=4_096)
    contract, tokenizer_json = base_contract(model, ("en",))
    assert contract.pad_id == AnswerTokenizer(tokenizer_json).special["<|fim_pad|>"]


def test_sampling_of_a_generation_config_never_counts(model: Path) -> None:
    before = base_contract(model, ("en",))
    write(
        model / "generation_config.json", eos_token_id=END, temperature=1.0, top_p=0.5, top_k=7, do_sample=True, max_new_tokens=16
    )
    after = base_contract(model, ("en",))
    assert after == before
    assert (after[0].decoding.temperature, after[0].budgets.answer) == (0.0, Budgets().answer)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"vocab_size": 10}, "vocabulary is 10, must be a whole number from 256"),
        ({"max_position_embeddings": 1_024}, "add up to 2560, the context has 1024"),
        ({"eos_token_id": SPECIAL["<pad>"]}, "no special token to pad with beside its stop ids"),
        ({"eos_token_id": 900}, "stop id is 900"),
        ({"vocab_size": None}, "states no vocab_size: choose a causal language model"),
        ({"max_position_embeddings": "4096"}, "states no max_position_embeddings"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(model: Path, fields: dict[str, Any], said: str) -> None:
    write(model / "config.json", **{"vocab_size": 320, "eos_token_id": END, "max_position_embeddings": 4_096, **fields})
    with pytest.raises(MismatchError, match=said):
        base_contract(model, ("en",))


def test_a_model_of_several_parts_states_its_language_models_facts(model: Path) -> None:
    write(model / "config.json", eos_token_id=END, text_config={"vocab_size": 384, "max_position_embeddings": 9_000})
    contract, _ = base_contract(model, ("en",))
    assert (contract.vocabulary, contract.budgets.context) == (384, 8_192)


def test_budgets_beyond_the_models_context_are_refused(model: Path) -> None:
    with pytest.raises(MismatchError, match="the model reads 4096 tokens, the budget's context is 8192: lower it"):
        base_contract(model, ("en",), Budgets(context=8_192))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("chat_template.jinja", CHATML.replace("assistant", "model"), "they part at"),
        ("chat_template.jinja", CHATML.replace("{% for", "{{ strftime_now('%d %b %Y') }}{% for"), "depends on the time"),
        ("config.json", "[]", "holds list, not a JSON object"),
        ("generation_config.json", "3", "holds int, not a JSON object"),
    ],
)
def test_a_file_that_does_not_fit_is_named(model: Path, name: str, content: str, said: str) -> None:
    (model / name).write_text(content)
    with pytest.raises(MismatchError, match=said):
        base_contract(model, ("en",))
