"""From the logits of one row to its next token, with both log-probabilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triton_models.generator.engine.requests import Decoding, Token
from twinline.contract.errors import ContractError


@dataclass(slots=True)
class Sampler:
    """The choice of one request, with its own random numbers."""

    decoding: Decoding
    _random: np.random.Generator | None = None

    def __post_init__(self) -> None:
        if self.decoding.temperature > 0:
            self._random = np.random.Generator(np.random.PCG64(self.decoding.seed))

    def choose(self, logits: NDArray[np.float32], allowed: NDArray[np.bool_] | None, is_first: bool) -> Token:
        """Return the next token.

        Args:
            logits: `(vocabulary,)`.
            allowed: `(vocabulary,)`; None: all.
            is_first: whether this is the answer's first token.

        Raises:
            ContractError: the logits hold no number, or the mask is of another form or allows nothing.
        """
        whole = _log_sum(logits)
        if not np.isfinite(whole):
            raise ContractError(f"the model gave logits whose sum is {whole}: check the release's weights, or serve it in fp32")
        # Only what is allowed is looked at: a quote leaves a handful of tokens.
        ids = None if allowed is None else _ids(logits, allowed)
        among = logits if ids is None else logits[ids]
        masked = whole if ids is None else _log_sum(among)
        if not np.isfinite(masked):
            raise ContractError("the model holds every allowed token for impossible: check the release's weights")
        place = int(among.argmax()) if self._random is None else self._draw(among, self._random)
        token = place if ids is None else int(ids[place])
        first = self.decoding.first_ids if is_first else ()
        return Token(
            token,
            float(logits[token] - whole),
            float(logits[token] - masked),
            tuple(float(logits[one] - whole) for one in first),
        )

    def _draw(self, logits: NDArray[np.float32], random: np.random.Generator) -> int:
        """Return the place of a drawn token."""
        top_p, top_k = self.decoding.top_p, self.decoding.top_k
        below = logits.astype(np.float64) - float(logits.max())
        # Near temperature 0 all but the likeliest are infinitely far below.
        with np.errstate(over="ignore"):
            weights = np.exp(below / self.decoding.temperature)
        weights /= weights.sum()
        places = np.flatnonzero(weights > 0)
        if top_p < 1 or top_k:
            # Those left out here are together less than what `top_p` leaves out.
            places = places[weights[places] >= (1 - top_p) / len(weights)]
            # Stable: ids of equal weight keep their order on every machine.
            places = places[np.argsort(-weights[places], kind="stable")]
            # The last one is the first to reach the sum.
            count = min(int(np.searchsorted(np.cumsum(weights[places]), top_p)) + 1, top_k or len(places))
            places = places[:count]
        sums = np.cumsum(weights[places])
        drawn = int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
        return int(places[min(drawn, len(places) - 1)])


def _ids(logits: NDArray[np.float32], allowed: NDArray[np.bool_]) -> NDArray[np.intp]:
    if allowed.dtype != np.bool_ or allowed.shape != logits.shape:
        raise ContractError(
            f"the constraint's mask is {allowed.dtype} of shape {allowed.shape}, the vocabulary needs bool of {logits.shape}: "
            "build it for this release's tokenizer"
        )
    ids = np.flatnonzero(allowed)
    if not len(ids):
        raise ContractError("the constraint allows no token: a grammar must leave a stop id or another token open")
    return ids


def _log_sum(logits: NDArray[np.float32]) -> float:
    most = float(logits.max())
    if not np.isfinite(most):
        return most
    return most + float(np.log(np.exp(logits - np.float32(most)).sum(dtype=np.float64)))
