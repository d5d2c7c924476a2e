"""The states of the last publication, per source and topic: a second publication sends only the difference."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from twinline.contract.canonical import fingerprint
from twinline.contract.documents.records import Deletion, Document, content_hash

_SCHEMA = pa.schema(
    [
        ("key", pa.large_string()),
        ("content_hash", pa.large_string()),
        ("version", pa.int64()),
        ("place", pa.large_string()),
        ("address", pa.large_string()),
    ]
)
_END_OFFSETS = b"twinline_end_offsets"


@dataclass(frozen=True, slots=True)
class State:
    """One published document; states of equal content and version are equal, wherever the document was read.

    Args:
        version: its explicit version, if it had one.
        place: the source's name of the file that it came from; empty: unknown.
        address: the absolute address of that file, or the name of another origin; empty: unknown.
    """

    content_hash: str
    version: int | None
    place: str = field(default="", compare=False)
    address: str = field(default="", compare=False)

    @classmethod
    def of(cls, document: Document, address: str = "") -> "State":
        """Return the state of a document once it is published."""
        place = document.origin.place if document.origin else ""
        return cls(content_hash(document), document.version, place, address)


@dataclass(slots=True)
class Published:
    """The states of one source's documents on one topic."""

    path: Path
    states: dict[str, State] = field(default_factory=dict)

    def save(self, end_offsets: Mapping[int, int]) -> None:
        """Write the states with the log's ends that belong to them; written beside, then renamed."""
        keys = sorted(self.states)
        columns = {
            "key": keys,
            "content_hash": [self.states[key].content_hash for key in keys],
            "version": [self.states[key].version for key in keys],
            "place": [self.states[key].place or None for key in keys],
            "address": [self.states[key].address or None for key in keys],
        }
        ends = json.dumps({str(partition): offset for partition, offset in end_offsets.items()})
        table = pa.table(columns, schema=_SCHEMA.with_metadata({_END_OFFSETS: ends.encode()}))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{uuid4().hex}")
        pq.write_table(table, beside)
        beside.replace(self.path)


def load_published(folder: Path, broker: str, topic: str, source: str, end_offsets: Mapping[int, int]) -> Published:
    """Return the states of the last publication to a topic.

    Args:
        end_offsets: the log's ends when this run began. A log that ends before a saved end has lost messages, so every document
            counts as changed, which costs time and no correctness. The keys stay known, because indexes may hold them.
    """
    path = folder / f"{fingerprint([broker, topic, source])[:16]}.parquet"
    if not path.exists():
        return Published(path)
    table = pq.read_table(path)
    seen = json.loads(table.schema.metadata[_END_OFFSETS])
    is_lost = any(end_offsets.get(int(partition), 0) < offset for partition, offset in seen.items())
    # Older files have no columns for places.
    columns = (table[name].to_pylist() if name in table.column_names else [None] * len(table) for name in _SCHEMA.names)
    # A table has many documents: one string for all of them.
    shared: dict[str, str] = {"": ""}
    return Published(
        path,
        {
            key: State(
                "" if is_lost else digest, version, *(shared.setdefault(text, text) for text in (place or "", address or ""))
            )
            for key, digest, version, place, address in zip(*columns, strict=True)
        },
    )


class History:
    """The published states of every source in a feed.

    Args:
        folder: the folder of the states' files.
        broker: its address; another broker or topic has a history of its own.
        ends: the log's ends when this run begins; every confirmed message moves them.
    """

    def __init__(self, folder: Path, broker: str, topic: str, ends: Mapping[int, int]) -> None:
        self._place = (folder, broker, topic)
        self._ends_before = ends
        self._ends = dict(ends)
        self._sources: dict[str, Published] = {}

    def of(self, source: str) -> Published:
        """Return the states of one source's documents."""
        if source not in self._sources:
            self._sources[source] = load_published(*self._place, source, self._ends_before)
        return self._sources[source]

    def confirm(self, item: Document | Deletion, state: State | None, partition: int, offset: int) -> None:
        """Record that an item has reached the log, and where; a deletion has no state."""
        self._ends[partition] = max(offset + 1, self._ends.get(partition, 0))
        states = self.of(item.source).states
        if state is None:
            states.pop(item.key, None)
        else:
            states[item.key] = state

    def learn(self, source: str, key: str, state: State) -> None:
        """Record where a document lies that has not changed."""
        self.of(source).states[key] = state

    def save(self) -> None:
        """Write the states of every source."""
        for published in self._sources.values():
            if published.states or published.path.exists():
                published.save(self._ends)
