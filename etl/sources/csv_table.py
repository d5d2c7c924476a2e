"""CSV as programs write it: the delimiter is found, or said by a line `sep=`; a broken row is one reject."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import PurePosixPath
from typing import BinaryIO, Final

from etl.sources.items import Reject, excerpt
from etl.sources.lines import twice_in
from twinline.contract.documents.records import MAX_TEXT_BYTES

# Where two fit equally well, the first one is taken.
_DELIMITERS: Final = (",", ";", "\t", "|")
_SAMPLE_CHARS: Final = 64 << 10
_SEP: Final = re.compile(r"\"?sep=(.)\"?\s*", re.IGNORECASE)
_REMEDY: Final = "if Excel wrote it, save it there as `CSV UTF-8`"


def read_csv_rows(stream: BinaryIO, place: str) -> Iterator[tuple[int, dict[str, str]] | Reject]:
    """Yield the rows of a CSV file with a header; a file whose name says TSV has tabs."""
    csv.field_size_limit(2 * MAX_TEXT_BYTES)
    # Undecodable bytes become half surrogates, so that they cost one row and not the file.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        sample = list(_sample(text))
        said = _SEP.fullmatch(sample[0]) if sample else None
        has_tabs = ".tsv" in PurePosixPath(place.lower()).suffixes[-2:]
        delimiter = said[1] if said else "\t" if has_tabs else _delimiter(sample)
        yield from _rows(chain(sample[1:] if said else sample, text), delimiter, place, 1 if said else 0)


def _sample(text: Iterable[str]) -> Iterator[str]:
    size = 0
    for line in text:
        yield line
        size += len(line)
        if size > _SAMPLE_CHARS:
            return


def _delimiter(sample: Sequence[str]) -> str:
    """Return the delimiter by which the most rows have as many fields as the header, and the header the most fields."""
    fits: dict[str, tuple[float, int]] = {}
    for delimiter in _DELIMITERS:
        reader = csv.reader(sample, delimiter=delimiter, skipinitialspace=True)
        try:
            widths = [len(row) for row in reader if row]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            # The sample may end inside its last row.
            whole = widths[: max(2, len(widths) - 1)]
            fits[delimiter] = (sum(width == widths[0] for width in whole) / len(whole), widths[0])
    return max(fits, key=lambda delimiter: fits[delimiter]) if fits else _DELIMITERS[0]


def _rows(text: Iterable[str], delimiter: str, place: str, before: int) -> Iterator[tuple[int, dict[str, str]] | Reject]:
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
    header: list[str] = []
    named: list[bool] = []
    while True:
        line = before + reader.line_num + 1  # a quoted field may span lines: the row's first one
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            # An unclosed quote takes the rest of the file with it.
            yield Reject(place, "invalid_csv", f"{exc}; lines {line} to {before + reader.line_num} are lost", line)
            continue
        raw = delimiter.join(row)
        broken = next((field for field in row if not field.isascii() and _is_broken(field)), None)
        if not row:
            continue
        if broken is not None:
            shown = excerpt(raw.encode(errors="surrogateescape"))
            what = "the row" if header else "the header"
            yield Reject(place, "invalid_utf8", f"{what} is not UTF-8: {_REMEDY}", line, raw=shown)
            if not header:
                return
        elif not header:
            named = [bool(name.strip()) for name in row]
            header = [name.strip() or f"column {number}" for number, name in enumerate(row, 1)]
            if twice := twice_in(header):
                yield duplicate_columns(place, twice, line)
                return
        elif len(row) != len(header):
            detail = f"{len(row)} fields, the header has {len(header)} (the delimiter is {delimiter!r})"
            yield Reject(place, "wrong_field_count", detail, line, raw=excerpt(raw))
        else:
            # A column without name and value is a delimiter at the line's end.
            columns = zip(header, named, row, strict=True)
            yield line, {name: value for name, is_named, value in columns if is_named or value}


def duplicate_columns(place: str, names: Sequence[str], line: int) -> Reject:
    """Return the reject of a table of which one column would hide another."""
    shown = ", ".join(repr(name[:60]) for name in names[:10])
    return Reject(place, "duplicate_column", f"more than one column is named {shown}: rename or remove all but one", line)


def _is_broken(field: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in field)
