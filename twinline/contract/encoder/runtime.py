"""The runtime of an exported encoder: padded ids in, vectors out."""

from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8"]
Backend: TypeAlias = Literal["onnxruntime", "openvino", "tensorrt"]


class Runtime(Protocol):
    """Padded ids and mask in, vectors out."""

    def __call__(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return `(batch, dimension)` vectors of two `(batch, length)` arrays."""
