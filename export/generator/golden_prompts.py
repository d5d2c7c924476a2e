"""The packaged generator's golden prompts, as they lie in the package: prompt ids, and greedy answers in float32 by torch."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinline.contract.answers.golden import Decoded, GoldenPrompt, GoldenPrompts, make_golden_prompts
from twinline.contract.answers.rules import AnswerRules

# Enough to see another model, precision or mask; the first tokens are the ones that everything else follows from.
GOLDEN_TOKENS: Final = 48
_DIGITS: Final = 6


def write_packaged_prompts(target: Path, rules: AnswerRules, decode: Callable[[GoldenPrompt], Decoded] | None) -> GoldenPrompts:
    """Write and return the golden prompts of the packaged generator.

    Args:
        target: the file in the package.
        rules: of the packaged generator.
        decode: gives the greedy answer to a prompt, in float32; None leaves answers out.
    """
    made = make_golden_prompts(rules.contract, rules.tokenizer)
    if decode is not None:
        entries = tuple(entry if entry.refused else replace(entry, decoded=decode(entry)) for entry in made.entries)
        made = GoldenPrompts(made.contract, entries)
    target.write_bytes(gzip.compress(made.to_bytes(), 9, mtime=0))
    return made


def greedy_decoder(model_folder: Path, rules: AnswerRules) -> Callable[[GoldenPrompt], Decoded]:
    """Return a decoder under the mask: torch, float32, one prompt at a time, at most `GOLDEN_TOKENS` tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)

    def decode(entry: GoldenPrompt) -> Decoded:
        conversation = entry.conversation
        constraint = rules.constraint(rules.prompt(conversation.question, conversation.history, conversation.passages))
        ids: list[int] = []
        raw: list[float] = []
        masked: list[float] = []
        margins: list[float | None] = []
        refusal, cache, given = 0.0, None, list(entry.ids)
        while not constraint.finished() and len(ids) < GOLDEN_TOKENS:
            with torch.inference_mode():
                found = model(torch.tensor([given]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = found.past_key_values
            # The sums over the vocabulary in double: they are compared with those of other runtimes.
            logits = found.logits[0, -1].double().numpy()
            allowed = np.flatnonzero(constraint.allowed())
            # The lowest id of equals, as everywhere.
            token = int(allowed[np.argmax(logits[allowed])])
            if not ids:
                refusal = _rounded(logits[rules.grammar.refusal_ids[0]] - _log_sum(logits))
            raw.append(_rounded(logits[token] - _log_sum(logits)))
            masked.append(_rounded(logits[token] - _log_sum(logits[allowed])))
            margins.append(_rounded(logits[token] - np.partition(logits[allowed], -2)[-2]) if len(allowed) > 1 else None)
            constraint.advance(token)
            ids.append(token)
            given = [token]
            if token in rules.contract.stop_ids:
                break
        return Decoded(tuple(ids), tuple(raw), tuple(masked), tuple(margins), refusal)

    return decode


def _log_sum(logits: NDArray[np.float64]) -> float:
    most = logits.max()
    return float(most + np.log(np.exp(logits - most).sum()))


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)
