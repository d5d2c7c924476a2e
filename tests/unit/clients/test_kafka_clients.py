from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from kafka import errors
from pydantic import SecretStr

import twinline.clients.kafka.connect
from twinline.clients.kafka.connect import kafka_errors, make_admin, make_consumer, make_producer
from twinline.clients.settings import Settings
from twinline.contract.errors import ContractError, DocumentError, SettingsError, TransientError, TwinlineError

SETTINGS = Settings(kafka_bootstrap="broker.example:9092")


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a vendor client was made with."""
    seen: dict[str, Any] = {}
    for name in ("KafkaProducer", "KafkaConsumer", "KafkaAdminClient"):
        monkeypatch.setattr(twinline.clients.kafka.connect, name, lambda **options: seen.update(options) or MagicMock())
    return seen


@pytest.mark.parametrize("make", [make_producer, make_consumer, make_admin])
def test_every_security_setting_reaches_every_client(make: Any, given: dict[str, Any], tmp_path: Path) -> None:
    ca, certificate, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    for file in (ca, certificate, key):
        file.touch()
    make(
        Settings(
            kafka_bootstrap="one:9092,two:9092",
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism="SCRAM-SHA-512",
            kafka_sasl_username="user",
            kafka_sasl_password=SecretStr("word"),
            kafka_ssl_cafile=ca,
            kafka_ssl_certfile=certificate,
            kafka_ssl_keyfile=key,
            kafka_ssl_password=SecretStr("pass"),
        )
    )
    expected = {
        "bootstrap_servers": ["one:9092", "two:9092"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "user",
        "sasl_plain_password": "word",
        "ssl_cafile": str(ca),
        "ssl_certfile": str(certificate),
        "ssl_keyfile": str(key),
        "ssl_password": "pass",
    }
    assert {name: given[name] for name in expected} == expected


def test_a_consumer_commits_nothing_by_itself_and_starts_at_the_beginning(given: dict[str, Any]) -> None:
    make_consumer(SETTINGS, "group", group_instance_id="group-0")
    wanted = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "isolation_level": "read_committed"}
    assert {name: given[name] for name in wanted} == wanted
    assert (given["group_id"], given["group_instance_id"]) == ("group", "group-0")


@pytest.mark.parametrize(
    ("vendor", "ours"),
    [
        (errors.KafkaTimeoutError("no bootstrap"), TransientError),
        (errors.NotLeaderForPartitionError(), TransientError),
        (errors.BrokerNotAvailableError(), TransientError),  # final to kafka-python; a restart cures it
        (errors.OutOfOrderSequenceNumberError(), TransientError),  # after a crash of the broker
        (errors.MessageSizeTooLargeError(), DocumentError),
        (errors.SaslAuthenticationFailedError(), SettingsError),
        (errors.TopicAuthorizationFailedError(), SettingsError),
        (errors.FencedInstanceIdError(), ContractError),
        (errors.InvalidTopicError(), ContractError),
    ],
)
def test_errors_become_ours_and_name_the_broker(vendor: Exception, ours: type[TwinlineError]) -> None:
    with pytest.raises(ours, match=r"broker\.example:9092") as caught, kafka_errors(SETTINGS):
        raise vendor
    assert caught.value.__cause__ is vendor


def test_a_broker_that_is_not_there_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twinline.clients.kafka.connect, "_BOOTSTRAP_TIMEOUT_MS", 300)

    def refuse(**options: Any) -> None:
        raise errors.KafkaTimeoutError("Unable to bootstrap")

    monkeypatch.setattr(twinline.clients.kafka.connect, "KafkaConsumer", refuse)
    with pytest.raises(TransientError, match=r"no Kafka answers at 127\.0\.0\.1:20198.*twinline up.*KAFKA_BOOTSTRAP"):
        twinline.clients.kafka.connect.end_offsets(Settings(kafka_port=20198), "documents")
