"""An encoder as an exported file runs it: padded ids in, vectors out."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Runtime(Protocol):
    """Padded ids and mask in, vectors out."""

    def __call__(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return `(batch, dimension)` vectors of two `(batch, length)` arrays."""
