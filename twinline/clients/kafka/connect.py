"""Kafka: clients from the settings, the topics, offsets, and kafka-python's errors translated into ours."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    BrokerNotAvailableError,
    FencedInstanceIdError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumberError,
    RecordListTooLargeError,
    SaslAuthenticationFailedError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from twinline.clients.kafka.fetched import set_apart_unreadable
from twinline.clients.kafka.options import check_security, options_of, read_options
from twinline.clients.kafka.refusals import ExplainingClient, RefusedError
from twinline.clients.kafka.topic_order import check_order, read_configs
from twinline.clients.settings import Settings
from twinline.contract.errors import ContractError, DocumentError, SettingsError, TransientError

# The largest text, escaped for JSON, with its metadata.
MAX_MESSAGE_BYTES = 34 * 1024 * 1024
# A dead letter is the message with further headers.
MAX_DEAD_LETTER_BYTES = MAX_MESSAGE_BYTES + 64 * 1024
# A fetch of an embedded broker is as large as the backlog: it ignores the limit.
_MAX_RESPONSE_BYTES = 1024 * 1024 * 1024
_BOOTSTRAP_TIMEOUT_MS = 10_000
_KNOWN = {
    "Producer": KafkaProducer.DEFAULT_CONFIG,
    "Consumer": KafkaConsumer.DEFAULT_CONFIG,
    "AdminClient": KafkaAdminClient.DEFAULT_CONFIG,
}
_TOPIC_CONFIGS = {
    # Compaction would keep the last message of a key, not its highest version.
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    # A producer's clock must not decide which document is newer.
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(MAX_DEAD_LETTER_BYTES),
}


def make_producer(settings: Settings, **overrides: Any) -> KafkaProducer:
    """Return an idempotent producer that waits for all replicas. Errors of a send come from its future: use `kafka_errors`."""
    with kafka_errors(settings), _wrong_settings(settings):
        return KafkaProducer(
            **{
                "linger_ms": 5,
                **_connection(settings, _KNOWN["Producer"]),
                "max_request_size": MAX_MESSAGE_BYTES,
                "allow_auto_create_topics": False,
                **overrides,
            }
        )


def make_consumer(settings: Settings, group: str | None = None, **overrides: Any) -> KafkaConsumer:
    """Return a consumer that reads committed messages from the start and never commits by itself; not yet subscribed.

    Bytes of the log that cannot be read come as `twinline.clients.kafka.fetched.Unreadable` records.
    """
    with kafka_errors(settings), _wrong_settings(settings):
        consumer = KafkaConsumer(
            **{
                "max_partition_fetch_bytes": 8 * 1024 * 1024,
                **_connection(settings, _KNOWN["Consumer"]),
                "group_id": group,
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "isolation_level": "read_committed",
                "receive_message_max_bytes": _MAX_RESPONSE_BYTES,
                "allow_auto_create_topics": False,
                **overrides,
            }
        )
        return set_apart_unreadable(consumer)


def make_admin(settings: Settings) -> KafkaAdminClient:
    """Return an admin client; the caller closes it."""
    with kafka_errors(settings), _wrong_settings(settings):
        return KafkaAdminClient(**_connection(settings, _KNOWN["AdminClient"]))


def ensure_topics(settings: Settings) -> None:
    """Create the topic of documents and its companion topics where they do not exist.

    Raises:
        SettingsError: a topic exists, but cannot keep the order that TWINLINE_TOPIC_ORDER names.
        TransientError: no broker answers.
    """
    admin = make_admin(settings)
    try:
        with kafka_errors(settings):
            wanted = {
                settings.topic: settings.topic_partitions,
                # One partition each, so that their order is the order of time.
                **dict.fromkeys((settings.dead_letter_topic, settings.dead_letter_acts_topic, settings.erasure_topic), 1),
            }
            # The companion topics are ours alone.
            orders = {topic: settings.topic_order if topic == settings.topic else "log-time" for topic in wanted}
            for topic in sorted(set(wanted) & set(admin.list_topics())):
                check_order(topic, read_configs(admin, topic), orders[topic])
                del wanted[topic]
            for topic, partitions in wanted.items():
                _create_topic(admin, topic, partitions, orders[topic])
    finally:
        admin.close()


def beginning_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Return the first kept offset of each partition."""
    return _offsets(settings, topic, "beginning_offsets")


def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Return, for each partition, the offset of its next message.

    Raises:
        SettingsError: there is no such topic.
        TransientError: no broker answers.
    """
    return _offsets(settings, topic, "end_offsets")


def committed_offsets(settings: Settings, group: str, topic: str) -> dict[int, int]:
    """Return a group's committed offsets by partition; partitions without a commit are left out."""
    admin = make_admin(settings)
    try:
        with kafka_errors(settings):
            offsets: Mapping[Any, Any] = admin.list_group_offsets({group: None}).get(group, {})
    finally:
        admin.close()
    return {
        partition.partition: int(committed.offset)
        for partition, committed in offsets.items()
        if partition.topic == topic and committed.offset >= 0
    }


def unless_set(settings: Settings, **defaults: Any) -> dict[str, Any]:
    """Return our defaults, without the options in TWINLINE_KAFKA_OPTIONS."""
    chosen = read_options(settings.kafka_options.get_secret_value())
    return {name: value for name, value in defaults.items() if name not in chosen}


@contextmanager
def kafka_errors(settings: Settings) -> Iterator[None]:
    """Translate kafka-python's errors into ours, with the broker's address."""
    address = settings.kafka_address
    try:
        yield
    except (MessageSizeTooLargeError, RecordListTooLargeError) as exc:
        raise DocumentError(
            "too_large",
            f"Kafka at {address}: a message is larger than it takes ({exc}): split the document, or raise max.message.bytes",
        ) from exc
    except (AuthorizationError, SaslAuthenticationFailedError) as exc:
        raise SettingsError(
            f"Kafka at {address} refuses these credentials ({exc}): check TWINLINE_KAFKA_SASL_* and the ACLs"
        ) from exc
    except RefusedError as exc:
        raise SettingsError(f"Kafka at {address} refuses this connection: {exc.args[0]}") from exc
    except FencedInstanceIdError as exc:
        raise ContractError(
            f"Kafka at {address}: another consumer took over this one's place in the group: give each its own instance number"
        ) from exc
    except OutOfOrderSequenceNumberError as exc:
        raise TransientError(f"Kafka at {address} has forgotten this producer, as after a crash of the broker ({exc})") from exc
    except KafkaError as exc:
        # kafka-python calls it final, although the same call works once a broker is back.
        if exc.retriable or isinstance(exc, BrokerNotAvailableError):
            raise TransientError(
                f"no Kafka answers at {address}: start it (twinline up), or set KAFKA_BOOTSTRAP ({exc})"
            ) from exc
        raise ContractError(f"Kafka at {address}: {exc}") from exc


@contextmanager
def _wrong_settings(settings: Settings) -> Iterator[None]:
    """Translate the errors of the vendor's constructors about unusable values."""
    try:
        yield
    except (AssertionError, ImportError, OSError, TypeError, ValueError) as exc:
        raise SettingsError(
            f"no Kafka client for {settings.kafka_address} can be made of these settings ({type(exc).__name__}: {exc}): "
            "check TWINLINE_KAFKA_SSL_*, TWINLINE_KAFKA_SASL_* and TWINLINE_KAFKA_OPTIONS"
        ) from exc


def _connection(settings: Settings, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that all kinds of clients share; `known` is the kind's DEFAULT_CONFIG."""
    secrets = {
        "sasl_plain_password": settings.kafka_sasl_password,
        "ssl_password": settings.kafka_ssl_password,
    }
    paths = {
        "ssl_cafile": settings.kafka_ssl_cafile,
        "ssl_certfile": settings.kafka_ssl_certfile,
        "ssl_keyfile": settings.kafka_ssl_keyfile,
    }
    connection = {
        "bootstrap_servers": settings.kafka_address.split(","),
        "bootstrap_timeout_ms": _BOOTSTRAP_TIMEOUT_MS,
        "kafka_client": ExplainingClient,
        "reconnect_backoff_max_ms": 2_000,
        "security_protocol": settings.kafka_security_protocol,
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username,
        **{name: secret.get_secret_value() if secret else None for name, secret in secrets.items()},
        **{name: str(path) if path else None for name, path in paths.items()},
        **options_of(read_options(settings.kafka_options.get_secret_value()), known),
    }
    check_security(connection)
    return connection


def _create_topic(admin: KafkaAdminClient, topic: str, partitions: int, order: str) -> None:
    try:
        admin.create_topics(
            # -1: as many replicas as the cluster's default.
            {topic: {"num_partitions": partitions, "replication_factor": -1, "configs": _TOPIC_CONFIGS}},
            wait_for_metadata=True,
        )
    except TopicAlreadyExistsError:
        # Another process was quicker; its topic must pass the same checks.
        check_order(topic, read_configs(admin, topic), order)


def _offsets(settings: Settings, topic: str, which: str) -> dict[int, int]:
    consumer = make_consumer(settings)
    try:
        with kafka_errors(settings):
            partitions = consumer.partitions_for_topic(topic)
            if not partitions:
                raise UnknownTopicOrPartitionError(topic)
            found = getattr(consumer, which)([TopicPartition(topic, number) for number in sorted(partitions)])
    except TransientError as exc:
        if isinstance(exc.__cause__, UnknownTopicOrPartitionError):
            raise SettingsError(f"Kafka at {settings.kafka_address} has no topic {topic}: publish documents first") from exc
        raise
    finally:
        consumer.close()
    return {partition.partition: int(offset) for partition, offset in found.items()}
