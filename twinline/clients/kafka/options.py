"""`TWINLINE_KAFKA_OPTIONS`: any setting of kafka-python's clients that is not Twinline's own to decide, as one JSON object.

    {"sasl_mechanism": "SCRAM-SHA-512", "ssl_crlfile": "/etc/kafka/crl.pem", "ssl_check_hostname": true, "client_rack": "eu-1a"}

Values that are objects in Python (`OBJECTS`) are given as `module:name`, which is imported and called without arguments.
"""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from kafka.net.sasl import SASL_MECHANISMS

from twinline.contract.errors import SettingsError

VARIABLE: Final = "TWINLINE_KAFKA_OPTIONS"

# Options that decide whether a message is lost, doubled or misread; options of other settings; objects of a program.
OWN: Final = frozenset({
    "acks", "allow_auto_create_topics", "auto_commit_interval_ms", "auto_offset_reset", "bootstrap_servers",
    "consumer_timeout_ms", "default_offset_commit_callback", "enable_auto_commit", "enable_idempotence", "group_id",
    "group_instance_id",
    "isolation_level", "kafka_client", "key_deserializer", "key_serializer", "max_poll_interval_ms", "max_poll_records",
    "max_request_size", "metric_group_prefix", "metric_reporters", "partition_assignment_strategy", "partitioner",
    "receive_message_max_bytes", "selector", "transaction_timeout_ms", "transactional_id", "value_deserializer",
    "value_serializer",
})  # fmt: skip

OPEN: Final = frozenset({
    # identity and encryption
    "sasl_kerberos_domain_name", "sasl_kerberos_name", "sasl_kerberos_service_name", "sasl_mechanism",
    "sasl_oauth_token_provider", "sasl_plain_password", "sasl_plain_username", "security_protocol", "ssl_cafile",
    "ssl_certfile", "ssl_check_hostname", "ssl_ciphers", "ssl_context", "ssl_crlfile", "ssl_keyfile", "ssl_password",
    # connections
    "api_version", "bootstrap_timeout_ms", "client_dns_lookup", "client_id", "client_rack", "connections_max_idle_ms",
    "metadata_max_age_ms", "proxy_url", "receive_buffer_bytes", "reconnect_backoff_max_ms", "reconnect_backoff_ms",
    "request_timeout_ms", "retry_backoff_ms", "send_buffer_bytes", "socket_options", "socks5_proxy",
    # reading
    "check_crcs", "enable_incremental_fetch_sessions", "exclude_internal_topics", "fetch_max_bytes", "fetch_max_wait_ms",
    "fetch_min_bytes", "heartbeat_interval_ms", "max_in_flight_requests_per_connection", "max_partition_fetch_bytes",
    "session_timeout_ms",
    # writing
    "batch_size", "compression_type", "delivery_timeout_ms", "linger_ms", "max_block_ms", "retries",
    # measuring
    "metrics_enabled", "metrics_num_samples", "metrics_sample_window_ms",
})  # fmt: skip

OBJECTS: Final = frozenset({"sasl_oauth_token_provider", "ssl_context"})
_TUPLES: Final = frozenset({"api_version"})


def read_options(text: str) -> dict[str, Any]:
    """Return the options in a JSON text, ready for kafka-python; none for an empty text.

    Raises:
        SettingsError: it is no JSON object, a name is not known or not open, an object cannot be made.
    """
    if not text.strip():
        return {}
    try:
        options = json.loads(text)
    except ValueError as exc:
        # Without the text: it may hold a password.
        raise SettingsError(f"{VARIABLE} is not JSON: {exc}") from exc
    if not isinstance(options, dict):
        raise SettingsError(f"{VARIABLE} is {type(options).__name__}, must be a JSON object of names and values")
    for name in options:
        _check_name(name)
    return {name: _value(name, value) for name, value in options.items()}


def options_of(options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that one kind of client knows; `known` is its DEFAULT_CONFIG."""
    return {name: value for name, value in options.items() if name in known}


def check_security(given: Mapping[str, Any]) -> None:
    """Check security settings early: kafka-python checks them on connecting, and reports a broker that does not answer.

    Raises:
        SettingsError: a file is missing; a mechanism is unknown or needs a library that is not installed.
    """
    protocol, mechanism = given.get("security_protocol"), given.get("sasl_mechanism")
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile"):
        if given.get(name) and protocol in ("SSL", "SASL_SSL") and not Path(given[name]).is_file():
            raise SettingsError(f"Kafka: {name} is {given[name]!r}, where there is no file")
    if protocol not in ("SASL_PLAINTEXT", "SASL_SSL"):
        return
    if mechanism not in SASL_MECHANISMS:
        known = ", ".join(sorted(SASL_MECHANISMS))
        raise SettingsError(
            f"Kafka: sasl_mechanism is {mechanism!r}, kafka-python knows {known}: set TWINLINE_KAFKA_SASL_MECHANISM"
        )
    if mechanism == "GSSAPI" and find_spec("gssapi") is None:
        raise SettingsError("Kafka: sasl_mechanism GSSAPI needs the package gssapi: pip install gssapi")


def _check_name(name: str) -> None:
    if name in OWN:
        raise SettingsError(f"{VARIABLE} sets {name}, which Twinline decides or has another setting for: leave it out")
    if name not in OPEN:
        near = ", ".join(get_close_matches(name, OPEN, 3)) or ", ".join(sorted(OPEN))
        raise SettingsError(f"{VARIABLE} sets {name}, which kafka-python does not know: did you mean {near}?")


def _value(name: str, value: Any) -> Any:
    if name in _TUPLES and isinstance(value, list):
        return tuple(value)
    if name not in OBJECTS:
        return value
    module, _, attribute = str(value).partition(":")
    try:
        return getattr(import_module(module), attribute)()
    except (ImportError, AttributeError, ValueError, TypeError) as exc:
        raise SettingsError(
            f"{VARIABLE}: {name} is {value!r}, must be `module:name` of something that is called without arguments ({exc})"
        ) from exc
