"""The journal of promotions: which release became the active one, when, from which one, and by which user or DAG run.

One JSON object a line, append-only. The intent is written down before the alias is renamed. After a crash `settle` records the
intent if the alias shows that the switch happened, and forgets it otherwise.
"""

import getpass
import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Self

from twinline.clients.files import replace_file
from twinline.contract.errors import MismatchError

Act = Literal["promote", "rollback", "switch", "repair"]

# The signature of a DAG run.
AIRFLOW: Final = "airflow "
_FIELDS: Final = ("time", "before", "release", "kind", "by")


@dataclass(frozen=True, slots=True)
class Promotion:
    """One change of the active release. `before` is empty where there was none.

    Args:
        time: ISO 8601, UTC.
        kind: `repair` is an unrecorded change: the alias was found pointing there.
        by: `user@host`, or the DAG and its run.
    """

    time: str
    before: str
    release: str
    kind: Act
    by: str

    @classmethod
    def now(cls, kind: Act, before: str, release: str, by: str) -> Self:
        """Return a promotion that happens now."""
        return cls(datetime.now(UTC).isoformat(timespec="milliseconds"), before, release, kind, by)

    def line(self) -> str:
        """Return the promotion as one line: of the journal, and of the tag that carries it to other machines."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def parse(cls, line: str, place: str) -> Self:
        """Read a line of `line`; raise MismatchError for anything else."""
        try:
            value = json.loads(line)
            return cls(**{name: str(value[name]) for name in _FIELDS})  # type: ignore[arg-type]  # kinds are only shown
        except (ValueError, TypeError, KeyError) as exc:
            raise MismatchError(
                f"{place} is not a promotion ({exc!r}): {line[:120]!r}; move the file away to start a new one"
            ) from exc


class Journal:
    """The journal in a folder of its own. Callers hold the lock of that folder while they write."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "promotions.jsonl"
        self._intent = folder / "intent.json"

    def read(self) -> list[Promotion]:
        """Return every promotion, oldest first. A last line cut off by a kill does not count: it was never reported.

        Raises:
            MismatchError: a whole line is not a promotion.
        """
        whole = self._whole()
        return [Promotion.parse(line, f"{self._path}:{number}") for number, line in enumerate(whole.decode().splitlines(), 1)]

    def append(self, promotion: Promotion) -> None:
        """Add one line, durable when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        whole = len(self._whole())
        with self._path.open("ab") as file:
            file.truncate(whole)
            file.write(promotion.line().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def intend(self, promotion: Promotion) -> None:
        """Write an intent down."""
        replace_file(self._intent, promotion.line())

    def settle(self, active: str, by: str) -> Promotion | None:
        """Bring the journal in line with the commit point; return the added promotion, None if there is none.

        A failed intent is forgotten; a successful one stays until `finish`.

        Args:
            active: the release that the commit point names, empty where it names none.
            by: the signature of an unrecorded change.
        """
        last = self.read()[-1:]
        recorded = last[0].release if last else ""
        intended = self.unfinished(active)
        added = None
        if active and active != recorded:
            added = intended or Promotion.now("repair", recorded, active, by)
            self.append(added)
        if intended is None:
            self.finish()
        return added

    def unfinished(self, active: str) -> Promotion | None:
        """Return the unfinished intent that made `active` the active release; None if there is none."""
        if not self._intent.is_file():
            return None
        intended = Promotion.parse(self._intent.read_text(encoding="utf-8"), str(self._intent))
        return intended if intended.release == active else None

    def finish(self) -> None:
        """Forget the intent: all followers agree with the alias."""
        self._intent.unlink(missing_ok=True)

    def _whole(self) -> bytes:
        content = self._path.read_bytes() if self._path.is_file() else b""
        return content[: content.rfind(b"\n") + 1]


def history(promotions: Iterable[Promotion]) -> list[str]:
    """Return the way back: releases in the order of their activation, the active one last.

    A roll-back removes the release that it leaves, so that the next one goes further back, and not forth again.
    """
    stack: list[str] = []
    for promotion in promotions:
        if promotion.kind == "rollback" and promotion.release in stack:
            del stack[_last(stack, promotion.release) + 1 :]
        elif stack[-1:] != [promotion.release]:
            stack.append(promotion.release)
    return stack


def way_back(promotions: Sequence[Promotion], active: str) -> list[str]:
    """Return the releases that were active before, nearest first, each once."""
    stack = history(promotions)
    if active in stack:
        del stack[_last(stack, active) :]
    return [release for release in dict.fromkeys(reversed(stack)) if release != active]


def who(environment: Mapping[str, str]) -> str:
    """Return the signature of this process: its DAG and run, or user and host."""
    dag, run = environment.get("AIRFLOW_CTX_DAG_ID"), environment.get("AIRFLOW_CTX_DAG_RUN_ID")
    if dag and run:
        return f"{AIRFLOW}{dag} {run}"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _last(stack: Sequence[str], release: str) -> int:
    return len(stack) - 1 - list(reversed(stack)).index(release)
