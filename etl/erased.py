"""Erased documents stay out of snapshots and training data: each is counted, and neither named nor quoted."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from etl.sources.items import ERASED, Item, Judgement, Logged, Made, Reject
from etl.storage import read_rows
from twinline.clients.erasure_list import Erasures
from twinline.contract.documents.records import Document, decode_message
from twinline.contract.errors import DocumentError


def keep_erased_out(items: Iterable[Item], uri: str, erasures: Erasures) -> Iterator[Item]:
    """Yield the items; an erased document becomes a reject with a hash alone. Deletions stay: they hold no text."""
    for item in items:
        name = _name(item) if erasures.entries else None
        if name is None or erasures.verdict(*name, item.timestamp_ms if isinstance(item, Logged) else None) == "free":
            yield item
        else:
            yield Reject(uri, ERASED, erasures.refusal(*name))


def erased_in(files: Iterable[Path], erasures: Erasures) -> dict[tuple[str, str], str]:
    """Return the documents of a snapshot that were erased since it was taken, each with the reason."""
    if not erasures.entries:
        return {}
    rows = read_rows(*files, columns=["source", "key", "log_timestamp_ms"])
    return {
        (row["source"], row["key"]): erasures.refusal(row["source"], row["key"])
        for row in rows
        if erasures.verdict(row["source"], row["key"], row["log_timestamp_ms"]) != "free"
    }


def _name(item: Item) -> tuple[str, str] | None:
    """Return source and key of an item that may hold text of a document; None for any other item."""
    document = item.item if isinstance(item, Logged) else item.document if isinstance(item, Made) else item
    if isinstance(document, Document | Judgement):
        return document.source, document.key
    if isinstance(document, Reject) and document.key.startswith("["):
        # The reject of an unreadable message still quotes the beginning of its value.
        try:
            broken = decode_message(document.key.encode(), None)
        except DocumentError:
            return None
        return broken.source, broken.key
    return None
