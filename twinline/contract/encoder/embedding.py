"""The interface of an encoder, in this process or behind Triton."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twinline.contract.encoder.specification import Role


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of n texts `(n, dim)`, the tokenizer's count and truncation of each, and their space."""

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
            texts: `encoder_text` of chunks, or `query_text` of a query.
            role: decides the prefix of the texts.
            token_counts: of the texts, where the caller knows them: they put texts of similar length into one padded batch.

        Raises:
            TransientError: the encoder is away or busy.
            MismatchError: another encoder answered.
        """
