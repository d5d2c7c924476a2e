"""What the last ingest of a source made, by what it was made of: the next one reads only what changed.

    <home>/kept/ingest-SOURCE-IDENTITY.parquet         a mark for each document of the last snapshot, in its order
    <home>/kept/ingest-SOURCE-IDENTITY.files.parquet   stamp and hash of each file that was read

A mark covers the bytes that a document was made of and its place; the identity all else that decides it: the source, its columns,
the code, the libraries that read files. The documents themselves lie in the snapshot store. So a snapshot made with what is
remembered is the one that would be made from nothing, byte for byte, and removing the folder costs time only.
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
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from etl.block_tables import Run, TableWriter, stream
from etl.marks import MARK_BYTES, Marks, marks_of_bytes
from etl.snapshots import RECORD, document_files, verify_snapshot
from etl.sources.items import Selective, Source
from etl.storage import DOCUMENTS
from twinline.clients.code import code_hashes
from twinline.clients.erasure_list import Erasures
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.errors import ContractError

NO_MARK: Final = bytes(MARK_BYTES)
# Of a file that only its bytes can tell.
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
# A file changed within so short a time of our look may change again under the same stamp, as Git's index has it too.
_FRESH_NS: Final = 2_000_000_000
# What decides a document beside its source.
CODE: Final = (
    *("etl.ingest", "etl.fields", "etl.sources"),
    *("twinline.contract.canonical", "twinline.contract.errors", "twinline.contract.documents"),
)
# What reads files beside our own code.
_READERS: Final = ("beautifulsoup4", "markdown-it-py", "pypdf", "pyyaml", "pyarrow", "rfc8785")

if TYPE_CHECKING:
    from etl.fields import FieldNames
    from etl.sources.places import Stamp


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of a file: its hash when it had this stamp, and what its source found in it (its own JSON)."""

    stamp: "Stamp"
    sha256: str
    found: str = ""


class Remembered:
    """One source's last ingest; at the end of this one it becomes this one's.

    Args:
        folder: where it is kept.
        store: the snapshot store, which has the documents.
        source: name and address of the source.
        identity: what decides a document beside the bytes it is made of and this code.
    """

    def __init__(self, folder: Path, store: Path, source: Mapping[str, JSON], identity: Mapping[str, JSON]) -> None:
        self._group = f"ingest-{fingerprint(dict(source))[:16]}"
        whole = {
            **source,
            **identity,
            **code_hashes(*CODE),
            "python": sys.version,
            **{name: metadata.version(name) for name in _READERS},
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
        """Return which document was made of each, -1 for none; a document is given away once."""
        found: list[int] = self._marks.rows(marks_of_bytes(marks)).tolist()
        for place, row in enumerate(found):
            if row >= 0:
                # Twice the same line is a document and a duplicate, which is for the ingest to say.
                found[place] = -1 if self._given[row] else row
                self._given[row] = True
        return found

    def take(self, row: int, arrival: int, line: int | None) -> None:
        """Note where a known document stands in the source this time."""
        self.arrivals[row] = arrival
        self.lines[row] = -1 if line is None else line

    def note_of(self, place: str, stamp: "Stamp | None") -> Note | None:
        """Return what is known of a file, if it has not been touched since."""
        note = self._old_notes.get(place)
        return note if note is not None and note.stamp == stamp else None

    def note(self, place: str, note: Note) -> None:
        """Remember a file for the next time, unless it is too fresh to be told from a later state."""
        if note.stamp != NO_STAMP and max(note.stamp[1:3]) < self._began_ns - _FRESH_NS:
            self._notes[place] = note

    def run(self, keys: Sequence[str]) -> Run:
        """Return the known documents that the source still has, as rows in order."""
        taken = self.arrivals >= 0
        named = [name for name in keys if name != "arrival"]
        held = [block.select(named) for block in self._standing(stream(self._documents, DOCUMENTS, named))]
        whole = pa.concat_tables(held) if held else DOCUMENTS.empty_table().select(named)
        return Run(whole.append_column("arrival", pa.array(self.arrivals[taken])), self._whole())

    def made(self, marks: pa.ChunkedArray) -> None:
        """Take the marks of the next documents of the new snapshot."""
        self._made += [
            bytes(piece.buffers()[1])[piece.offset * MARK_BYTES : (piece.offset + len(piece)) * MARK_BYTES]
            for piece in marks.chunks
        ]

    def save(self, snapshot: str) -> None:
        """Keep what this ingest made, now that the store has its snapshot."""
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
                kept, files = (
                    at_exit.enter_context(pq.ParquetFile(path, page_checksum_verification=True))
                    for path in (self._path, self._files_path)
                )
                marks, notes = kept.read()["mark"].to_pylist(), files.read().to_pylist()
                snapshot = kept.schema_arrow.metadata[_SNAPSHOT].decode()
        except (OSError, KeyError, pa.ArrowException) as exc:
            raise ContractError(f"{self._path} is damaged ({exc}): remove it; the source is then read as a whole") from exc
        folder = store / snapshot
        if not (folder / RECORD).is_file():
            return  # removed from the store: there is nothing to take the documents from
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
        """Yield the rows that the source still has."""
        first = 0
        for block in blocks:
            taken = self.arrivals[first : first + block.num_rows] >= 0
            first += block.num_rows
            yield block.filter(pa.array(taken))

    def _whole(self) -> Iterator[pa.Table]:
        """Yield the known documents that the source still has, with what else an ingest holds of a row."""
        first = 0
        for block in stream(self._documents, DOCUMENTS):
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


def remembered_of(source: Source, settings: Settings, fields: "FieldNames", erasures: Erasures) -> Remembered | None:
    """Return what is remembered of a source; None for one that cannot make use of it."""
    if not isinstance(source, Selective):
        return None
    entries: list[JSON] = [[token, entry.at_ms, entry.lifted_ms] for token, entry in sorted(erasures.entries.items())]
    where: dict[str, JSON] = {"name": source.name, "uri": source.uri}
    return Remembered(settings.kept, settings.snapshots, where, {"fields": list(astuple(fields)), "erasures": entries})


def mark_of(*parts: bytes) -> bytes:
    """Return the mark of what a document is made of; where one part ends and the next begins counts."""
    digest = blake2b(digest_size=MARK_BYTES)
    for part in parts[:-1]:
        digest.update(b"%d:" % len(part) + part)
    digest.update(parts[-1])
    return digest.digest()
