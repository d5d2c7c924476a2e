"""How much the consumer takes at a time; deployment settings, `TWINLINE_CONSUMER_` and the name in capitals."""

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.errors import SettingsError


class ConsumerLimits(BaseSettings):
    """Small pieces: a query that arrives while documents are embedded waits for one piece, not for a batch."""

    model_config = SettingsConfigDict(env_prefix="TWINLINE_CONSUMER_", frozen=True, extra="ignore")

    max_messages: int = Field(default=64, ge=1, description="messages of one batch")
    texts_per_request: int = Field(default=8, ge=1, description="texts that go to the encoder at once")
    commit_interval_seconds: float = Field(default=1.0, ge=0, description="at most this long between flush and commit")
    longest_wait_seconds: float = Field(default=20.0, gt=0, description="longest pause between attempts")
    max_batch_seconds: int = Field(default=900, ge=10, description="after this long in one batch the group gives up on us")
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
