"""The state of a source after its last ingest: the next ingest reads only the changes.

    <home>/kept/ingest-SOURCE-IDENTITY.parquet         a mark for each document of the last snapshot, in its order
    <home>/kept/ingest-SOURCE-IDENTITY.files.parquet   stamp and hash of each file that was read

A mark stands for a document's place and raw content: its bytes, or an API's id and time of the last edit. The identity covers
everything else that decides the document: the source, its columns, the code, the libraries that read files. The documents
themselves lie in the snapshot store. A snapshot made with a state equals one made without, byte for byte, and removing the folder
costs time only.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from etl.block_tables import Run, TableWriter, read_blocks
from etl.marks import MARK_BYTES, Marks, marks_of_bytes
from etl.snapshots import RECORD, document_files, verify_snapshot
from etl.sources.items import Item, Source
from etl.storage import DOCUMENTS
from twinline.clients.code import code_hashes
from twinline.clients.erasure_list import Erasures
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.errors import ContractError

# Of a document that the next ingest must read again.
NO_MARK: Final = bytes(MARK_BYTES)
# Of a file whose changes only its bytes show.
NO_STAMP: Final = (-1, -1, -1, -1)
_MARK = pa.schema([("mark", pa.binary(MARK_BYTES))])
_STAMP: Final = ("size", "mtime_ns", "ctime_ns", "inode")
_FILES = pa.schema(
    [
        ("place", pa.large_string()),
        *((name, pa.int64()) for name in _STAMP),
        ("sha256", pa.string()),
        ("found", pa.large_string()),
    ]
)
_SNAPSHOT: Final = b"twinline_snapshot"
# A file changed this shortly before it is read may change again under the same stamp, as in Git's index.
_FRESH_NS: Final = 2_000_000_000
# The code that decides a document beside its source.
CODE: Final = (
    *("etl.ingest", "etl.fields", "etl.sources", "etl.reading"),
    *("twinline.contract.canonical", "twinline.contract.errors", "twinline.contract.documents"),
)
# The libraries that read files.
_READERS: Final = (
    *("selectolax", "webencodings", "markdown-it-py", "pypdf", "pyyaml", "pyarrow", "rfc8785"),
    *("python-docx", "python-pptx", "openpyxl", "lxml", "defusedxml", "docutils", "zstandard"),
)

if TYPE_CHECKING:
    from etl.fields import FieldNames
    from etl.sources.places import Stamp


@dataclass(frozen=True, slots=True)
class Note:
    """A known file: its hash under this stamp, and the findings of its source, as JSON of the source's own."""

    stamp: "Stamp"
    sha256: str
    found: str = ""


class SourceState:
    """One source's state: read from the last ingest, and saved for the next.

    Args:
        folder: the folder of the state's files.
        store: the snapshot store, which has the documents.
        source: name and address of the source.
        identity: everything beside raw content and code that decides a document.
    """

    def __init__(self, folder: Path, store: Path, source: Mapping[str, JSON], identity: Mapping[str, JSON]) -> None:
        self._group = f"ingest-{fingerprint(dict(source))[:16]}"
        whole = {
            **source,
            **identity,
            **code_hashes(*CODE),
            "python": sys.version,
            **{name: _version(name) for name in _READERS},
        }
        self._path = folder / f"{self._group}-{fingerprint(whole)[:16]}.parquet"
        self._files_path = self._path.with_suffix(".files.parquet")
        self._began_ns = time.time_ns()
        self._notes: dict[str, Note] = {}
        self._old_notes: dict[str, Note] = {}
        self._documents: list[Path] = []
        self._marks = Marks(marks_of_bytes(()))
        self.arrivals: NDArray[np.int64] = np.empty(0, np.int64)
        self.lines: NDArray[np.int64] = np.empty(0, np.int64)
        self._made: list[bytes] = []
        self._load(store)

    def rows(self, marks: Sequence[bytes]) -> list[int]:
        """Return the document behind each mark, as its row in the last snapshot, -1 for none; a row is returned once."""
        found: list[int] = self._marks.rows(marks_of_bytes(marks)).tolist()
        for place, row in enumerate(found):
            if row >= 0:
                # The same line twice is a document and a duplicate, and the ingest rejects the duplicate.
                found[place] = -1 if self._given[row] else row
                self._given[row] = True
        return found

    def take(self, row: int, arrival: int, line: int | None) -> None:
        """Note the place of an unchanged document in the source."""
        self.arrivals[row] = arrival
        self.lines[row] = -1 if line is None else line

    def note_of(self, place: str, stamp: "Stamp | None") -> Note | None:
        """Return the note on a file, if the file has not been touched since."""
        note = self._old_notes.get(place)
        return note if note is not None and note.stamp == stamp else None

    def note(self, place: str, note: Note) -> None:
        """Note a file for the next ingest, unless it is so fresh that a later change might not show in its stamp."""
        if note.stamp != NO_STAMP and max(note.stamp[1:3]) < self._began_ns - _FRESH_NS:
            self._notes[place] = note

    def run(self, keys: Sequence[str]) -> Run:
        """Return the unchanged documents, as rows in order."""
        taken = self.arrivals >= 0
        named = [name for name in keys if name != "arrival"]
        held = [block.select(named) for block in self._standing(read_blocks(self._documents, DOCUMENTS, named))]
        whole = pa.concat_tables(held) if held else DOCUMENTS.empty_table().select(named)
        return Run(whole.append_column("arrival", pa.array(self.arrivals[taken])), self._whole())

    def made(self, marks: pa.ChunkedArray) -> None:
        """Add the marks of the next documents of the new snapshot."""
        self._made += [
            bytes(piece.buffers()[1])[piece.offset * MARK_BYTES : (piece.offset + len(piece)) * MARK_BYTES]
            for piece in marks.chunks
        ]

    def save(self, snapshot: str) -> None:
        """Write the state of this ingest, once the store has its snapshot."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        schema = _MARK.with_metadata({_SNAPSHOT: snapshot.encode()})
        with TableWriter(beside, schema, store_schema=True, write_page_checksum=True) as writer:
            for piece in self._made:
                column = pa.FixedSizeBinaryArray.from_buffers(
                    _MARK.field(0).type, len(piece) // MARK_BYTES, [None, pa.py_buffer(piece)]
                )
                writer.write(pa.table([column], schema=schema))
        notes = [
            {"place": place, **dict(zip(_STAMP, note.stamp, strict=True)), "sha256": note.sha256, "found": note.found}
            for place, note in self._notes.items()
        ]
        files = self._files_path.with_name(f".{self._files_path.name}.{os.getpid()}")
        pq.write_table(pa.Table.from_pylist(notes, schema=_FILES), files, compression="zstd", write_page_checksum=True)
        for old in self._path.parent.glob(f"{self._group}-*.parquet"):
            if old not in (self._path, self._files_path):
                old.unlink(missing_ok=True)
        files.replace(self._files_path)
        beside.replace(self._path)

    def _load(self, store: Path) -> None:
        self._given: NDArray[np.bool_] = np.empty(0, np.bool_)
        if not (self._path.is_file() and self._files_path.is_file()):
            return
        try:
            with ExitStack() as at_exit:
                marked, files = (
                    at_exit.enter_context(pq.ParquetFile(path, page_checksum_verification=True))
                    for path in (self._path, self._files_path)
                )
                marks, notes = marked.read()["mark"].to_pylist(), files.read().to_pylist()
                snapshot = marked.schema_arrow.metadata[_SNAPSHOT].decode()
        except (OSError, KeyError, pa.ArrowException) as exc:
            raise ContractError(f"{self._path} is damaged ({exc}): remove it; the source is then read as a whole") from exc
        folder = store / snapshot
        if not (folder / RECORD).is_file():
            return  # removed from the store, and the documents with it
        if verify_snapshot(folder).counts["documents"] != len(marks):
            raise ContractError(
                f"{self._path} does not belong to snapshot {snapshot}: remove it; the source is then read as a whole"
            )
        self._documents = document_files(folder)
        self._marks = Marks(marks_of_bytes(marks))
        self._given = np.array([mark == NO_MARK for mark in marks], np.bool_)
        self.arrivals = np.full(len(marks), -1, np.int64)
        self.lines = np.full(len(marks), -1, np.int64)
        self._old_notes = {
            row["place"]: Note((row["size"], row["mtime_ns"], row["ctime_ns"], row["inode"]), row["sha256"], row["found"])
            for row in notes
        }
        self._all_marks = np.frombuffer(b"".join(marks), dtype=f"V{MARK_BYTES}")

    def _standing(self, blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield the rows of unchanged documents."""
        first = 0
        for block in blocks:
            taken = self.arrivals[first : first + block.num_rows] >= 0
            first += block.num_rows
            yield block.filter(pa.array(taken))

    def _whole(self) -> Iterator[pa.Table]:
        """Yield the unchanged documents, with the further columns of an ingest's spool."""
        first = 0
        for block in read_blocks(self._documents, DOCUMENTS):
            rows = slice(first, first + block.num_rows)
            first += block.num_rows
            lines, arrivals = self.lines[rows], self.arrivals[rows]
            block = block.set_column(block.schema.get_field_index("line"), "line", pa.array(lines, mask=lines < 0))
            marks = pa.FixedSizeBinaryArray.from_buffers(
                _MARK.field(0).type, block.num_rows, [None, pa.py_buffer(np.ascontiguousarray(self._all_marks[rows]))]
            )
            block = block.append_column("is_deleted", pa.array(np.zeros(block.num_rows, np.bool_)))
            block = block.append_column("arrival", pa.array(arrivals)).append_column("mark", marks)
            yield block.filter(pa.array(arrivals >= 0))


@runtime_checkable
class Selective(Protocol):
    """A source that can skip documents unchanged since its last ingest."""

    def items_since(self, state: SourceState) -> Iterator[Item]:
        """Yield the items of `items`, but an unchanged document as `Same`, and a changed one as `Made` with its mark.

        A mark stands for everything at the source that decides the document: its bytes, or an API's id and time of the last
        edit. An edit so fresh that another may follow under the same time has no mark: yield the document itself.
        """
        ...


def open_source_state(source: Source, settings: Settings, fields: "FieldNames", erasures: Erasures) -> SourceState | None:
    """Return the state of a source; None for a source that cannot use one."""
    if not isinstance(source, Selective):
        return None
    entries: list[JSON] = [[token, entry.at_ms, entry.lifted_ms] for token, entry in sorted(erasures.entries.items())]
    where: dict[str, JSON] = {"name": source.name, "uri": source.uri}
    return SourceState(settings.kept, settings.snapshots, where, {"fields": list(astuple(fields)), "erasures": entries})


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""  # of the extra `formats`: its files are rejects until it is installed


def mark_of(*parts: bytes) -> bytes:
    """Return the mark of the parts of a document's raw content; the borders between parts count."""
    digest = blake2b(digest_size=MARK_BYTES)
    for part in parts[:-1]:
        digest.update(b"%d:" % len(part) + part)
    digest.update(parts[-1])
    return digest.digest()
