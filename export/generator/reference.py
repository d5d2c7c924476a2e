"""The generator in the training framework, float32: what every exported format is compared with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from export.generator.cached import load_generator

Prompt: TypeAlias = Sequence[int]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One greedy answer: its ids, the stop id among them, and the log-probability of each among all tokens."""

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]


# Prompts, the most tokens, stop ids; the answers in order.
Decode: TypeAlias = Callable[[Sequence[Prompt], int, frozenset[int]], Sequence[Decoded]]


class ReferenceGenerator:
    """A causal language model of a folder, by transformers' own code for masks and caches."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    def load(cls, folder: Path) -> "ReferenceGenerator":
        """Open the model of a folder.

        Raises:
            ContractError: the folder holds no generator.
        """
        return cls(load_generator(folder))

    def decode(self, prompts: Sequence[Prompt], max_tokens: int, stop_ids: frozenset[int]) -> list[Decoded]:
        """Return the greedy answer of each prompt, alone."""
        return [self._answer(prompt, max_tokens, stop_ids) for prompt in prompts]

    def margin(self, before: Prompt, chosen: int, other: int) -> float:
        """Return by how much the log-probability of `chosen` exceeds that of `other` after the ids `before`."""
        with torch.inference_mode():
            logits = self._model(input_ids=torch.tensor([list(before)]), logits_to_keep=1).logits[0, -1]
        return float(logits[chosen] - logits[other])

    def _answer(self, prompt: Prompt, max_tokens: int, stop_ids: frozenset[int]) -> Decoded:
        ids: list[int] = []
        found: list[float] = []
        new, cache = torch.tensor([list(prompt)]), None
        with torch.inference_mode():
            while len(ids) < max_tokens and not (ids and ids[-1] in stop_ids):
                step = self._model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache, logits = step.past_key_values, step.logits[0, -1]
                ids.append(int(logits.argmax()))
                found.append(float(torch.log_softmax(logits, dim=-1)[ids[-1]]))
                new = torch.tensor([[ids[-1]]])
        return Decoded(tuple(ids), tuple(found))
