"""The consumer's limits: deployment settings, each `TWINLINE_CONSUMER_` and its name in capitals."""

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from twinline.contract.errors import SettingsError


class ConsumerLimits(BaseSettings):
    """Small pieces: a query that arrives while documents are embedded waits for one piece, and not for a batch.

    A consumer's memory is bounded with any backlog. It holds one fetch of each partition, as kafka-python keeps it
    (`max_partition_fetch_bytes`, 8 MiB; a broker that ignores it sends its whole backlog). It holds the messages in flight (two
    batches, or 16 MiB, plus two polls), and the chunks and vectors of four portions or larger documents. The contract limits a
    document to 16 MiB of text.
    """

    model_config = SettingsConfigDict(env_prefix="TWINLINE_CONSUMER_", frozen=True, extra="ignore")

    max_messages: int = Field(default=256, ge=1, description="messages of one batch")
    portion_seconds: float = Field(default=2.0, gt=0, description="how long one portion, embedded and written together, may take")
    max_portion_messages: int = Field(default=128, ge=1, description="messages of one portion, at most")
    max_portion_bytes: int = Field(
        default=1024 * 1024, ge=1, description="bytes of one portion, at most; a larger message is alone"
    )
    small_message_bytes: int = Field(
        default=4096, ge=0, description="messages up to this size pass larger ones of other documents that are in flight"
    )
    look_ahead: bool = Field(default=True, description="prefetch: cut and embed the next two portions while one is written")
    points_per_write: int = Field(default=128, ge=1, description="points of one request to the store")
    vector_cache_mib: int = Field(
        default=256, ge=0, description="size of the file of a release's known vectors, which equal texts take; 0: none"
    )
    texts_per_request: int = Field(default=64, ge=1, description="texts of one request to the encoder, at most")
    commit_interval_seconds: float = Field(default=1.0, ge=0, description="at most this long between flush and commit")
    longest_wait_seconds: float = Field(default=5.0, gt=0, description="longest pause between attempts")
    max_batch_seconds: int = Field(
        default=300, ge=3, description="the group drops a member after this long without a poll; a long batch sends heartbeats"
    )
    handover_seconds: float = Field(
        default=2.0, ge=0, description="how long the batch in flight may delay a rebalance, before it is left to the next owner"
    )
    drain_seconds: float = Field(
        default=20.0,
        ge=0,
        description="how long the batch in flight continues after SIGTERM, then it is left to the next start",
    )
    metrics_port: int = Field(default=0, ge=0, le=65535, description="port of /metrics of a separate consumer; 0: none")
    instance: int = Field(default=0, ge=0, description="number of this consumer in its group, when there are several")


def load_limits() -> ConsumerLimits:
    """Read the limits from the environment; raise SettingsError naming the variable that is wrong."""
    try:
        return ConsumerLimits()
    except ValidationError as exc:
        problems = "; ".join(
            f"TWINLINE_CONSUMER_{str(error['loc'][0]).upper()} is {error['input']!r}: {error['msg']}"
            for error in exc.errors(include_url=False)
        )
        raise SettingsError(f"environment: {problems}") from exc
