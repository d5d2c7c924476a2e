"""Both sides of a comparison in a SQLite file: expected documents and stored points. Memory does not grow with either."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self
from uuid import UUID

from streaming.decode import Event, Message
from streaming.message_json import json_of_message, message_of_json
from twinline.clients.store.audit import PointFacts, is_newer
from twinline.clients.store.protocol import OWN_KINDS
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Version

_TABLES = """
CREATE TABLE wanted (
    doc TEXT PRIMARY KEY, source TEXT, key TEXT, kind TEXT, number INTEGER, offset INTEGER, partition INTEGER, message TEXT
);
CREATE TABLE aside (
    doc TEXT, source TEXT, key TEXT, kind TEXT, number INTEGER, offset INTEGER, partition INTEGER, message TEXT
);
CREATE INDEX aside_doc ON aside (doc);
CREATE TABLE moved (doc TEXT PRIMARY KEY);
CREATE TABLE points (id TEXT PRIMARY KEY, doc TEXT, facts TEXT);
CREATE INDEX points_doc ON points (doc);
"""
_VERSION = "kind, number, offset, partition"


class Ledger:
    """The expected state and the points of each document, by the id of its head."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None)
        # A temporary file needs no protection from a crash.
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._path.unlink(missing_ok=True)

    def take(self, event: Event) -> None:
        """Fold in one message of the log; an older version changes nothing.

        Raises:
            DocumentError: its kind of version is not the document's.
        """
        doc, version = _doc(event.item.source, event.item.key), event.version
        row = self._db.execute(f"SELECT {_VERSION} FROM wanted WHERE doc = ?", (doc,)).fetchone()  # noqa: S608 (a constant)
        standing = Version(*row) if row is not None else None
        if standing is not None and version < standing:
            return
        self._db.execute(
            "INSERT OR REPLACE INTO wanted VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _row(doc, event, version.after(standing))
        )

    def set_aside(self, event: Event) -> None:
        """Note a message that a consumer set aside; an index may still have it, if a later attempt passed."""
        row = _row(_doc(event.item.source, event.item.key), event, event.version)
        self._db.execute("INSERT INTO aside VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def note_moved(self, source: str, key: str) -> None:
        """Note that a document changed during the comparison: it is not judged."""
        self._db.execute("INSERT OR IGNORE INTO moved VALUES (?)", (_doc(source, key),))

    def add_points(self, facts: Iterable[PointFacts]) -> None:
        """Add the facts of stored points."""
        rows = (
            (str(point.id), _doc(point.source or "", point.key or ""), json.dumps(point.to_json()))
            for point in facts
            if point.kind not in OWN_KINDS
        )
        self._db.executemany("INSERT OR REPLACE INTO points VALUES (?, ?, ?)", rows)

    def documents(self) -> Iterator[tuple[str, Message]]:
        """Yield every expected document that did not change meanwhile: its id and its newest message."""
        query = "SELECT doc, message FROM wanted WHERE doc NOT IN (SELECT doc FROM moved) ORDER BY doc"
        for doc, message in self._db.execute(query):
            yield doc, message_of_json(json.loads(message))

    def points_of(self, doc: str) -> list[PointFacts]:
        """Return the stored points that name a document."""
        return [_facts(row) for row in self._db.execute("SELECT facts FROM points WHERE doc = ? ORDER BY id", (doc,))]

    def message_of(self, doc: str) -> Message | None:
        """Return the expected message of a document; the newest where all its messages were set aside."""
        row = self._db.execute("SELECT message FROM wanted WHERE doc = ?", (doc,)).fetchone()
        said = row[0] if row else self._newest_aside(doc)
        return message_of_json(json.loads(said)) if said else None

    def _newest_aside(self, doc: str) -> str | None:
        newest: tuple[Version, str] | None = None
        # In the order of the log, so that of two kinds of versions the first one counts.
        for *place, message in self._db.execute(f"SELECT {_VERSION}, message FROM aside WHERE doc = ? ORDER BY rowid", (doc,)):  # noqa: S608 (a constant)
            version = Version(*place)
            if newest is None or is_newer(version, newest[0]):
                newest = version.after(newest[0] if newest else None), message
        return newest[1] if newest else None

    def aside_with(self, doc: str, version: Version) -> Message | None:
        """Return the set-aside message of this version, if there is one."""
        rows = self._db.execute(f"SELECT {_VERSION}, message FROM aside WHERE doc = ?", (doc,))  # noqa: S608 (a constant)
        said = next((message for *place, message in rows if Version(*place).is_same_state(version)), None)
        return message_of_json(json.loads(said)) if said else None

    def documents_only_aside(self) -> Iterator[str]:
        """Yield the stored documents whose messages were all set aside."""
        query = """SELECT DISTINCT doc FROM points WHERE doc IN (SELECT doc FROM aside)
                   AND doc NOT IN (SELECT doc FROM wanted) AND doc NOT IN (SELECT doc FROM moved) ORDER BY doc"""
        yield from (doc for (doc,) in self._db.execute(query))

    def points_of_unknown(self) -> Iterator[PointFacts]:
        """Yield the points of documents that the log does not have, or of none."""
        query = """SELECT facts FROM points WHERE doc NOT IN (SELECT doc FROM wanted)
                   AND doc NOT IN (SELECT doc FROM aside) AND doc NOT IN (SELECT doc FROM moved) ORDER BY id"""
        yield from (_facts(row) for row in self._db.execute(query))

    def aside_count(self) -> int:
        """Return the number of documents whose newest state was set aside."""
        query = """SELECT a.doc, a.kind, a.number, a.offset, a.partition, w.kind, w.number, w.offset, w.partition
                   FROM aside a LEFT JOIN wanted w ON w.doc = a.doc"""
        return len(
            {row[0] for row in self._db.execute(query) if row[5] is None or is_newer(Version(*row[1:5]), Version(*row[5:]))}
        )

    def count(self, table: str) -> int:
        """Return the number of rows in a table."""
        return int(self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 (no name comes from outside)


def _doc(source: str, key: str) -> str:
    return str(head_id(source, key))


def _row(doc: str, event: Event, version: Version) -> tuple[object, ...]:
    message = json.dumps(json_of_message(event.message))
    place = version.kind, version.number, version.offset, version.partition
    return doc, event.item.source, event.item.key, *place, message


def _facts(row: tuple[str]) -> PointFacts:
    return PointFacts.from_json(json.loads(row[0]))


def doc_id(doc: str) -> UUID:
    """Return the id of a document's head."""
    return UUID(doc)
