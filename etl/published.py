"""What was published last, per source and topic: what makes a second publication send only the difference."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from contract.canonical import fingerprint
from contract.records import Document, content_hash

_SCHEMA = pa.schema([("key", pa.large_string()), ("content_hash", pa.large_string()), ("version", pa.int64())])
_END_OFFSETS = b"twinline_end_offsets"


@dataclass(frozen=True, slots=True)
class State:
    """One document as it was published: the hash of what it said, and its explicit version, if it had one."""

    content_hash: str
    version: int | None

    @classmethod
    def of(cls, document: Document) -> "State":
        """Return the state that publishing a document leads to."""
        return cls(content_hash(document), document.version)


@dataclass(slots=True)
class Published:
    """The states of one source's documents on one topic."""

    path: Path
    states: dict[str, State] = field(default_factory=dict)

    def save(self, end_offsets: Mapping[int, int]) -> None:
        """Write the states, with the end of the log that they belong to; beside, then renamed."""
        keys = sorted(self.states)
        columns = {
            "key": keys,
            "content_hash": [self.states[key].content_hash for key in keys],
            "version": [self.states[key].version for key in keys],
        }
        ends = json.dumps({str(partition): offset for partition, offset in end_offsets.items()})
        table = pa.table(columns, schema=_SCHEMA.with_metadata({_END_OFFSETS: ends.encode()}))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{uuid4().hex}")
        pq.write_table(table, beside)
        beside.replace(self.path)


def load_published(folder: Path, broker: str, topic: str, source: str, end_offsets: Mapping[int, int]) -> Published:
    """Return what was published to a topic before; nothing if the log has lost messages since.

    Args:
        end_offsets: the log's ends now. A log that ends before the place we saw was made anew: nothing of ours is sure to
            be on it, and all is sent again, which costs time but no correctness.
    """
    path = folder / f"{fingerprint([broker, topic, source])[:16]}.parquet"
    if not path.exists():
        return Published(path)
    table = pq.read_table(path)
    seen = json.loads(table.schema.metadata[_END_OFFSETS])
    if any(end_offsets.get(int(partition), 0) < offset for partition, offset in seen.items()):
        return Published(path)
    columns = (table[name].to_pylist() for name in ("key", "content_hash", "version"))
    return Published(path, {key: State(digest, version) for key, digest, version in zip(*columns, strict=True)})
