"""Names of the generator's tensors in Triton: ids in; ids, log-probabilities and the end out."""

from typing import Final

INPUT_IDS: Final = "input_ids"
# What a request may choose, if its release lets it; the rest comes from the release.
MAX_TOKENS: Final = "max_tokens"
TEMPERATURE: Final = "temperature"
TOP_P: Final = "top_p"
TOP_K: Final = "top_k"
SEED: Final = "seed"
CHOICES: Final = (MAX_TOKENS, TEMPERATURE, TOP_P, TOP_K, SEED)
# What any request may say.
FIRST_IDS: Final = "first_ids"
PRIORITY: Final = "priority"
FIRST_TOKEN_MS: Final = "first_token_ms"  # noqa: S105
TOTAL_MS: Final = "total_ms"
STREAM: Final = "stream"

TOKEN_IDS: Final = "token_ids"  # noqa: S105
LOG_PROBABILITIES: Final = "log_probabilities"
MASKED_LOG_PROBABILITIES: Final = "masked_log_probabilities"
FIRST_LOG_PROBABILITIES: Final = "first_log_probabilities"
# With the last response alone; -1: no stop id ended the answer.
FINISH_REASON: Final = "finish_reason"
MESSAGE: Final = "message"
STOP_ID: Final = "stop_id"
STOP_LOG_PROBABILITIES: Final = "stop_log_probabilities"
CACHED_TOKENS: Final = "cached_tokens"
