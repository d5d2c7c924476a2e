"""The list of erased documents. Publish, ingest, prepare, consumers and builds ask it before they take a document in.

It holds no keys. A key may be personal data itself (an address, a name in a file's path), and the list outlives everything. An
entry is an HMAC of source and key under a secret of this installation, so the list alone reveals no document. The price is a
secret to keep. Every record carries a check of it. A process with another secret, or none, refuses to work rather than take an
erased document in.

The list is a topic of its own, which never expires, and a file under home, `erasures/list.json`. Every reader of the topic
updates the file. Stages without a broker read the file, and a lost topic is written again from it.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Self
from uuid import uuid4

from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.errors import ContractError, MismatchError, SettingsError

LIST_FILE: Final = "list.json"
SECRET_FILE: Final = "secret"  # noqa: S105 (a file name)
SCHEMA: Final = 1
_SECRET_BYTES: Final = 32

# free: not erased. before: appended before its erasure, or before that was lifted. refused: appended afterwards.
Verdict = Literal["free", "before", "refused"]


@dataclass(frozen=True, slots=True)
class Erased:
    """One document that was erased.

    Args:
        token: the keyed hash of source and key.
        at_ms: when, by the broker's clock, which also dates the messages of the log.
        lifted_ms: since when it may come back; None while it may not. Its messages from before then stay out for good.
    """

    token: str
    at_ms: int
    time: str
    by: str
    reason: str
    lifted_ms: int | None = None
    lifted_by: str = ""
    lifted_reason: str = ""


@dataclass(frozen=True, slots=True)
class Erasures:
    """The list at one moment. Without entries it needs no secret."""

    entries: Mapping[str, Erased] = field(default_factory=dict)
    secret: bytes = b""

    def token(self, source: str, key: str) -> str:
        """Return the name of a document in the list."""
        # JSON, not a separator: ("a_b", "c") and ("a", "b_c") must stay different.
        return hmac.new(self.secret, json.dumps([source, key]).encode(), hashlib.sha256).hexdigest()

    def find(self, source: str, key: str) -> Erased | None:
        """Return a document's entry, lifted or not; None if it never was erased."""
        return self.entries.get(self.token(source, key)) if self.entries else None

    def verdict(self, source: str, key: str, appended_ms: int | None = None) -> Verdict:
        """Say whether a document may be taken in.

        Args:
            appended_ms: when the log appended its message; None for a document outside the log, such as a file.
        """
        entry = self.find(source, key)
        if entry is None:
            return "free"
        if entry.lifted_ms is not None:
            return "free" if appended_ms is None or appended_ms > entry.lifted_ms else "before"
        return "before" if appended_ms is not None and appended_ms <= entry.at_ms else "refused"

    def refusal(self, source: str, key: str) -> str:
        """Return why a document is refused, and the remedy; the text names it by its hash alone."""
        entry = self.find(source, key)
        when = entry.time if entry else "at some time"
        return (
            f"document {self.token(source, key)[:16]} was erased {when}: it is not taken in again; if that is no longer right: "
            f"twinline erase --lift --source SOURCE --document KEY --reason TEXT"
        )

    def fingerprint(self) -> str:
        """Return a hash of the documents that must stay out now; empty when there are none."""
        tokens: list[JSON] = [*sorted(token for token, entry in self.entries.items() if entry.lifted_ms is None)]
        return fingerprint(tokens)[:16] if tokens else ""

    def check(self) -> str:
        """Return a proof of the secret that does not show it."""
        return secret_check(self.secret)

    def with_event(self, event: Mapping[str, Any], appended_ms: int) -> Self:
        """Return the list after one record of the topic.

        Raises:
            ContractError: it is no record of ours.
            MismatchError: it was written under another secret.
        """
        try:
            act, token, check = event["act"], event["token"], event["check"]
            if event["schema"] != SCHEMA or act not in ("erase", "lift", "receipt"):
                raise ContractError(f"the list of erased documents has a record {act!r} of schema {event['schema']!r}: upgrade")
            require_secret(self.secret, check)
            if act == "receipt":
                return self
            # A record that was written again after the topic was lost counts from its first time.
            at_ms, known = int(event.get("at_ms") or appended_ms), self.entries.get(token)
            if act == "erase":
                entry = Erased(token, at_ms, event["time"], event["by"], event["reason"])
                return replace(self, entries={**self.entries, token: entry})
            if known is None:
                return self
            lifted = replace(known, lifted_ms=at_ms, lifted_by=event["by"], lifted_reason=event["reason"])
            return replace(self, entries={**self.entries, token: lifted})
        except (KeyError, TypeError, ValueError) as exc:
            raise ContractError(
                f"the list of erased documents has a damaged record ({exc!r}): only Twinline writes there"
            ) from exc

    def merged(self, other: "Erasures") -> Self:
        """Return both lists; of an entry in both, the fuller or newer version."""
        entries = dict(self.entries)
        for token, entry in other.entries.items():
            if token not in entries or _rank(entry) > _rank(entries[token]):
                entries[token] = entry
        return replace(self, entries=entries, secret=self.secret or other.secret)


def _rank(entry: Erased) -> tuple[int, int]:
    return entry.at_ms, entry.lifted_ms or 0


def secret_check(secret: bytes) -> str:
    """Return a proof of a secret that does not show it."""
    return hmac.new(secret, b"twinline: the list of erased documents", hashlib.sha256).hexdigest()[:16]


def require_secret(secret: bytes, check: str) -> None:
    """Refuse to work without the secret under which the list was made.

    Raises:
        MismatchError: this process has another one, or none.
    """
    if not hmac.compare_digest(secret_check(secret), check) or not secret:
        has = "has another" if secret else "has none"
        raise MismatchError(
            f"the list of erased documents was made under a secret, and this process {has}: copy erasures/{SECRET_FILE} from the "
            "home where `twinline erase` first ran, or set TWINLINE_ERASURE_SECRET"
        )


def read_secret(settings: Settings) -> bytes:
    """Return the secret of this installation, empty where there is none yet."""
    if settings.erasure_secret is not None:
        return settings.erasure_secret.get_secret_value().encode()
    try:
        return (settings.erasures / SECRET_FILE).read_bytes().strip()
    except FileNotFoundError:
        return b""


def make_secret(settings: Settings) -> bytes:
    """Return the secret of this installation; a new one where there is none, in a file that only its owner reads."""
    secret = read_secret(settings)
    if secret:
        return secret
    settings.erasures.mkdir(parents=True, exist_ok=True)
    beside = settings.erasures / f".{SECRET_FILE}.{uuid4().hex}"
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(os.urandom(_SECRET_BYTES).hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        # A link, not a rename: two processes that make one at once must both use the first.
        os.link(beside, settings.erasures / SECRET_FILE)
    except FileExistsError:
        pass  # the other process's secret is as good
    finally:
        beside.unlink()
    return read_secret(settings)


def read_list(settings: Settings) -> Erasures:
    """Return the list that this home has as a file; empty where nothing was erased.

    Raises:
        MismatchError: it was made under another secret.
        ContractError: the file is damaged.
    """
    path, secret = settings.erasures / LIST_FILE, read_secret(settings)
    try:
        value = json.loads(path.read_text())
        check, entries = value["check"], [Erased(**entry) for entry in value["entries"]]
    except FileNotFoundError:
        return Erasures({}, secret)
    except (ValueError, KeyError, TypeError) as exc:
        raise ContractError(
            f"{path} is damaged ({exc!r}): remove it, and `twinline erase --list` writes it again from the broker's topic"
        ) from exc
    if entries:
        require_secret(secret, check)
    return Erasures({entry.token: entry for entry in entries}, secret)


def save_list(settings: Settings, erasures: Erasures) -> None:
    """Write the list as a file, beside and then renamed."""
    path: Path = settings.erasures / LIST_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [asdict(entry) for _, entry in sorted(erasures.entries.items())]
    beside = path.with_name(f".{LIST_FILE}.{uuid4().hex}")
    with beside.open("w") as file:
        json.dump({"schema": SCHEMA, "check": erasures.check(), "entries": entries}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def require_known_settings(settings: Settings) -> None:
    """Raise SettingsError where the secret is set but easy to guess."""
    if settings.erasure_secret is not None and len(settings.erasure_secret.get_secret_value()) < _SECRET_BYTES:
        raise SettingsError(f"TWINLINE_ERASURE_SECRET is too short: give at least {_SECRET_BYTES} characters, at random")
