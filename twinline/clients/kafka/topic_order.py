"""The order of a topic's states, chosen by `TWINLINE_TOPIC_ORDER`, and what the topic's own configuration does to them."""

from collections.abc import Mapping
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType

from twinline.clients.settings import Settings
from twinline.contract.errors import SettingsError

# In kafka-python's records: 0 where a producer's clock set the time, 1 where the log did.
LOG_APPEND_TIME: Final = 1
_MS_OF_A_DAY: Final = 24 * 60 * 60 * 1000


def append_ms(settings: Settings, record: Any) -> int:
    """Return the time at which the log appended a record, in ms; 0 where it keeps none, or where time decides nothing."""
    by_time = settings.topic_order == "log-time" and record.timestamp_type == LOG_APPEND_TIME
    return int(record.timestamp) if by_time else 0


def read_configs(admin: Any, topic: str) -> dict[str, str]:
    """Return the configuration of a topic, defaults too."""
    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    return {name: entry["value"] for name, entry in described["topic"][topic].items()}


def check_order(topic: str, configs: Mapping[str, str], order: str) -> None:
    """Refuse a topic that cannot keep the order of its states.

    Raises:
        SettingsError: it is compacted, or takes the time from producers; names the choices.
    """
    if "compact" in configs.get("cleanup.policy", "delete") and order != "offsets":
        raise SettingsError(
            f"topic {topic} is compacted, which keeps the last message of a key and not its highest version: "
            "set cleanup.policy=delete; or, where no message has a version, TWINLINE_TOPIC_ORDER=offsets; "
            "or name another topic in TWINLINE_TOPIC"
        )
    if configs.get("message.timestamp.type", "CreateTime") != "LogAppendTime" and order == "log-time":
        raise SettingsError(
            f"topic {topic} takes the time from its producers, whose clocks may disagree on what is newer: "
            "set message.timestamp.type=LogAppendTime on the topic (what lies in it is then ordered by its offsets); "
            "or TWINLINE_TOPIC_ORDER=offsets, where each key stays in one partition; "
            "or TWINLINE_TOPIC_ORDER=versions, where every message has a version; or name another topic in TWINLINE_TOPIC"
        )


def losses(topic: str, configs: Mapping[str, str]) -> list[str]:
    """Return what a topic's configuration will lose, in words, with the remedy; a rebuild of an index needs every message."""
    found = []
    remedy = "set it to -1, or take snapshots before (python -m etl ingest --source kafka: --store)"
    milliseconds, size = int(configs.get("retention.ms", "-1")), int(configs.get("retention.bytes", "-1"))
    if milliseconds >= 0:
        found.append(
            f"topic {topic} deletes messages after {milliseconds / _MS_OF_A_DAY:.3g} days (retention.ms={milliseconds}), "
            f"and an index built later lacks their documents: {remedy}"
        )
    if size >= 0:
        found.append(
            f"topic {topic} deletes the oldest messages beyond {size} bytes a partition (retention.bytes={size}), "
            f"and an index built later lacks their documents: {remedy}"
        )
    if "compact" in configs.get("cleanup.policy", "delete"):
        found.append(
            f"topic {topic} is compacted: earlier states of a document are gone for replays and traces, and of messages with "
            "versions the last one is kept, not the highest: set cleanup.policy=delete"
        )
    return found
