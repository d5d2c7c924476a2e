"""The log that a collection or a snapshot belongs to, as both record it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from twinline.contract.canonical import JSON
from twinline.contract.errors import MismatchError


@dataclass(frozen=True, slots=True)
class LogRecord:
    """The log that a collection belongs to: its versions are places in this log, and mean nothing in another.

    Args:
        cluster: id of the Kafka cluster; of the embedded broker, that of its data folder.
        topic_id: id of the topic, which changes when it is made again; empty where the broker has none.
        order: what tells which state without a version is newer.
        partitions: how many the topic had.
        mark: a message by partition, offset and append time in ms, instead of a topic id; None while there is none.
    """

    cluster: str
    topic: str
    topic_id: str
    order: Literal["log-time", "versions", "offsets"]
    partitions: int
    mark: tuple[int, int, int] | None = None

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return {**asdict(self), "mark": list(self.mark) if self.mark else None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], place: str) -> Self:
        """Read the JSON form; raise MismatchError for any other."""
        try:
            mark = value["mark"]
            return cls(**{**value, "mark": tuple(mark) if mark else None})
        except (TypeError, KeyError) as exc:
            raise MismatchError(f"{place} says {dict(value)} of its log, which this version cannot read: build it again") from exc
