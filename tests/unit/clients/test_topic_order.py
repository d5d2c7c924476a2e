"""Which topics can be adopted, in which order, and what their configuration will lose."""

from types import SimpleNamespace

import pytest

from twinline.clients.kafka.topic_order import append_ms, check_order, losses
from twinline.clients.settings import Settings, load_settings
from twinline.contract.errors import SettingsError

LOG_TIME = {"message.timestamp.type": "LogAppendTime"}
# A topic that an ordinary producer made, with a broker's defaults.
ORDINARY = {"message.timestamp.type": "CreateTime", "retention.ms": "604800000", "cleanup.policy": "delete"}
COMPACTED = {**ORDINARY, "cleanup.policy": "compact"}


@pytest.mark.parametrize(
    ("configs", "order", "refused"),
    [
        (LOG_TIME, "log-time", ""),
        (LOG_TIME, "versions", ""),
        (LOG_TIME, "offsets", ""),
        (ORDINARY, "log-time", r"LogAppendTime.*TWINLINE_TOPIC_ORDER=offsets.*TWINLINE_TOPIC_ORDER=versions"),
        (ORDINARY, "versions", ""),
        (ORDINARY, "offsets", ""),
        ({}, "log-time", "takes the time from its producers"),
        ({}, "versions", ""),
        (COMPACTED, "log-time", "compacted"),
        (COMPACTED, "versions", r"compacted.*cleanup\.policy=delete"),
        (COMPACTED, "offsets", ""),
        ({**LOG_TIME, "cleanup.policy": "compact,delete"}, "log-time", "compacted"),
        ({**LOG_TIME, "cleanup.policy": "delete,compact"}, "versions", "compacted"),
    ],
)
def test_a_topic_is_adopted_in_an_order_that_it_can_keep(configs: dict[str, str], order: str, refused: str) -> None:
    if not refused:
        check_order("mydocs", configs, order)
        return
    with pytest.raises(SettingsError, match=f"topic mydocs.*{refused}"):
        check_order("mydocs", configs, order)


@pytest.mark.parametrize(
    ("configs", "said"),
    [
        ({}, []),
        ({"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}, []),
        (ORDINARY, ["after 7 days"]),
        ({"retention.ms": "3600000"}, [r"after 0.0417 days"]),
        ({"retention.ms": "0"}, ["after 0 days"]),
        ({"retention.bytes": "1000000"}, ["beyond 1000000 bytes"]),
        ({"retention.ms": "-1", "retention.bytes": "0"}, ["beyond 0 bytes"]),
        ({"retention.ms": "86400000", "retention.bytes": "5"}, ["after 1 days", "beyond 5 bytes"]),
        ({"cleanup.policy": "compact"}, ["is compacted"]),
        (COMPACTED, ["after 7 days", "is compacted"]),
        ({**COMPACTED, "cleanup.policy": "compact,delete", "retention.ms": "-1"}, ["is compacted"]),
    ],
)
def test_what_a_topic_will_lose_is_named_before(configs: dict[str, str], said: list[str]) -> None:
    found = losses("mydocs", configs)
    assert len(found) == len(said)
    assert all(part in text and "topic mydocs" in text for part, text in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("order", "kind", "expected"), [("log-time", 1, 77), ("log-time", 0, 0), ("offsets", 1, 0), ("versions", 1, 0)]
)
def test_only_the_logs_own_time_counts(order: str, kind: int, expected: int) -> None:
    settings = Settings(topic_order=order)  # type: ignore[arg-type]
    assert append_ms(settings, SimpleNamespace(timestamp=77, timestamp_type=kind)) == expected


def test_an_order_that_there_is_not_is_refused_with_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINLINE_TOPIC_ORDER", "arrival")
    with pytest.raises(SettingsError, match=r"TWINLINE_TOPIC_ORDER is 'arrival'.*'log-time', 'versions' or 'offsets'"):
        load_settings()
