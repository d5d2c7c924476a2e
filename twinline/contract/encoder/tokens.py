"""Tokens: the contract's own `tokenizer.json` run by one Rust implementation, with role prefixes and truncation counted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from twinline.contract.encoder.limits import MAX_ENCODED_CHARS
from twinline.contract.encoder.specification import Role, VectorContract
from twinline.contract.errors import ContractError


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of n texts, special tokens included, after truncation; not padded."""

    token_ids: list[list[int]]
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]

    def padded(self, length: int | None = None, pad_id: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return `(input_ids, attention_mask)`, each `(n, length)`; by default the length of the longest text.

        Raises:
            ContractError: a text is longer than `length`.
        """
        longest = int(self.token_counts.max(initial=1))
        length = longest if length is None else length
        if longest > length:
            raise ContractError(f"a text has {longest} tokens, the padded length is {length}: choose a longer bucket")
        input_ids = np.full((len(self.token_ids), length), pad_id, dtype=np.int64)
        attention_mask = np.zeros((len(self.token_ids), length), dtype=np.int64)
        for row, ids in enumerate(self.token_ids):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        return input_ids, attention_mask


class TokenEncoder:
    """Texts and a role in, token ids out."""

    def __init__(self, vector: VectorContract, tokenizer_json: bytes) -> None:
        self._vector = vector
        self._tokenizer = Tokenizer.from_str(tokenizer_json.decode())
        self.pad_id = _pad_id(self._tokenizer)

    def encode(self, texts: Sequence[str], role: Role) -> Encoded:
        """Tokenise texts; the role's prefix is put before each of them here and nowhere else."""
        prefix = self._vector.prefix(role)
        encodings = self._tokenizer.encode_batch([prefix + text[:MAX_ENCODED_CHARS] for text in texts])
        is_cut = [len(text) > MAX_ENCODED_CHARS for text in texts]
        return Encoded(
            token_ids=[encoding.ids for encoding in encodings],
            token_counts=np.array([len(encoding.ids) for encoding in encodings], dtype=np.int32),
            truncated=np.array([bool(encoding.overflowing) for encoding in encodings], dtype=np.bool_) | is_cut,
        )


def _pad_id(tokenizer: Tokenizer) -> int:
    for name in ("[PAD]", "<pad>", "<|endoftext|>", "</s>"):
        found = tokenizer.token_to_id(name)
        if found is not None:
            return int(found)
    # Padding is masked out of attention and pooling, so any id gives the same vector; 0 exists in every vocabulary.
    return 0
