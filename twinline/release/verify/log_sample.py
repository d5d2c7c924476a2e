"""The index's expected content by the log: every key, and a sample of documents in full."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from twinline.clients.kafka.erasures import current_erasures
from twinline.clients.kafka.stretch import read_topic
from twinline.clients.kafka.topic_order import append_ms
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Deletion, Document, Version, decode_message, version_of
from twinline.contract.errors import DocumentError

DocumentKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class LogState:
    """The log folded as a consumer folds it.

    Args:
        versions: the newest version of each key, deletions included.
        deleted: the keys whose newest state is a deletion.
        documents: the newest state of the sampled keys, unless that is a deletion.
        contents: a hash of each document's title and text; none for a deleted document.
        ends: the offset after the last read message, by partition.
    """

    versions: dict[DocumentKey, Version] = field(default_factory=dict)
    deleted: set[DocumentKey] = field(default_factory=set)
    documents: dict[DocumentKey, Document] = field(default_factory=dict)
    contents: dict[DocumentKey, bytes] = field(default_factory=dict)
    ends: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Say whether the log leaves no document to be indexed."""
        return len(self.deleted) == len(self.versions)

    def take(self, item: Document | Deletion, version: Version, is_sampled: bool) -> None:
        """Fold one message in; an older version changes nothing.

        Raises:
            DocumentError: its kind of version is not the key's.
        """
        name = (item.source, item.key)
        known = self.versions.get(name)
        if known is not None and version < known:
            return
        self.versions[name] = version.after(known)
        if isinstance(item, Deletion):
            self.deleted.add(name)
            self.contents.pop(name, None)
        else:
            self.deleted.discard(name)
            self.contents[name] = content_digest(item.title, item.text)
        if isinstance(item, Document) and is_sampled:
            self.documents[name] = item
        else:
            self.documents.pop(name, None)

    def keep(self, one_in: int) -> None:
        """Leave only the sampled documents that a coarser choice samples too."""
        for name in [name for name in self.documents if not is_chosen(*name, one_in)]:
            del self.documents[name]


def read_log(settings: Settings, ends: Mapping[int, int], sample: int) -> LogState:
    """Read the topic up to `ends`, keeping between `sample` and twice as many documents whole, where it has so many.

    The choice depends on the log's keys alone, so a repeat samples the same documents. It does not depend on offsets, which are
    more than there are messages: markers of transactions, aborted and removed records have offsets too.

    Raises:
        TransientError: no broker answers, or it falls silent.
    """
    one_in = 1
    state = LogState(ends=dict(ends))
    erasures = current_erasures(settings)
    for record in read_topic(settings, settings.topic, ends=ends):
        try:
            item = decode_message(record.key, record.value, record.headers)
            if isinstance(item, Document) and erasures.verdict(item.source, item.key, record.timestamp) != "free":
                continue  # erased: no index may have it
            version = version_of(item, append_ms(settings, record), record.offset, record.headers, record.partition)
            state.take(item, version, is_chosen(item.source, item.key, one_in))
        except DocumentError:
            continue  # in the dead letters, where `refused_keys` looks
        while len(state.documents) > 2 * max(1, sample):
            # Each choice is a part of the one before: what was left out once is left out from now on.
            one_in *= 2
            state.keep(one_in)
    return state


def content_digest(title: str | None, text: str) -> bytes:
    """Return a hash of a document's content, for comparison with the corpus of the evaluation."""
    return hashlib.sha256(json.dumps([title or "", text]).encode()).digest()[:16]


def refused_keys(settings: Settings) -> set[bytes | None]:
    """Return the message keys in the dead letters."""
    return {record.key for record in read_topic(settings, settings.dead_letter_topic)}


def is_chosen(source: str, key: str, one_in: int) -> bool:
    """Say whether a document is in the sample."""
    digest = hashlib.sha256(f"{source}\n{key}".encode()).digest()
    return int.from_bytes(digest[:8]) % one_in == 0
