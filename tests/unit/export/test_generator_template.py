"""The proof of a chat format: the contract's ids are those of the model's own template, or the model is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from export.generator.template_proof import PROBES, prove_format, read_template
from twinline.contract.answers.packaged_model import packaged_contract
from twinline.contract.answers.selfcheck import byte_contract
from twinline.contract.answers.specification import make_answer_contract
from twinline.contract.errors import MismatchError

# As the models of these families carry them.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim "
    "+ '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
TURN, HEADER = "'<|im_start|>' + message['role']", "'<|im_start|>assistant\n'"
GOOD = {"chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA}
DATE = "{{ strftime_now('%d %b %Y') }}"


@pytest.mark.parametrize("chat", list(GOOD))
def test_each_format_is_that_of_the_models_template(chat: str) -> None:
    contract, tokenizer_json = byte_contract(chat)
    prove_format(contract, tokenizer_json, GOOD[chat], "model")


def test_the_packaged_generators_template_is_chatml() -> None:
    prove_format(*packaged_contract(), CHATML, "model")


@pytest.mark.parametrize("chat", list(GOOD))
@pytest.mark.parametrize("other", list(GOOD))
def test_the_template_of_another_family_is_refused(chat: str, other: str) -> None:
    if chat == other:
        return
    contract, tokenizer_json = byte_contract(chat)
    with pytest.raises(MismatchError, match=rf"model: (chat format {chat}@1 gives|the chat template does not render)"):
        prove_format(contract, tokenizer_json, GOOD[other], "model")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        # The header of the answer is left out, or is one token short.
        (CHATML.replace("{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", ""), "gives .* they part at"),
        (CHATML.replace(HEADER, "'<|im_start|>assistant'"), "they part at"),
        # A begin of its own, twice or at all.
        ("<|endoftext|>" + CHATML, "they part at 0"),
        ("<|im_start|>" + CHATML, "they part at 1"),
        # The system text is dropped, or another one is put in its place.
        (CHATML.replace(TURN, f"'' if message['role'] == 'system' else {TURN}"), "they part at"),
        (CHATML.replace("{% for message in messages %}", "{% for message in messages[1:] %}", 1), "they part at"),
        # Turns end otherwise.
        (CHATML.replace("'<|im_end|>' + '\n'", "'<|im_end|>'"), "they part at"),
        (CHATML.replace("'<|im_end|>' + '\n'", "'<|endoftext|>\n'"), "they part at"),
        # An instruction format without turns.
        ("{% for m in messages %}### {{ m['role'] }}:\n{{ m['content'] }}\n\n{% endfor %}### Response:\n", "they part at 0"),
        # A clock.
        (CHATML.replace(HEADER, f"'Today is ' + strftime_now('%d %b %Y') + {HEADER}"), "depends on the time"),
        (DATE + CHATML, "depends on the time .*'29 Feb 2024.*'04 Jul 2031"),
        # A date that stands still is another template all the same.
        ("Today Date: 26 Jul 2024\n\n" + CHATML, "they part at 0"),
        ("{{ raise_exception('only tools') }}", "does not render: only tools"),
        ("{% for %}", "does not render"),
        ("{{ messages.__class__.__mro__ }}", "does not render|they part"),
    ],
)  # fmt: skip
def test_another_template_is_refused_with_the_place_where_they_part(template: str, said: str) -> None:
    contract, tokenizer_json = byte_contract()
    with pytest.raises(MismatchError, match=said) as refused:
        prove_format(contract, tokenizer_json, template, "the model in X")
    assert str(refused.value).startswith("the model in X")


def test_a_contract_of_another_format_is_refused_for_its_model() -> None:
    contract, tokenizer_json = byte_contract("chatml")
    with pytest.raises(MismatchError, match="Choose a model whose template is gemma's"):
        prove_format(replace(contract, chat_format="gemma"), tokenizer_json, CHATML, "model")


def test_probes_end_with_a_question_and_have_no_white_space_at_their_ends() -> None:
    for system, turns in PROBES:
        assert turns[-1][0] == "user"
        assert all(text == text.strip() for text in (system, *(text for _, text in turns)))


def test_a_template_is_found_where_models_keep_it(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"has no chat template .* choose an instruct model"):
        read_template(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(
        json.dumps({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})
    )
    assert read_template(tmp_path) == "d"
    config.write_text(json.dumps({"chat_template": "c"}))
    assert read_template(tmp_path) == "c"
    (tmp_path / "chat_template.jinja").write_text("j")
    assert read_template(tmp_path) == "j"


def test_a_tokenizer_of_no_known_format_is_refused() -> None:
    _, tokenizer_json = packaged_contract()
    value = json.loads(tokenizer_json)
    value["added_tokens"] = value["added_tokens"][:1]
    with pytest.raises(MismatchError, match="are of no known chat format"):
        make_answer_contract(json.dumps(value).encode(), vocabulary=49_152, languages=("en",))
