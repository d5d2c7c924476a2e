"""The producers' messages: every kind of change to a document, and unusable messages. Pure, seeded.

A writer owns a few sources, so that it knows the state of their documents. `numbered` sources carry explicit versions, the
others leave versions to the log.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

LABEL, POISON = "chaos", b"poison:"
PINNED = "pinned"
PINNED_KEYS = ("one", "two", "three")
KEYS = 40
TENANTS = (None, "red", "blue")
# Text that is empty only after cleaning: it is refused at a later stage than a broken envelope.
_INVISIBLE = "\x01\x02\x03"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to send. `kind` is its intended effect; `poison` breaks the envelope in any state of the document."""

    kind: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    poison: bool = False

    @property
    def label(self) -> tuple[str, bytes]:
        """Return the header with the message's intended effect, for a reader of the log."""
        return (LABEL, (POISON if self.poison else b"") + self.kind.encode())


@dataclass(slots=True)
class _Known:
    """The writer's last state of one document."""

    version: int = 0
    said: dict[str, Any] | None = None
    last: Outgoing | None = None
    old: list[dict[str, Any]] = field(default_factory=list)


class Writer:
    """Makes messages about some sources; `pinned` documents always exist and always change."""

    def __init__(self, seed: int, texts: Sequence[tuple[str, str]], sources: Sequence[str], pins: bool) -> None:
        """Take (title, text) pairs to write with."""
        self._random = random.Random(seed)
        self._texts = texts
        self._known = {(source, f"key-{number}"): _Known() for source in sources for number in range(KEYS)}
        self._pinned = {(PINNED, key): _Known() for key in PINNED_KEYS} if pins else {}
        self._again: list[Outgoing] = []

    def first(self) -> Iterator[Outgoing]:
        """Yield the first version of every pinned document and of half of the others."""
        for name, known in (self._pinned | dict(list(self._known.items())[::2])).items():
            yield self._document("create", name, known, self._fresh())

    def next(self) -> Outgoing:
        """Return one more message."""
        if self._again:
            return self._again.pop()
        if self._pinned and self._random.random() < 0.4:
            name, known = self._random.choice(list(self._pinned.items()))
            return self._document("pinned", name, known, self._fresh())
        if self._random.random() < 0.08:
            return self._poison()
        name, known = self._random.choice(list(self._known.items()))
        if known.last is None or known.said is None:
            return self._revived(name, known)
        act: Callable[[tuple[str, str], _Known], Outgoing] = self._random.choices(
            (self._updated, self._grown, self._shrunk, self._relabelled, self._deleted, self._repeated, self._disordered),
            (22, 12, 12, 18, 10, 8, 12),
        )[0]
        return act(name, known)

    def _fresh(self) -> dict[str, Any]:
        title, text = self._random.choice(self._texts)
        metadata = {"shelf": self._random.randrange(9), "by": {"name": self._random.choice("abc")}}
        return {"title": title, "text": text, "metadata": metadata, "tenant": self._random.choice(TENANTS)}

    def _document(self, kind: str, name: tuple[str, str], known: _Known, said: dict[str, Any]) -> Outgoing:
        known.version += self._random.randint(1, 3)
        if known.said is not None:
            known.old.append(known.said)
        known.said = said
        known.last = _message(kind, name, said, self._number(name, known.version))
        return known.last

    def _revived(self, name: tuple[str, str], known: _Known) -> Outgoing:
        if known.old and _is_numbered(name) and self._random.random() < 0.5:
            # Older than the deletion before it: it must not bring the document back.
            assert known.last is not None
            deleted = int(dict(known.last.headers)["version"])
            return _message("late_after_delete", name, self._random.choice(known.old), deleted - 1)
        return self._document("recreate" if known.last else "create", name, known, self._fresh())

    def _updated(self, name: tuple[str, str], known: _Known) -> Outgoing:
        return self._document("update", name, known, self._fresh())

    def _grown(self, name: tuple[str, str], known: _Known) -> Outgoing:
        assert known.said is not None
        more = known.said["text"] + "\n\n" + "\n\n".join(text for _, text in self._random.sample(self._texts, 2))
        return self._document("grow", name, known, {**known.said, "text": more[:6_000]})

    def _shrunk(self, name: tuple[str, str], known: _Known) -> Outgoing:
        assert known.said is not None
        return self._document("shrink", name, known, {**known.said, "text": known.said["text"].partition("\n\n")[0][:300]})

    def _relabelled(self, name: tuple[str, str], known: _Known) -> Outgoing:
        assert known.said is not None
        changed = {key: value for key, value in self._fresh().items() if key in ("metadata", "tenant")}
        return self._document("relabel", name, known, {**known.said, **changed})

    def _deleted(self, name: tuple[str, str], known: _Known) -> Outgoing:
        known.version += 1
        if known.said is not None:
            known.old.append(known.said)
        known.said = None
        headers = (("version", str(known.version).encode()),) if _is_numbered(name) else ()
        known.last = Outgoing("delete", _key(name), None, headers)
        return known.last

    def _repeated(self, name: tuple[str, str], known: _Known) -> Outgoing:
        assert known.last is not None
        return Outgoing("duplicate", known.last.key, known.last.value, known.last.headers)

    def _disordered(self, name: tuple[str, str], known: _Known) -> Outgoing:
        if not _is_numbered(name):
            return self._updated(name, known)
        newer, older = known.version + 4, known.version + 2
        known.version = newer
        said = self._fresh()
        known.said = said
        # The older message is sent right after the newer one.
        self._again.append(_message("older_after_newer", name, self._fresh(), older))
        known.last = _message("newer_first", name, said, newer)
        return known.last

    def _number(self, name: tuple[str, str], version: int) -> int | None:
        return version if _is_numbered(name) else None

    def _poison(self) -> Outgoing:
        name, known = self._random.choice(list(self._known.items()))
        key, said = _key(name), self._fresh()
        number = self._number(name, known.version)
        broken: list[tuple[str, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]] = [
            ("bad_json", key, b'{"schema": 1, "text": "never end', ()),
            ("bad_utf8", key, b'{"schema": 1, "text": "\xff\xfe"}', ()),
            ("array", key, b"[1, 2, 3]", ()),
            ("text_number", key, _value({**said, "text": 7}, number), ()),
            ("no_text_field", key, _value({"title": "only a title"}, number), ()),
            ("metadata_list", key, _value({**said, "metadata": ["a"]}, number), ()),
            ("tenant_empty", key, _value({**said, "tenant": ""}, number), ()),
            ("schema_two", key, json.dumps({**said, "schema": 2}).encode(), ()),
            ("version_text", key, json.dumps({**said, "schema": 1, "version": "9"}).encode(), ()),
            ("version_true", key, json.dumps({**said, "schema": 1, "version": True}).encode(), ()),
            ("key_no_json", b"not json", _value(said, number), ()),
            ("key_one_part", b'["only"]', _value(said, number), ()),
            ("no_key", None, _value(said, number), ()),
            ("delete_bad_version", key, None, (("version", b"soon"),)),
            ("empty", key, _value({**said, "text": "  ", "title": ""}, number), ()),
        ]
        kind, bad_key, value, headers = self._random.choice(broken)
        choice = self._random.random()
        if choice < 0.2 and known.last is not None:
            # The other kind of version: its refusal depends on the document's earlier messages.
            return _message("mixed_versions", name, said, None if _is_numbered(name) else 7)
        if choice < 0.5:
            # A good message about the same document follows: the bad one must still be set aside.
            number = known.version + 1 if _is_numbered(name) else None
            known.version += 1
            invisible = {**said, "text": _INVISIBLE, "title": ""}
            if self._random.random() < 0.7:
                self._again.append(self._document("after_invisible", name, known, self._fresh()))
            return Outgoing("invisible", key, _value(invisible, number))
        return Outgoing(kind, bad_key, value, headers, poison=True)


def _is_numbered(name: tuple[str, str]) -> bool:
    return name[0].startswith("numbered")


def _key(name: tuple[str, str]) -> bytes:
    return json.dumps(list(name)).encode()


def _value(said: dict[str, Any], number: int | None) -> bytes:
    return json.dumps({"schema": 1, "version": number, **said}, ensure_ascii=False).encode()


def _message(kind: str, name: tuple[str, str], said: dict[str, Any], number: int | None) -> Outgoing:
    return Outgoing(kind, _key(name), _value(said, number))
