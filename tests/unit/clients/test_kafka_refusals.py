"""A broker that refuses a connection for good is told with the setting to change, one that is away is waited for."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kafka.errors import (
    IllegalSaslStateError,
    InvalidReceiveError,
    KafkaConnectionError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.transport import KafkaTCPTransport

from twinline.clients.kafka import refusals
from twinline.clients.kafka.connect import make_admin, make_consumer, make_producer
from twinline.clients.kafka.refusals import refusal_of
from twinline.clients.settings import Settings
from twinline.contract.errors import SettingsError, TransientError

ADDRESS = ("127.0.0.1", 9)
HANDSHAKE = "Handshake failed: [SSL: {}] (_ssl.c:1006)"


def config(protocol: str = "SASL_SSL", certificate: str | None = None) -> dict[str, Any]:
    return {
        "security_protocol": protocol,
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "ann",
        "ssl_certfile": certificate,
    }


@pytest.mark.parametrize(
    ("error", "given", "said"),
    [
        (SaslAuthenticationFailedError("invalid credentials"), config(), "'ann'.*TWINLINE_KAFKA_SASL_USERNAME and .*PASSWORD"),
        (UnsupportedSaslMechanismError(), config(), "SCRAM-SHA-256.*TWINLINE_KAFKA_SASL_MECHANISM"),
        (IllegalSaslStateError(), config(), "no SASL.*SECURITY_PROTOCOL is SASL_SSL, set SSL"),
        (IllegalSaslStateError(), config("SASL_PLAINTEXT"), "SECURITY_PROTOCOL is SASL_PLAINTEXT, set PLAINTEXT"),
        # a certificate of an unknown authority, for another name, too old
        (
            KafkaConnectionError(HANDSHAKE.format("CERTIFICATE_VERIFY_FAILED] self-signed certificate")),
            config(),
            "authority.*TWINLINE_KAFKA_SSL_CAFILE",
        ),
        (
            KafkaConnectionError(HANDSHAKE.format("CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate")),
            config("SSL"),
            "TWINLINE_KAFKA_SSL_CAFILE",
        ),
        (
            KafkaConnectionError(HANDSHAKE.format("CERTIFICATE_VERIFY_FAILED] IP address mismatch")),
            config(),
            "another name.*KAFKA_BOOTSTRAP",
        ),
        (KafkaConnectionError(HANDSHAKE.format("CERTIFICATE_VERIFY_FAILED] certificate has expired")), config(), "expired"),
        # the client's own certificate: none, a foreign one
        (KafkaConnectionError("[SSL: SSLV3_ALERT_BAD_CERTIFICATE] alert"), config("SSL"), "without a certificate.*SSL_CERTFILE"),
        (KafkaConnectionError("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] alert"), config("SSL"), "without a certificate"),
        (KafkaConnectionError("[SSL: SSLV3_ALERT_CERTIFICATE_UNKNOWN] alert"), config("SSL", "a.pem"), "this client's.*KEYFILE"),
        (KafkaConnectionError("[SSL: TLSV1_ALERT_UNKNOWN_CA] alert"), config("SSL", "a.pem"), "this client's certificate"),
        # TLS where none is spoken, and the other way round
        (KafkaConnectionError(HANDSHAKE.format("WRONG_VERSION_NUMBER")), config(), "no.* TLS.*set SASL_PLAINTEXT"),
        (KafkaConnectionError(HANDSHAKE.format("WRONG_VERSION_NUMBER")), config("SSL"), "set PLAINTEXT"),
        (InvalidReceiveError("Invalid frame length: 352518912"), config("PLAINTEXT"), "speaks TLS.*set SSL"),
        (InvalidReceiveError("Invalid frame length: 352518912"), config("SASL_PLAINTEXT"), "speaks TLS.*set SASL_SSL"),
    ],
)
def test_the_setting_is_named(error: Exception, given: dict[str, Any], said: str) -> None:
    import re

    assert re.search(said, refusal_of(error, given, ADDRESS))


@pytest.mark.parametrize(
    ("error", "given"),
    [
        (KafkaConnectionError("111 ECONNREFUSED"), config("PLAINTEXT")),
        (KafkaConnectionError("DNS Resolution failure"), config("PLAINTEXT")),
        (KafkaConnectionError("socket disconnected"), config("PLAINTEXT")),  # as of a broker that is being started
        (KafkaConnectionError("socket disconnected"), config()),
        (KafkaConnectionError(HANDSHAKE.format("UNEXPECTED_EOF_WHILE_READING")), config()),
        (InvalidReceiveError("Invalid frame length: 1213486160"), config("PLAINTEXT")),  # "HTTP"
    ],
)
def test_what_may_pass_is_no_refusal(error: Exception, given: dict[str, Any]) -> None:
    assert refusal_of(error, given, ADDRESS) == ""


def test_a_closed_connection_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "speaks_tls", lambda *address: address == ADDRESS)
    assert "speaks TLS" in refusal_of(KafkaConnectionError("socket disconnected"), config("PLAINTEXT"), ADDRESS)
    monkeypatch.setattr(refusals, "_answers_in_plain", lambda address: address == ADDRESS)
    cut = KafkaConnectionError(HANDSHAKE.format("UNEXPECTED_EOF_WHILE_READING"))
    assert "does not speak TLS" in refusal_of(cut, config("SSL"), ADDRESS)


@pytest.fixture
def tls_port() -> Iterator[int]:
    """A port that answers whatever comes as TLS does: with an alert."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            while True:
                try:
                    taken, _ = listening.accept()
                except OSError:
                    return
                with taken:
                    taken.recv(4)
                    # Handshake failure.
                    taken.sendall(bytes.fromhex("15030300020228"))
                    taken.shutdown(socket.SHUT_WR)
                    taken.recv(4096)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("make", [make_admin, make_consumer, make_producer])
def test_every_client_says_so_at_once(make: Any, tls_port: int) -> None:
    with pytest.raises(SettingsError, match=r"speaks TLS at this port: TWINLINE_KAFKA_SECURITY_PROTOCOL is PLAINTEXT, set SSL"):
        make(Settings(kafka_bootstrap=f"127.0.0.1:{tls_port}"))


API_VERSIONS, SASL_HANDSHAKE, UNSUPPORTED_VERSION, UNSUPPORTED_MECHANISM = 18, 17, 35, 33


def _answer_once(taken: socket.socket) -> None:
    """Answer requests as a broker that offers SCRAM-SHA-512 alone: it closes with its answer to another mechanism."""
    while head := taken.recv(4, socket.MSG_WAITALL):
        request = taken.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)
        api, version, number = struct.unpack(">hhi", request[:8])
        if api == SASL_HANDSHAKE:
            name = b"SCRAM-SHA-512"
            body = struct.pack(">hih", UNSUPPORTED_MECHANISM, 1, len(name)) + name
        else:
            assert api == API_VERSIONS
            offered = ((API_VERSIONS, 0, 0), (SASL_HANDSHAKE, 0, 1))
            body = struct.pack(">hi", UNSUPPORTED_VERSION if version else 0, len(offered))
            body += b"".join(struct.pack(">hhh", *one) for one in offered)
        taken.sendall(struct.pack(">ii", 4 + len(body), number) + body)
        if api == SASL_HANDSHAKE:
            return


def test_the_last_words_of_a_broker_that_closes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = KafkaTCPTransport._sock_recv

    def receive_late(transport: KafkaTCPTransport) -> Any:
        # Now the answer and the end lie in the socket together.
        time.sleep(0.05)
        return receive(transport)

    monkeypatch.setattr(KafkaTCPTransport, "_sock_recv", receive_late)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            while True:
                try:
                    taken, _ = listening.accept()
                except OSError:
                    return
                with taken:
                    _answer_once(taken)

        threading.Thread(target=serve, daemon=True).start()
        settings = Settings(
            kafka_bootstrap=f"127.0.0.1:{listening.getsockname()[1]}",
            kafka_security_protocol="SASL_PLAINTEXT",
            kafka_sasl_mechanism="SCRAM-SHA-256",
            kafka_sasl_username="ann",
            kafka_sasl_password="secret",
        )
        with pytest.raises(SettingsError, match="does not offer the mechanism SCRAM-SHA-256"):
            make_admin(settings)
        listening.shutdown(socket.SHUT_RDWR)


def test_a_broker_that_is_away_is_waited_for_and_the_last_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinline.clients.kafka.connect._BOOTSTRAP_TIMEOUT_MS", 400)
    with pytest.raises(TransientError, match=r"no Kafka answers at 127\.0\.0\.1:1: .*the last attempt: .*ECONNREFUSED"):
        make_admin(Settings(kafka_bootstrap="127.0.0.1:1"))
