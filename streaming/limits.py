"""How much the consumer takes at a time; deployment settings, `TWINLINE_CONSUMER_` and the name in capitals."""

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from twinline.contract.errors import SettingsError


class ConsumerLimits(BaseSettings):
    """Small pieces: a query that arrives while documents are embedded waits for one piece, not for a batch.

    What a consumer holds is bounded by these, whatever the backlog: one fetch of each partition as kafka-python keeps it
    (`max_partition_fetch_bytes`, 8 MiB; a broker that ignores it sends its whole backlog), the messages in hand (two batches, or
    16 MiB, and what two polls bring on top), and of four portions, or larger documents, the chunks and vectors. The largest
    document is the contract's to say (16 MiB of text).
    """

    model_config = SettingsConfigDict(env_prefix="TWINLINE_CONSUMER_", frozen=True, extra="ignore")

    max_messages: int = Field(default=256, ge=1, description="messages of one batch")
    portion_seconds: float = Field(default=2.0, gt=0, description="how long what is embedded and written together may take")
    max_portion_messages: int = Field(default=128, ge=1, description="messages that are embedded and written together, at most")
    max_portion_bytes: int = Field(
        default=1024 * 1024, ge=1, description="bytes of messages that are embedded and written together; a larger one alone"
    )
    small_message_bytes: int = Field(
        default=4096, ge=0, description="messages up to this size go past larger ones of other documents that are in hand"
    )
    look_ahead: bool = Field(default=True, description="cut and embed the next two portions while one is written")
    points_per_write: int = Field(default=128, ge=1, description="points that go to the store, or come from it, at once")
    texts_per_request: int = Field(default=64, ge=1, description="texts that go to the encoder at once, at most")
    commit_interval_seconds: float = Field(default=1.0, ge=0, description="at most this long between flush and commit")
    longest_wait_seconds: float = Field(default=5.0, gt=0, description="longest pause between attempts")
    max_batch_seconds: int = Field(
        default=300, ge=3, description="after this long without a sign of life the group gives up on us; a long batch gives signs"
    )
    handover_seconds: float = Field(
        default=2.0, ge=0, description="how long a batch in hand may hold up a rebalance, before it is left to the next owner"
    )
    drain_seconds: float = Field(
        default=20.0, ge=0, description="how long a batch in hand is worked on after SIGTERM, then it is left for the next start"
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
