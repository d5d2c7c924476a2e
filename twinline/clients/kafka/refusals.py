"""Why a broker refuses a connection, as a matter of settings.

kafka-python tries again whatever the reason, and reports a broker that does not answer. Its network client is replaced here by
one that knows the reasons that no repetition changes, and that gives up at the first of them before it was ever let in.
"""

import socket
import struct
from typing import Any, Final

from kafka.errors import (
    IllegalSaslStateError,
    InvalidReceiveError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from twinline.clients.tls import speaks_tls

_PROBE_SECONDS: Final = 1.5
_PROTOCOL: Final = "TWINLINE_KAFKA_SECURITY_PROTOCOL"
_CERTIFICATE: Final = "TWINLINE_KAFKA_SSL_CERTFILE and TWINLINE_KAFKA_SSL_KEYFILE"
_WITHOUT_TLS: Final = {"SSL": "PLAINTEXT", "SASL_SSL": "SASL_PLAINTEXT"}
_WITH_TLS: Final = {plain: encrypted for encrypted, plain in _WITHOUT_TLS.items()}
# Fewer may be those of a broker that is being started again.
_CLOSES: Final = 4
# The first two bytes of a TLS alert, where a frame's length was expected.
_TLS_ALERT: Final = 0x1503
# ApiVersions, version 0, without a client's name: every broker answers it, before any authentication.
_HELLO: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class RefusedError(KafkaError):  # type: ignore[misc]
    """The broker refuses these settings; the text names them."""

    retriable = False


class ExplainingClient(KafkaNetClient):  # type: ignore[misc]
    """kafka-python's network client, which says why it is refused."""

    def __init__(self, **configs: Any) -> None:
        """Connect to nothing yet."""
        net = NetworkSelector(**configs)
        super().__init__(net, _Manager(net, **configs), **configs)

    @property
    def last_failure(self) -> str:
        """Return why the last connection failed; empty where none has."""
        return str(self._manager.last_failure)


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **configs)
        self.last_failure = ""
        self._refusal = ""
        self._was_let_in = False
        self._known: set[int] = set()
        self._closed_at_first_request = 0

    def get_connection(self, node_id: Any, **options: Any) -> Any:
        if self._refusal and not self._was_let_in:
            raise RefusedError(self._refusal)
        connection = super().get_connection(node_id, **options)
        if id(connection) not in self._known:
            self._known.add(id(connection))
            connection.init_future.add_errback(lambda error: self._note_failure(error, connection))
            connection.close_future.add_errback(lambda error: self._note_close(error, connection))
            connection.close_future.add_both(lambda _: self._known.discard(id(connection)))
        return connection

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        """Build a connection that hands on what it has read before it says that the broker closed.

        The library drops the last bytes where they and the end come in one read: a broker that says why and closes at once.
        """
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        receive = transport._sock_recv

        def receive_before_end() -> tuple[bytes, Exception | None]:
            data, error = receive()
            # The end stays in the socket: the next read meets it.
            return data, None if data else error

        transport._sock_recv = receive_before_end
        return transport

    async def _do_bootstrap(self, deadline: float | None) -> Any:
        try:
            done = await super()._do_bootstrap(deadline)
        except KafkaTimeoutError as exc:
            raise KafkaTimeoutError(f"{exc.args[0]}; the last attempt: {self.last_failure or 'no answer'}") from exc
        self._was_let_in, self.last_failure = True, ""
        return done

    def _note_close(self, error: Exception, connection: Any) -> None:
        """Note that a broker has said what it understands, and then closed at a request: it waits for a user's name."""
        protocol = self.config["security_protocol"]
        if self._was_let_in or not connection.init_future.succeeded() or protocol.startswith("SASL"):
            return
        self.last_failure = str(error)
        self._closed_at_first_request += 1
        if self._closed_at_first_request >= _CLOSES:
            self._refusal = (
                f"it closes each connection at the first request, as one that wants SASL: {_PROTOCOL} is {protocol}, set "
                f"SASL_{protocol}, with TWINLINE_KAFKA_SASL_MECHANISM, TWINLINE_KAFKA_SASL_USERNAME "
                "and TWINLINE_KAFKA_SASL_PASSWORD"
            )

    def _note_failure(self, error: Exception, connection: Any) -> None:
        self.last_failure = str(error)
        node = self.cluster.broker_metadata(connection.node_id)
        self._refusal = refusal_of(error, self.config, (node.host, node.port)) if node is not None else ""
        self.last_failure = self._refusal or self.last_failure


def refusal_of(error: Exception, config: dict[str, Any], address: tuple[str, int]) -> str:
    """Return why a connection failed, where trying again cannot help, with the setting to change; else an empty text.

    Args:
        address: the broker's host and port, which is asked by other means where the error can mean several things.
    """
    protocol, mechanism, text = config["security_protocol"], config["sasl_mechanism"], str(error)
    if isinstance(error, SaslAuthenticationFailedError):
        user = config["sasl_plain_username"]
        return (
            f"it does not accept user {user!r} with this password ({mechanism}): "
            "check TWINLINE_KAFKA_SASL_USERNAME and TWINLINE_KAFKA_SASL_PASSWORD"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"it does not offer the mechanism {mechanism}: set TWINLINE_KAFKA_SASL_MECHANISM to one that it offers"
    if isinstance(error, IllegalSaslStateError):
        without = "SSL" if protocol == "SASL_SSL" else "PLAINTEXT"
        return f"it wants no SASL at this port: {_PROTOCOL} is {protocol}, set {without}, or name another port in KAFKA_BOOTSTRAP"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return _of_its_certificate(text)
    if ("ALERT" in text and "CERTIFICATE" in text) or "CERTIFICATE_REQUIRED" in text or "ALERT_UNKNOWN_CA" in text:
        given = (
            "does not accept this client's certificate" if config["ssl_certfile"] else "accepts no client without a certificate"
        )
        return f"it {given}: set {_CERTIFICATE}"
    if protocol.endswith("SSL"):
        if "WRONG_VERSION_NUMBER" in text or ("Handshake failed" in text and _answers_in_plain(address)):
            return f"it does not speak TLS at this port: {_PROTOCOL} is {protocol}, set {_WITHOUT_TLS[protocol]}"
        return ""
    is_alert = isinstance(error, InvalidReceiveError) and int(text.rsplit(" ", 1)[-1]) >> 16 == _TLS_ALERT
    if is_alert or ("disconnected" in text and speaks_tls(*address)):
        return f"it speaks TLS at this port: {_PROTOCOL} is {protocol}, set {_WITH_TLS[protocol]}"
    return ""


def _of_its_certificate(text: str) -> str:
    if "mismatch" in text:
        return f"its certificate is for another name ({text}): name the broker in KAFKA_BOOTSTRAP as its certificate does"
    if "expired" in text:
        return f"its certificate has expired ({text}): renew it at the broker"
    return f"its certificate is not of a known authority ({text}): set TWINLINE_KAFKA_SSL_CAFILE to the authority's certificate"


def _answers_in_plain(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, _PROBE_SECONDS) as plain:
            plain.sendall(_HELLO)
            answer = plain.recv(8)
    except OSError:
        return False
    # The length of the answer, then our own number.
    return len(answer) == len(_HELLO[:8]) and struct.unpack(">ii", answer)[1] == 1
