"""Rejects go to a file at once, so that a source full of broken rows costs no memory. Ingest and publish share two rules:

1. Of two documents under one name the first stands, and the second is a reject that names both places.
2. A source of which nothing, or too little, could be taken is refused.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TextIO

from etl.sources.items import NOT_A_DOCUMENT, Reject, excerpt
from twinline.contract.documents.records import Origin
from twinline.contract.errors import ContractError

DUPLICATE: Final = "duplicate_key"


class Where(NamedTuple):
    """The place of a document in its source; empty where the source tells none."""

    place: str
    line: int | None = None

    @classmethod
    def of(cls, origin: Origin | None, otherwise: str) -> "Where":
        """Return the place of an origin, or a place for documents without one."""
        return cls(origin.place, origin.line) if origin and origin.place else cls(otherwise)

    def __str__(self) -> str:
        """Return file and line, as a person looks for them."""
        return self.place if self.line is None else f"{self.place} line {self.line}"


def duplicate(source: str, key: str, first: Where, second: Where, text: str) -> Reject:
    """Return the reject of the second document under one name: the first one stands."""
    detail = (
        f"[{source}, {key}] comes from {first} and from {second}: the first one stands. Give each document a key of its own, "
        "or publish the places under two names (--name, or NAME=KIND:LOCATION)"
    )
    return Reject(second.place, DUPLICATE, detail, second.line, excerpt(key), excerpt(text))


def refuse_if_broken(uri: str, taken: int, rejects: "RejectsFile", evidence: Path, max_reject_share: float) -> None:
    """Refuse a source of which nothing could be taken, or of which too large a share was set aside.

    Args:
        taken: the documents that were taken.
        evidence: the file that holds the rejects.
        max_reject_share: the setting `ingest.max_reject_share`.

    Raises:
        ContractError: with the counts by reason, the first reject and the place of all.
    """
    broken = Counter({reason: count for reason, count in rejects.counts.items() if reason not in NOT_A_DOCUMENT})
    reasons = ", ".join(f"{reason} {count}" for reason, count in broken.most_common())
    first = f"; the first: {rejects.first_broken.detail}" if rejects.first_broken else ""
    where = f"every one with its place is in {evidence}{first}"
    if not taken:
        raise ContractError(f"{uri} holds no document ({reasons or 'it is empty'}): {where}")
    total = taken + broken.total()
    share = broken.total() / total
    if share > max_reject_share:
        raise ContractError(
            f"{uri}: {broken.total()} of {total} set aside ({reasons}), a share of {share:.2f} where "
            f"ingest.max_reject_share allows {max_reject_share}: {where}"
        )


class RejectsFile:
    """JSON Lines, one reject each, in the order found; without a reject there is no file.

    `counts` and `firsts` are by reason. `first_broken` is the first reject that should have been a document.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.firsts: dict[str, Reject] = {}
        self.first_broken: Reject | None = None
        self._stream: TextIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, reject: Reject) -> None:
        """Write one reject, whatever its strings hold: half surrogates, as in names that are not UTF-8, are shown escaped."""
        reject = shown(reject)
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("w", encoding="utf-8")
        self._stream.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")
        self.counts[reject.reason] += 1
        self.firsts.setdefault(reject.reason, reject)
        if self.first_broken is None and reject.reason not in NOT_A_DOCUMENT:
            self.first_broken = reject

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rejects written so far, as rows."""
        if self._stream is None:
            return
        self._stream.flush()
        with self.path.open(encoding="utf-8") as stream:
            yield from map(json.loads, stream)

    def facts(self) -> list[str]:
        """Return the first reject of each reason, for a person; without what never was a document."""
        broken = (reject for reason, reject in sorted(self.firsts.items()) if reason not in NOT_A_DOCUMENT)
        return [f"{reject.reason}: {Where(reject.place, reject.line)}: {reject.detail[:400]}" for reject in broken]

    def by_reason(self) -> dict[str, int]:
        """Return the counts in a fixed order."""
        return dict(sorted(self.counts.items()))


def shown(reject: Reject) -> Reject:
    """Return a reject whose strings can be written anywhere."""
    texts = {name: getattr(reject, name) for name in ("place", "reason", "detail", "key", "raw")}
    if all(text.isascii() for text in texts.values()):
        return reject
    escaped = {name: text.encode("utf-8", errors="backslashreplace").decode() for name, text in texts.items()}
    return replace(reject, **escaped)
