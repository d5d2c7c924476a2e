"""Blocks of keys and values: who holds which, which are free, and which hold the beginning of a known prompt.

Only full blocks of prompts are shared, so that a shared block is never written again and none is ever copied.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Digest: TypeAlias = bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """The blocks of one request, in order; the first `cached` hold keys and values already."""

    blocks: tuple[int, ...]
    cached: int


class BlockPool:
    """A fixed number of blocks; a block is free, held by requests, or kept because its content may be asked for again.

    Args:
        blocks: how many there are.
        size: ids in a block.
        shares: False: no block is kept for a later prompt.
    """

    def __init__(self, blocks: int, size: int, shares: bool = True) -> None:
        self.blocks, self.size, self._shares = blocks, size, shares
        self._free = list(range(blocks))[::-1]
        self._holders = [0] * blocks
        self._digests: dict[int, Digest] = {}
        self._known: dict[Digest, int] = {}
        # Blocks that nobody holds and whose content is known, least recently used first.
        self._kept: OrderedDict[int, None] = OrderedDict()

    @property
    def in_use(self) -> int:
        """Return how many blocks requests hold."""
        return self.blocks - self.available

    @property
    def available(self) -> int:
        """Return how many blocks may be taken, those kept for later prompts among them."""
        return len(self._free) + len(self._kept)

    def needed(self, tokens: int) -> int:
        """Return how many blocks hold so many tokens."""
        return -(-tokens // self.size)

    def take(self, digests: Sequence[Digest], tokens: int) -> Taken | None:
        """Give a request all blocks that it will ever need, or None while they are not there.

        Args:
            digests: of the full blocks of its prompt that may come from the cache, in order.
            tokens: of prompt and answer together.
        """
        cached = self._match(digests)
        fresh = self.needed(tokens) - len(cached)
        # Kept blocks that are reused are no longer there to be evicted.
        reused = sum(1 for block in cached if not self._holders[block])
        if fresh > self.available - reused:
            return None
        for block in cached:
            self._hold(block)
        blocks = (*cached, *(self._fresh() for _ in range(fresh)))
        return Taken(blocks, len(cached))

    def know(self, block: int, digest: Digest) -> None:
        """Note that a held block is full of the prompt that `digest` stands for; equal content of another block stays first."""
        if self._shares and digest not in self._known and block not in self._digests:
            self._known[digest] = block
            self._digests[block] = digest

    def give_back(self, taken: Taken) -> None:
        """Take back the blocks of a request that ended; known ones are kept, the beginning of a prompt longest."""
        for block in reversed(taken.blocks):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if block in self._digests:
                self._kept[block] = None
            else:
                self._free.append(block)

    def holders(self, block: int) -> int:
        """Return how many requests hold a block."""
        return self._holders[block]

    def _match(self, digests: Sequence[Digest]) -> list[int]:
        found: list[int] = []
        for digest in digests:
            block = self._known.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def _hold(self, block: int) -> None:
        self._kept.pop(block, None)
        self._holders[block] += 1

    def _fresh(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._kept.popitem(last=False)
            del self._known[self._digests.pop(block)]
        self._holders[block] += 1
        return block


def chain(ids: Sequence[int], size: int) -> tuple[Digest, ...]:
    """Return a digest for each full block of ids, which stands for the block and all before it."""
    digests: list[Digest] = []
    before = b""
    whole = np.asarray(ids[: len(ids) - len(ids) % size], dtype="<i8").reshape(-1, size)
    for block in whole:
        before = hashlib.sha256(before + block.tobytes()).digest()
        digests.append(before)
    return tuple(digests)
