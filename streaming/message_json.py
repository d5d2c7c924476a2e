"""A message of the log as JSON, for another process or a file: bytes as base64."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from streaming.decode import Message, Unreadable
from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError


def json_of_message(message: Message) -> dict[str, JSON]:
    """Return the JSON form."""
    headers: list[JSON] = [[name, b64encode(raw).decode()] for name, raw in message.headers]
    return {
        "partition": message.partition,
        "offset": message.offset,
        "timestamp_ms": message.timestamp_ms,
        "key": _text(message.key),
        "value": _text(message.value),
        "headers": headers,
        "appended_by_log": message.appended_by_log,
        "unreadable": [message.unreadable.last, message.unreadable.error] if message.unreadable else None,
    }


def message_of_json(value: Mapping[str, Any]) -> Message:
    """Read the JSON form.

    Raises:
        ContractError: it is no message.
    """
    try:
        return Message(
            int(value["partition"]),
            int(value["offset"]),
            int(value["timestamp_ms"]),
            _bytes(value["key"]),
            _bytes(value["value"]),
            [(name, b64decode(raw)) for name, raw in value["headers"]],
            appended_by_log=bool(value["appended_by_log"]),
            unreadable=Unreadable(int(value["unreadable"][0]), str(value["unreadable"][1])) if value.get("unreadable") else None,
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ContractError(f"this is no message of the log ({exc!r}): see streaming/message_json.py") from exc


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else b64encode(raw).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
