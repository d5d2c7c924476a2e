"""A folder, a file or an address of documents: docs/formats.md lists the kinds of file.

The key of a document is its path in the folder; documents that are rows of a table have a key column.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from etl.fields import FieldNames
from etl.source_state import NO_STAMP, Note, SourceState, mark_of
from etl.sources.compression import open_unpacked, unpacked, unpacked_name
from etl.sources.formats import READERS, max_file_bytes
from etl.sources.items import Item, Made, Reject, Same, checked
from etl.sources.places import Origins, Stamp, open_place
from etl.sources.tables import TABLES, table_items
from twinline.contract.canonical import JSON, sha256_hex
from twinline.contract.documents.records import Document
from twinline.contract.errors import DocumentError, SettingsError

SUPPORTED = (*READERS, *TABLES)


class Files:
    """The source `files:PATH_OR_URL`."""

    def __init__(self, name: str, location: str, fields: FieldNames) -> None:
        self.uri = f"files:{location}"
        self._place = open_place(location)
        self.name = name or self._place.stem
        self._fields = fields
        self._origins = Origins()
        self._names = [""] if self._place.is_file() else [n for n in self._place.names() if not _is_hidden(n)]
        if not any(_ending(self._label(name)) in SUPPORTED for name in self._names):
            raise SettingsError(
                f"{location} holds no file that can be read ({len(self._names)} files found): "
                f"point to a folder or file of {', '.join(SUPPORTED)}"
            )

    def items(self) -> Iterator[Item]:
        """Yield the documents of every file, by path and row."""
        return (item.document if isinstance(item, Made) else item for item in self._items(None))

    def items_since(self, state: SourceState) -> Iterator[Item]:
        """Yield the same items; an unchanged document is only named, as `Same`."""
        return self._items(state)

    def _items(self, state: SourceState | None) -> Iterator[Item]:
        for name in self._names:
            label, ending = self._label(name), _ending(self._label(name))
            if ending in TABLES:
                yield from self._table(name, label, ending, state)
            elif ending in READERS:
                yield self._known(name, label, state) or self._document(name, label, ending, state)
            else:
                yield Reject(label, "unsupported_format", f"no reader for {ending or 'a file without ending'}")

    def provenance(self) -> Mapping[str, JSON]:
        """Return address and hash of the files that hold documents, without hidden ones (a dot first)."""
        read = {self._label(name): name for name in self._names if _ending(self._label(name)) in SUPPORTED}
        # An unreadable file has no hash yet.
        hashes = {label: self._origins.hashes.get(label) or self._place.sha256(name) for label, name in read.items()}
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

    def _document(self, name: str, label: str, ending: str, state: SourceState | None) -> Item:
        limit = max_file_bytes(ending)
        try:
            # Taken before the file is read: a write meanwhile must change the stamp.
            stamp = self._stamp(name) if state else None
            with self._place.open(name) as stream:
                data = stream.read(limit + 1)
            if len(data) > limit:
                size = self._place.size(name)
                detail = f"{label}: {size or 'too many'} bytes, the limit is {limit}: split the document"
                return Reject(label, "too_large", detail)
            note = Note(stamp or NO_STAMP, sha256_hex(data))
            if same := self._same(name, label, note, state):
                return same
            title, text = READERS[ending](unpacked(data, label, limit), unpacked_name(label))
        except DocumentError as exc:
            return Reject(label, exc.reason, str(exc))
        except OSError as exc:
            return Reject(label, "unreadable", f"{label}: {exc}")
        if not text.strip():
            return Reject(label, "no_text", f"{label}: nothing to index is left of its {len(data)} bytes")
        self._origins.note(label, self._place.address(name), note.sha256)
        document = Document(self.name, label, text, title=title.strip(), metadata={"format": ending[1:]})
        item = self._origins.complete(checked(document, label))
        if state is None or isinstance(item, Reject):
            return item
        state.note(label, note)
        return Made(item, _mark(label, note.sha256))

    def _stamp(self, name: str) -> Stamp | None:
        try:
            return self._place.stamp(name)
        except OSError:
            return None  # the caller opens the file next and reports the reason

    def _table(self, name: str, label: str, ending: str, state: SourceState | None) -> Iterator[Item]:
        try:
            self._origins.note(label, self._place.address(name), self._place.sha256(name))
            with self._place.open(name) as packed, open_unpacked(packed, label) as stream:
                for item in table_items(stream, self.name, label, ending, self._fields, state):
                    yield Made(self._origins.complete(item.document), item.mark) if isinstance(item, Made) else item
        except DocumentError as exc:
            yield Reject(label, exc.reason, str(exc))
        except OSError as exc:
            yield Reject(label, "unreadable", f"{label}: {exc}")


def _mark(label: str, sha256: str) -> bytes:
    return mark_of(label.encode(errors="surrogateescape"), sha256.encode())


def _ending(name: str) -> str:
    return PurePosixPath(unpacked_name(name.lower())).suffix


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)
