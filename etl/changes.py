"""How much of the documents changed from one snapshot to another, by their keys and content hashes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from etl.snapshots import document_files
from etl.storage import read_rows

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Changes:
    """Counts of keys."""

    before: int
    after: int
    added: int
    changed: int
    deleted: int

    @property
    def share(self) -> float:
        """Return the share of the older snapshot; above 1 where more documents were added than it held."""
        return (self.added + self.changed + self.deleted) / max(1, self.before)

    def summary(self) -> str:
        """Return the counts as one line of text."""
        counts = f"{self.added} added, {self.changed} changed, {self.deleted} deleted"
        return f"{self.share:.1%} of {self.before} documents changed ({counts})"


def count_changes(before: Path, after: Path) -> Changes:
    """Compare the documents of two snapshots; memory holds the keys and hashes of the older one."""
    known = dict(_hashes(before))
    total = len(known)
    added = changed = seen = 0
    for key, content_hash in _hashes(after):
        seen += 1
        old = known.pop(key, None)
        if old is None:
            added += 1
        elif old != content_hash:
            changed += 1
    return Changes(total, seen, added, changed, deleted=len(known))


def _hashes(folder: Path) -> Iterator[tuple[_Key, str]]:
    for row in read_rows(*document_files(folder), columns=["source", "key", "content_hash"]):
        yield (row["source"], row["key"]), row["content_hash"]
