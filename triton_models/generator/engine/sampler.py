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
        masked, among = logits, whole
        if allowed is not None:
            masked = _masked(logits, allowed)
            among = _log_sum(masked)
            if not np.isfinite(among):
                raise ContractError("the model holds every allowed token for impossible: check the release's weights")
        token = int(masked.argmax()) if self._random is None else self._draw(masked, self._random)
        first = self.decoding.first_ids if is_first else ()
        return Token(
            token,
            float(logits[token] - whole),
            float(masked[token] - among),
            tuple(float(logits[one] - whole) for one in first),
        )

    def _draw(self, logits: NDArray[np.float32], random: np.random.Generator) -> int:
        below = logits.astype(np.float64) - float(logits.max())
        # Near temperature 0 all but the likeliest are infinitely far below.
        with np.errstate(over="ignore"):
            weights = np.exp(below / self.decoding.temperature)
        # Stable: ids of equal weight keep their order on every machine.
        order = np.argsort(-weights, kind="stable")
        sums = np.cumsum(weights[order] / weights.sum())
        # The likeliest token is always in; the last one is the first to reach the sum.
        count = min(int(np.searchsorted(sums, self.decoding.top_p)) + 1, int(np.count_nonzero(weights)))
        count = min(count, self.decoding.top_k or count)
        drawn = random.random() * sums[count - 1]
        return int(order[min(int(np.searchsorted(sums[:count], drawn, side="right")), count - 1)])


def _masked(logits: NDArray[np.float32], allowed: NDArray[np.bool_]) -> NDArray[np.float32]:
    if allowed.dtype != np.bool_ or allowed.shape != logits.shape:
        raise ContractError(
            f"the constraint's mask is {allowed.dtype} of shape {allowed.shape}, the vocabulary needs bool of {logits.shape}: "
            "build it for this release's tokenizer"
        )
    if not allowed.any():
        raise ContractError("the constraint allows no token: a grammar must leave a stop id or another token open")
    return np.where(allowed, logits, np.float32(-np.inf))


def _log_sum(logits: NDArray[np.float32]) -> float:
    most = float(logits.max())
    if not np.isfinite(most):
        return most
    return most + float(np.log(np.exp(logits - np.float32(most)).sum(dtype=np.float64)))
