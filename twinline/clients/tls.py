"""Whether TLS is spoken at an address: a client without TLS sees no more than a closed connection there."""

import socket
import ssl
from typing import Final

_SECONDS: Final = 1.5


def speaks_tls(host: str, port: int) -> bool:
    """Say whether a server answers a TLS handshake, whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent: the question is only whether TLS is spoken at all.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), _SECONDS) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as exc:
        # Its alert is TLS as well.
        return "ALERT" in str(exc)
    except OSError:
        return False
