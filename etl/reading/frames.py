"""Frames between parent and child: four bytes of length, then JSON. Never pickle: the parent must not run an answer."""

import json
import socket
import struct
from typing import Any, Final

from etl.sources.items import Reject

_LENGTH: Final = struct.Struct(">I")
# A string of a reject that a reader wrote; the sink cuts `raw` shorter.
_MAX_REJECT_CHARS: Final = 10_000


class BadFrameError(Exception):
    """The other side broke the protocol, or its stream ended."""


def send(connection: socket.socket, value: Any) -> None:
    """Send one value."""
    connection.sendall(framed(json.dumps(value, ensure_ascii=False)))


def framed(text: str) -> bytes:
    """Return JSON as a frame; half surrogates travel as they are, for the contract to refuse."""
    payload = text.encode("utf-8", errors="surrogatepass")
    return _LENGTH.pack(len(payload)) + payload


def receive(connection: socket.socket, limit: int) -> Any:
    """Return the next value.

    Raises:
        BadFrameError: the stream has ended, or the frame is longer than `limit` bytes or no JSON.
    """
    (size,) = _LENGTH.unpack(receive_bytes(connection, _LENGTH.size))
    if size > limit:
        raise BadFrameError(f"a frame of {size} bytes, the limit is {limit}")
    try:
        return json.loads(receive_bytes(connection, size).decode("utf-8", errors="surrogatepass"))
    except (ValueError, RecursionError) as exc:
        raise BadFrameError(f"a frame that is no JSON: {exc}") from exc


def receive_bytes(connection: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes."""
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = connection.recv_into(view[filled:])
        if not count:
            raise BadFrameError("the stream has ended")
        filled += count
    return bytes(data)


def reject_form(reject: Reject) -> dict[str, Any]:
    """Return a reject as a frame holds it."""
    texts = (reject.reason, reject.detail, reject.key, reject.raw)
    return {"reject": [*(text[:_MAX_REJECT_CHARS] for text in texts), reject.line]}


def reject_of(form: Any, place: str) -> Reject:
    """Return the reject in a frame. The place is the parent's own: a child speaks of no other file."""
    if not (isinstance(form, list) and len(form) == 5 and all(isinstance(text, str) for text in form[:4])):
        raise BadFrameError("a reject that is none")
    reason, detail, key, raw, line = form
    if not (line is None or type(line) is int):
        raise BadFrameError("a reject without a line number")
    return Reject(place, reason, detail, line, key, raw)
