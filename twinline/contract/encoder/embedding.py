"""What an encoder looks like from outside, whether it runs in this process or behind Triton."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twinline.contract.encoder.specification import Role


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of n texts `(n, dim)`, what the tokenizer said of each, and the space they live in."""

    vectors: NDArray[np.float32]
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    space: str


class Embedder(Protocol):
    """Texts and a role in, vectors out; role prefixes are applied inside."""

    @property
    def space(self) -> str:
        """Return the identity of the encoder."""

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        """Return one vector a text.

        Args:
            texts: what `encoder_text` of chunks, or `query_text` of a query, is.
            role: whose prefix is put before each.
            token_counts: of the texts, where the caller knows them: whoever pads puts texts of like length together by them.

        Raises:
            TransientError: the encoder is away or busy.
            MismatchError: the encoder is not the one that was asked for.
        """
