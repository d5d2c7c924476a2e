"""The index that follows from the log: the consumer's law again, in a few lines that share no code with the consumer.

Only the cutting of a document into chunks is the contract's own code, passed in as a function.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Place = tuple[int, int]
Name = tuple[str, str]


class UnusableError(Exception):
    """A message for the dead letters; its text is the reason."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message as a plain Kafka client reads it."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def place(self) -> Place:
        """Return partition and offset."""
        return (self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class State:
    """The state of one document: its version as (kind, number, offset), and its content; None: deleted."""

    version: tuple[str, int, int]
    place: Place
    said: Mapping[str, Any] | None
    chunks: Sequence[Any] = ()


@dataclass(slots=True)
class Truth:
    """All documents named in the log, and the messages that must have been set aside, with reasons."""

    documents: dict[Name, State] = field(default_factory=dict)
    dead_letters: dict[Place, str] = field(default_factory=dict)
    stale: int = 0


def replay(records: Iterable[Record], cut: Callable[[Name, Mapping[str, Any]], Sequence[Any]]) -> Truth:
    """Apply messages one by one, each partition in its order.

    Args:
        cut: returns a document's chunks, or raises UnusableError.
    """
    truth = Truth()
    for record in sorted(records, key=lambda record: record.place):
        try:
            name, version, said = understand(record)
            before = truth.documents.get(name)
            if before and before.version[0] != version[0]:
                raise UnusableError(f"its version is {version[0]}, the document's are {before.version[0]}")
            if before and _is_older(version, record, before):
                truth.stale += 1
                continue
            truth.documents[name] = State(version, record.place, said, () if said is None else cut(name, said))
        except UnusableError as exc:
            truth.dead_letters[record.place] = str(exc)
    return truth


def _is_older(version: tuple[str, int, int], record: Record, before: State) -> bool:
    if version[0] == "explicit":
        return version[1] < before.version[1]
    if record.partition == before.place[0]:
        return record.offset < before.place[1]
    return (version[1], record.partition) < (before.version[1], before.place[0])


def understand(record: Record) -> tuple[Name, tuple[str, int, int], Mapping[str, Any] | None]:
    """Return name, version and content of a message; raise UnusableError if it breaks the envelope."""
    key = _json(record.key, "key")
    if not (isinstance(key, list) and len(key) == 2 and all(isinstance(part, str) and part for part in key)):
        raise UnusableError("the key is not two strings")
    name = (key[0], key[1])
    if record.value is None:
        said, version = None, dict(record.headers).get("version")
        number = _decimal(version) if version is not None else None
    else:
        said = _json(record.value, "value")
        _check(said)
        number = said.get("version")
    _check_number(number)
    return name, ("log", record.timestamp_ms, record.offset) if number is None else ("explicit", number, 0), said


def _json(raw: bytes | None, what: str) -> Any:
    if raw is None:
        raise UnusableError(f"no {what}")
    try:
        return json.loads(raw.decode("utf-8"))
    except ValueError as exc:
        raise UnusableError(f"the {what} is not JSON") from exc


def _decimal(raw: bytes) -> int:
    try:
        return int(raw.decode("ascii"))
    except ValueError as exc:
        raise UnusableError("the header `version` is no number") from exc


def _check_number(number: object) -> None:
    if number is not None and (type(number) is not int or not 0 <= number < 2**53):
        raise UnusableError(f"version {number!r}")


def _check(said: Any) -> None:
    if not isinstance(said, dict):
        raise UnusableError("the value is no object")
    if type(said.get("schema")) is not int or said["schema"] != 1:
        raise UnusableError(f"schema {said.get('schema')!r}")
    text, title, tenant = said.get("text"), said.get("title"), said.get("tenant")
    if not isinstance(text, str) or not isinstance(title, str | None):
        raise UnusableError("text or title is no string")
    if not text.strip() and not (title or "").strip():
        raise UnusableError("neither text nor title")
    if not isinstance(said.get("metadata"), dict | None):
        raise UnusableError("metadata is no object")
    if tenant is not None and not (isinstance(tenant, str) and tenant):
        raise UnusableError("the tenant is no name")
