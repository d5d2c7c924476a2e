"""The generator in the training framework, float32: what every exported format is compared with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from export.generator.cached import load_generator
from twinline.contract.answers.constraint import Constraint

Prompt: TypeAlias = Sequence[int]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One greedy answer: its ids, the stop id among them, and the log-probability of each among all tokens."""

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]


@dataclass(slots=True)
class GreedyAnswer:
    """One greedy answer under a mask, with what golden prompts keep of it; lists are of equal length but `first`.

    Args:
        ids: the stop id among them, where one was decoded.
        log_probabilities: among all tokens.
        masked_log_probabilities: among the allowed ones.
        margins: to the next best allowed token; None where one alone was allowed. Below a tolerance another machine may flip.
        first: log-probabilities of the asked ids at the first step.
    """

    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    masked_log_probabilities: list[float] = field(default_factory=list)
    margins: list[float | None] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


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
        answers = [self.answer(prompt, max_tokens, stop_ids) for prompt in prompts]
        return [Decoded(tuple(found.ids), tuple(found.log_probabilities)) for found in answers]

    def margin(self, before: Prompt, chosen: int, other: int) -> float:
        """Return by how much the log-probability of `chosen` exceeds that of `other` after the ids `before`."""
        with torch.inference_mode():
            logits = self._model(input_ids=torch.tensor([list(before)]), logits_to_keep=1).logits[0, -1]
        return float(logits[chosen] - logits[other])

    def answer(
        self,
        prompt: Prompt,
        max_tokens: int,
        stop_ids: frozenset[int],
        constraint: Constraint | None = None,
        first_ids: Sequence[int] = (),
    ) -> GreedyAnswer:
        """Return the greedy answer of a prompt under a constraint. It ends as the engine's does.

        Args:
            prompt: ids, one at least.
            max_tokens: the most; a stop id among them counts.
            stop_ids: ids that end the answer.
            constraint: of this answer alone; None: every token is allowed.
            first_ids: ids whose log-probability at the first step is told.
        """
        found = GreedyAnswer()
        new, cache = torch.tensor([list(prompt)]), None
        while True:
            with torch.inference_mode():
                step = self._model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, scores = step.past_key_values, torch.log_softmax(step.logits[0, -1], dim=-1)
            if not found.ids:
                found.first.extend(float(scores[one]) for one in first_ids)
            token = _take(found, scores, None if constraint is None else constraint.allowed())
            if constraint is not None:
                constraint.advance(token)
            is_over = token in stop_ids or (constraint is not None and constraint.finished())
            if is_over or len(found.ids) >= max_tokens:
                return found
            new = torch.tensor([[token]])


def _take(found: GreedyAnswer, scores: torch.Tensor, allowed: NDArray[np.bool_] | None) -> int:
    """Add the likeliest allowed token to an answer, and return it."""
    open_scores = scores if allowed is None else scores[torch.from_numpy(np.flatnonzero(allowed))]
    ids = range(len(scores)) if allowed is None else np.flatnonzero(allowed)
    place = int(open_scores.argmax())
    best = open_scores.topk(min(2, len(open_scores))).values
    found.ids.append(int(ids[place]))
    found.log_probabilities.append(float(open_scores[place]))
    found.masked_log_probabilities.append(float(torch.log_softmax(open_scores, dim=-1)[place]))
    found.margins.append(float(best[0] - best[1]) if len(best) > 1 else None)
    return found.ids[-1]
