"""Rejects go to a file at once, so that a source full of broken rows costs no memory."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, TextIO

from etl.sources.items import NOT_A_DOCUMENT, Reject


class RejectsFile:
    """JSON Lines, one reject each, in the order found; without a reject there is no file.

    `counts` is by reason. `first_broken` is the first reject that should have been a document.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
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
        if self.first_broken is None and reject.reason not in NOT_A_DOCUMENT:
            self.first_broken = reject

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rejects written so far, as rows."""
        if self._stream is None:
            return
        self._stream.flush()
        with self.path.open(encoding="utf-8") as stream:
            yield from map(json.loads, stream)

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
