"""A folder, a file or an address of documents: docs/formats.md lists the kinds of file.

The key of a document is its path in the folder; documents that are rows of a table have a key column.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import BinaryIO

from etl.fields import FieldNames
from etl.reading.reader import Reader, lent_reader
from etl.source_state import NO_STAMP, Note, SourceState, mark_of
from etl.sources.compression import open_unpacked, unpacked_name
from etl.sources.formats import READERS, max_file_bytes
from etl.sources.items import Item, Made, Reject, Same, checked, excerpt, guarded
from etl.sources.listing import Listing
from etl.sources.places import Origins, Stamp, open_place
from etl.sources.tables import LINES, TABLES, Rows, table_items
from twinline.contract.canonical import JSON, is_text, sha256_hex
from twinline.contract.documents.records import Document
from twinline.contract.errors import SettingsError

SUPPORTED = (*READERS, *TABLES)


class Files:
    """The source `files:PATH_OR_URL`."""

    def __init__(self, name: str, location: str, fields: FieldNames) -> None:
        self.uri = f"files:{location}"
        self._place = open_place(location)
        self.name = name
        self._fields = fields
        self._origins = Origins()
        found = Listing([""]) if self._place.is_file() else self._place.listing()
        self._names = [name for name in found.names if is_text(name)]
        self._left_out = [*found.left_out, *(_unnameable(name) for name in found.names if not is_text(name))]
        if not any(_ending(self._label(name)) in SUPPORTED for name in self._names):
            first = f"; {self._left_out[0].detail}" if self._left_out else ""
            raise SettingsError(
                f"{location} holds no file that can be read ({len(self._names)} files found{first}): "
                f"point to a folder or file of {', '.join(SUPPORTED)}"
            )

    def items(self) -> Iterator[Item]:
        """Yield the documents of every file, by path and row."""
        return (item.document if isinstance(item, Made) else item for item in self._items(None))

    def items_since(self, state: SourceState) -> Iterator[Item]:
        """Yield the same items; an unchanged document is only named, as `Same`."""
        return self._items(state)

    def _items(self, state: SourceState | None) -> Iterator[Item]:
        yield from self._left_out
        with lent_reader() as reader:
            for name in self._names:
                label, ending = self._label(name), _ending(self._label(name))
                if ending in TABLES:
                    yield from guarded(label, self._table(name, label, ending, state, reader))
                elif ending in READERS:
                    if known := self._known(name, label, state):
                        yield known
                    else:
                        yield from guarded(label, self._document(name, label, ending, state, reader))
                else:
                    yield Reject(label, "unsupported_format", f"no reader for {ending or 'a file without ending'}")

    def provenance(self) -> Mapping[str, JSON]:
        """Return address and hash of the files that hold documents, without hidden ones (a dot first).

        The hash of a file that could not be read is null.
        """
        read = {self._label(name): name for name in self._names if _ending(self._label(name)) in SUPPORTED}
        hashes: dict[str, JSON] = {label: self._origins.hashes.get(label) for label in read}
        return {"files": hashes, "uris": {label: self._place.address(name) for label, name in read.items()}}

    def _label(self, name: str) -> str:
        return name or PurePosixPath(self._place.root.partition("?")[0]).name

    def _known(self, name: str, label: str, state: SourceState | None) -> Same | None:
        """Return a file's document without opening the file, if it was not touched since the last ingest."""
        stamp = self._stamp(name) if state else None
        note = state.note_of(label, stamp) if state else None
        return None if note is None else self._same(name, label, note, state)

    def _same(self, name: str, label: str, note: Note, state: SourceState | None) -> Same | None:
        (row,) = state.rows([_mark(label, note.sha256)]) if state else (-1,)
        if row < 0 or state is None:
            return None
        state.note(label, note)
        self._origins.note(label, self._place.address(name), note.sha256)
        return Same(row)

    def _document(self, name: str, label: str, ending: str, state: SourceState | None, reader: Reader) -> Iterator[Item]:
        limit = max_file_bytes(ending)
        # Taken before the file is read: a write meanwhile must change the stamp.
        stamp = self._stamp(name) if state else None
        with self._place.open(name) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            size = self._place.size(name)
            detail = f"{label}: {size or 'too many'} bytes, the limit is {limit}: split the document"
            yield Reject(label, "too_large", detail)
            return
        note = Note(stamp or NO_STAMP, sha256_hex(data))
        self._origins.note(label, self._place.address(name), note.sha256)
        if same := self._same(name, label, note, state):
            yield same
            return
        title, text = reader.document(data, label, ending, limit)
        if not text.strip():
            yield Reject(label, "no_text", f"{label}: nothing to index is left of its {len(data)} bytes")
            return
        document = Document(self.name, label, text, title=title.strip(), metadata={"format": ending[1:]})
        item = self._origins.complete(checked(document, label))
        if state is None or isinstance(item, Reject):
            yield item
        else:
            state.note(label, note)
            yield Made(item, _mark(label, note.sha256))

    def _stamp(self, name: str) -> Stamp | None:
        try:
            return self._place.stamp(name)
        except OSError:
            return None  # the caller opens the file next and reports the reason

    def _table(self, name: str, label: str, ending: str, state: SourceState | None, reader: Reader) -> Iterator[Item]:
        with self._place.stored(name) as (stored, sha256):
            self._origins.note(label, self._place.address(name), sha256)
            size = os.fstat(stored.fileno()).st_size

            def rows(stream: BinaryIO, place: str) -> Rows:
                return reader.rows(stream, size, place, ending)

            # Lines are cut here, so that an unchanged one is not even parsed; any other table is read by the child as a whole.
            stream = open_unpacked(stored, label) if ending in LINES else stored
            is_empty = True
            for item in table_items(stream, self.name, label, ending, self._fields, state, rows, reader.line):
                is_empty = False
                yield Made(self._origins.complete(item.document), item.mark) if isinstance(item, Made) else item
            if is_empty:  # as a file that was cut off at once is
                yield Reject(label, "no_rows", f"{label}: a table without a row, of {size} bytes: remove it if that is right")


def _mark(label: str, sha256: str) -> bytes:
    return mark_of(label.encode(errors="surrogateescape"), sha256.encode())


def _ending(name: str) -> str:
    return PurePosixPath(unpacked_name(name.lower())).suffix


def _unnameable(name: str) -> Reject:
    shown = excerpt(name)
    return Reject(shown, "invalid_name", f"{shown}: a name that is not UTF-8 is no key: rename the file")
