"""Names of the tensors that cross a process: the exported graph's, and those of the served `embed` model."""

from typing import Final

# the exported graph, in every format; int64 (batch, length) in, float32 (batch, dimension) out
INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
SENTENCE_EMBEDDING: Final = "sentence_embedding"

# the ensemble: BYTES (batch, 1) in
TEXT: Final = "TEXT"
ROLE: Final = "ROLE"
# FP32 (batch, dimension), INT32, BOOL and BYTES (batch, 1) out
EMBEDDING: Final = "EMBEDDING"
TOKEN_COUNT: Final = "TOKEN_COUNT"  # noqa: S105  (a tensor, no password)
TRUNCATED: Final = "TRUNCATED"
SPACE: Final = "SPACE"


def served_length(longest: int, buckets: tuple[int, ...] | list[int]) -> int:
    """Return the padded length of a batch: the shortest bucket that holds its longest text.

    A few fixed lengths let Triton merge requests: it merges only equal shapes.
    """
    return next((bucket for bucket in sorted(buckets) if bucket >= longest), longest)
