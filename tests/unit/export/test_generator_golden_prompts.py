"""Golden answers: greedy under the mask, in float32, the same with a cache and without one."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from export.generator.golden_prompts import GOLDEN_TOKENS, greedy_decoder, write_packaged_prompts
from twinline.contract.answers.golden import Decoded, GoldenPrompt, make_golden_prompts, packaged_golden_prompts
from twinline.contract.answers.golden_prompts import Conversation, golden_prompts, passage
from twinline.contract.answers.packaged_model import packaged_contract
from twinline.contract.answers.rules import AnswerRules
from twinline.contract.answers.selfcheck import byte_contract

CONVERSATIONS = (
    Conversation("one", "How tall?", (), (passage("Tower", "The tower is 42 m tall. It is old."),)),
    Conversation("none", "How tall?"),
    Conversation("two", "Ne?", (), (passage("", "灯塔高四十二米。"), passage("", "Built in 1874 🎉."))),
)


@pytest.fixture(scope="module")
def rules() -> AnswerRules:
    return AnswerRules(*byte_contract())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, small enough for a test."""
    import torch

    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1_024,
        initializer_range=0.5,
    )
    folder = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_an_answer_is_greedy_under_the_mask(rules: AnswerRules, model: Path) -> None:
    import torch

    plain = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    decode = greedy_decoder(model, rules)
    for entry in make_golden_prompts(rules.contract, rules.tokenizer, CONVERSATIONS).entries:
        found = decode(entry)
        conversation = entry.conversation
        constraint = rules.constraint(rules.prompt(conversation.question, conversation.history, conversation.passages))
        for place, token in enumerate(found.ids):
            # All ids again at each step, without a cache.
            with torch.inference_mode():
                logits = plain(torch.tensor([[*entry.ids, *found.ids[:place]]])).logits[0, -1].double()
            allowed = np.flatnonzero(constraint.allowed())
            best = torch.sort(logits[allowed], descending=True).values
            raw = torch.log_softmax(logits, -1)
            assert token == int(allowed[int(torch.argmax(logits[allowed]))])
            assert found.log_probabilities[place] == pytest.approx(float(raw[token]), abs=1e-4)
            assert found.masked_log_probabilities[place] == pytest.approx(
                float(torch.log_softmax(logits[allowed], -1).max()), abs=1e-4
            )
            margin = found.margins[place]
            assert (margin is None) == (len(allowed) == 1)
            assert margin is None or margin == pytest.approx(float(best[0] - best[1]), abs=1e-4)
            if place == 0:
                assert found.refusal == pytest.approx(float(raw[rules.grammar.refusal_ids[0]]), abs=1e-4)
            constraint.advance(token)
        assert constraint.finished() or len(found.ids) == GOLDEN_TOKENS


def test_golden_prompts_are_written_with_their_answers(tmp_path: Path, rules: AnswerRules) -> None:
    answer = Decoded((1, 2), (-1.0, -2.0), (-0.5, 0.0), (0.25, None), -3.0)
    asked: list[str] = []

    def decode(entry: GoldenPrompt) -> Decoded:
        asked.append(entry.conversation.name)
        return answer

    made = write_packaged_prompts(tmp_path / "golden.gz", rules, decode)
    assert {entry.decoded for entry in made.entries if not entry.refused} == {answer}
    assert asked == [entry.conversation.name for entry in made.entries if not entry.refused]
    assert gzip.decompress((tmp_path / "golden.gz").read_bytes()) == made.to_bytes()


def test_the_package_has_what_the_command_writes_for_the_ids(tmp_path: Path) -> None:
    made = write_packaged_prompts(tmp_path / "golden.gz", AnswerRules(*packaged_contract()), None)
    stored = packaged_golden_prompts()
    assert len(made.entries) == len(list(golden_prompts())) >= 60
    assert made.entries == tuple(replace(entry, decoded=None) for entry in stored.entries)
