"""Models that cost nothing, for tests of the engine around them: the next token follows from the ids that stand in the blocks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from triton_models.generator.engine.model import Row

VOCABULARY = 50
STOP = 1


def next_token(ids: Sequence[int]) -> int:
    """Return the token that a pretended model gives after some ids: all of them decide, in their order; never the stop id."""
    found = 7
    for place, one in enumerate(ids):
        found = (found * 31 + one * (place + 1)) % 1009
    return 2 + found % (VOCABULARY - 2)


def answer(prompt: Sequence[int], tokens: int) -> tuple[int, ...]:
    """Return the answer of the pretended model to a prompt, alone."""
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(next_token(ids))
    return tuple(ids[len(prompt) :])


class PretendedModel:
    """Keeps ids in blocks as a real model keeps keys and values: whatever is written over or never written changes the answer."""

    def __init__(self, blocks: int = 16, block_size: int = 4, most_positions: int = 64) -> None:
        self.blocks, self.block_size, self.most_positions, self.vocabulary = blocks, block_size, most_positions, VOCABULARY
        self.memory = np.full((blocks, block_size), -1, np.int64)
        self.steps: list[list[Row]] = []
        self.poison: set[int] = set()

    def step(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        if any(self.poison & set(row.ids) for row in rows):
            raise RuntimeError("poisoned")
        self.steps.append(list(rows))
        for row in rows:
            for place, one in enumerate(row.ids, start=row.past):
                self.memory[row.blocks[place // self.block_size], place % self.block_size] = one
        found = []
        for row in rows:
            if not row.wanted:
                continue
            length = row.past + len(row.ids)
            held = [int(self.memory[row.blocks[place // self.block_size], place % self.block_size]) for place in range(length)]
            logits = np.linspace(0, 1, VOCABULARY, dtype=np.float32)
            logits[next_token(held)] = 9
            found.append(logits)
        return np.array(found, np.float32).reshape(len(found), VOCABULARY)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
