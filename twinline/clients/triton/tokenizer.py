"""A release's tokenizer model in Triton, asked directly: the token ids that the served encoder reads."""

from collections.abc import Sequence
from typing import Final, Self

import numpy as np

from twinline.clients.triton.transport import Transport, TransportName, addresses, open_transport
from twinline.contract.encoder import tensors
from twinline.contract.encoder.specification import Role

_OUTPUTS: Final = (tensors.INPUT_IDS, tensors.ATTENTION_MASK)
# Below queries: only measurements call this model directly.
_PRIORITY: Final = 2
_TIMEOUT_SECONDS: Final = 30.0


class TritonTokenizer:
    """Texts and a role in, token ids out, padding taken off."""

    def __init__(self, url: str, model: str, protocol: TransportName = "grpc") -> None:
        """Connect lazily to `host:port`, the first one of a list; `model` is the name of a tokenizer model."""
        self._model = model
        self._transport: Transport = open_transport(addresses(url)[0], protocol, _TIMEOUT_SECONDS)

    def token_ids(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Return the ids of each text, special tokens included, as one request gives them.

        Raises:
            TransientError: Triton is away, busy, or has not loaded the model.
            ContractError: Triton refuses the request, for example more texts than the model's largest batch.
        """
        column = np.array([text.encode() for text in texts], dtype=np.object_)[:, None]
        roles = np.full(column.shape, role.encode(), dtype=np.object_)
        found = self._transport.infer(self._model, {tensors.TEXT: column, tensors.ROLE: roles}, _OUTPUTS, _PRIORITY)
        pairs = zip(found[tensors.INPUT_IDS], found[tensors.ATTENTION_MASK], strict=True)
        return [[int(token) for token in ids[mask == 1]] for ids, mask in pairs]

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
