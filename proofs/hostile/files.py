"""Files made to harm, beside good neighbours: damage of every kind over every reader, bombs, and things that are no files."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Nothing that an ingest writes may hold it: it stands outside of every place.
OUTSIDE_TEXT: Final = "a text outside of every place"
_PER_PLACE: Final = 24
_SHORT_PLACES: Final = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or zip file to ingest.

    Args:
        hostile: relative names of what is meant to harm.
        neighbours: the keys of the documents that must be read.
    """

    path: Path
    hostile: Sequence[str]
    neighbours: Sequence[str]


def make_places(folder: Path, endings: Sequence[str], seed: int, *, short: bool = False) -> list[Place]:
    """Write the places and return them.

    Args:
        endings: of all readers.
        short: a few places, with files of every kind of damage.
    """
    rng = random.Random(seed)  # noqa: S311
    outside = folder / "outside"
    outside.mkdir(parents=True)
    (outside / "secret.md").write_text(f"# Secret\n\n{OUTSIDE_TEXT}\n")
    files = [*_damaged(endings, rng), *_bombs()]
    rng.shuffle(files)
    groups = [files[first : first + _PER_PLACE] for first in range(0, len(files), _PER_PLACE)]
    places = [_folder(folder / f"place-{number:02}", group) for number, group in enumerate(groups)]
    places = places[:_SHORT_PLACES] if short else places
    return [*places, _no_files(folder / "no-files", outside), *_archives(folder, rng)]


def _folder(path: Path, files: Sequence[tuple[str, bytes]]) -> Place:
    path.mkdir()
    neighbours = []
    for number, (name, content) in enumerate(files):
        (path / f"{number:02}-{name}").write_bytes(content)
        neighbours += _neighbours(path, number)
    return Place(path, [f"{number:02}-{name}" for number, (name, _) in enumerate(files)], neighbours)


def _neighbours(path: Path, number: int) -> list[str]:
    """Write a good document and a good table of two after a hostile file; return their keys."""
    (path / f"{number:02}-good.md").write_text(f"# Good {number}\n\nA neighbour of number {number}.\n")
    rows = [{"id": f"{path.name}-{number}-{row}", "text": f"Row {row} of table {number}."} for row in range(2)]
    (path / f"{number:02}-good.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [f"{number:02}-good.md", *(row["id"] for row in rows)]


# Damage: a sample of each kind of file, and what may become of one


def _damaged(endings: Sequence[str], rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for ending in endings:
        make = _SAMPLES.get(ending, _any_zipped)
        # Rows are named after their file: rows of one name would be set aside for that.
        for name, damage in _DAMAGES.items():
            yield f"{name}{ending}", damage(make(f"{name}{ending}"), rng)
        for method, pack in (("gz", _gzipped), ("bz2", bz2.compress), ("xz", lzma.compress)):
            packed = pack(make(f"{method}{ending}") * 50)
            yield f"cut{ending}.{method}", packed[: len(packed) // 2]


def _flipped(sample: bytes, rng: random.Random) -> bytes:
    data = bytearray(sample)
    for _ in range(max(1, len(data) // 50)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _spliced(sample: bytes, rng: random.Random) -> bytes:
    first, second = sorted(rng.randrange(len(sample)) for _ in range(2))
    return sample[first:second] * 20 + sample[:first]


def _numbers_grown(sample: bytes, rng: random.Random) -> bytes:
    return sample.replace(b"1", b"9" * 5_000).replace(b"2", b"-2147483649")


_DAMAGES: Final[Mapping[str, Callable[[bytes, random.Random], bytes]]] = {
    "empty": lambda sample, rng: b"",
    "byte": lambda sample, rng: rng.randbytes(1),
    "noise": lambda sample, rng: rng.randbytes(20_000),
    "cut": lambda sample, rng: sample[: rng.randrange(1, len(sample))],
    "headless": lambda sample, rng: sample[rng.randrange(1, len(sample)) :],
    "flipped": _flipped,
    "spliced": _spliced,
    "numbers": _numbers_grown,
    "zeros": lambda sample, rng: sample[: len(sample) // 2] + bytes(50_000),
    "utf16": lambda sample, rng: b"\xff\xfe" + sample.decode("latin-1").encode("utf-16-le"),
    "surrogates": lambda sample, rng: sample + b"\xed\xa0\x80\xed\xb0\x80",
    "brackets": lambda sample, rng: sample + b"[" * 20_000,
    "tags": lambda sample, rng: sample + b"<b>" * 10_000,
    "quote": lambda sample, rng: sample + b'\n"' + b"x," * 50_000,
    "line": lambda sample, rng: sample + b"x" * 2_000_000,
}


def _pdf(extra: bytes = b"", content: bytes = b"BT /F1 12 Tf 20 100 Td (Portable words) Tj ET", kids: bytes = b"3 0 R") -> bytes:
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[" + kids + b"]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<<" + extra + b"/Length %d>>stream\n" % len(content) + content + b"\nendstream",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, thing in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj" % number + thing + b"endobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    tail = b"xref\n0 6\n0000000000 65535 f \n%strailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (table, len(data))
    return data + tail


def _parquet(name: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    far = pa.array([0, 253402300800000000] * 50, pa.timestamp("us"))
    rows = [f"{name} {number} words" for number in range(100)]
    pq.write_table(pa.table({"id": rows, "text": rows, "until": far}), stream)
    return stream.getvalue()


def _any_zipped(name: str) -> bytes:
    """Return a zip file, as the documents of offices and e-books are."""
    return _zipped({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w>words 12</w>"})


def _zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # The time of packing would make other bytes, and another damage, of each run.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


_MARKDOWN: Final = (
    b"---\ntitle: Tides 2024\ndate: 2024-02-28\n---\n# Tides\n\nThe *moon* pulls [the sea](http://x) 12 times.\n\n"
    b"| a | b |\n|-|-|\n| 1 | 2 |\n"
)
_PAGE: Final = (
    b'<!doctype html><html><head><meta charset="utf-8"><title>Wind</title></head><body><p>Air &amp; 12 winds'
    b"<table><tr><td>1</table></body>"
)
_MAIL: Final = (
    b"From: a@b\r\nSubject: =?utf-8?q?Wind?=\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nAir 12.\r\n"
)


def _lines(name: str) -> bytes:
    rows = ({"id": f"{name} {number}", "title": "T", "text": "line 12", "n": [1, {"a": 2}]} for number in range(20))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _table(name: str, delimiter: str = ",") -> bytes:
    rows = [("id", "title", "text", "version"), *((f"{name} {number}", "T", '"one, 12\ntwo"', "1") for number in range(20))]
    return "".join(delimiter.join(row) + "\n" for row in rows).encode()


_SAMPLES: Final[Mapping[str, Callable[[str], bytes]]] = {
    **dict.fromkeys((".md", ".markdown", ".txt", ".text", ".rst"), lambda name: _MARKDOWN),
    **dict.fromkeys((".html", ".htm", ".xhtml"), lambda name: _PAGE),
    **dict.fromkeys((".jsonl", ".ndjson"), _lines),
    ".csv": _table,
    ".tsv": lambda name: _table(name, "\t"),
    ".json": lambda name: json.dumps([json.loads(line) for line in _lines(name).splitlines()]).encode(),
    ".ipynb": lambda name: b'{"cells": [{"cell_type": "markdown", "source": ["# T 12"]}], "nbformat": 4}',
    ".eml": lambda name: _MAIL,
    ".pdf": lambda name: _pdf(),
    ".parquet": _parquet,
}


# Bombs: a little in, much out


def _aliases(depth: int) -> bytes:
    lines = ["---", "a0: &a0 [" + ",".join("x" * 10) + "]"]
    lines += [f"a{level}: &a{level} [" + ",".join([f"*a{level - 1}"] * 10) + "]" for level in range(1, depth)]
    return "\n".join([*lines, f"title: *a{depth - 1}", "---", "body of a note"]).encode() + b"\n"


def _entities() -> bytes:
    named = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, 12))
    return f'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY e0 "x">{named}]><r>&e11;</r>'.encode()


def _bombs() -> Iterator[tuple[str, bytes]]:
    blank = bytes(16 << 20)
    stolen = b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY f SYSTEM "file:///etc/passwd">]><r>&f;</r>'
    yield from ((f"aliases-{depth}.md", _aliases(depth)) for depth in (5, 7, 9, 40))
    yield from ((f"entities.{ending}", _entities()) for ending in ("html", "xhtml", "htm"))
    yield from ((f"entity-file.{ending}", stolen) for ending in ("html", "xhtml"))
    yield "quotes.md", b">" * 30_000 + b" words"
    yield "lists.md", b"".join(b" " * level + b"- x\n" for level in range(600))
    yield "links.md", b"[" * 30_000 + b"](x)" * 30_000
    yield "emphasis.md", b"*a **b " * 10_000
    yield "paragraphs.html", b"<body>" + b"<p>Some words of a long page.</p>\n" * 5_000
    yield "attributes.html", b"<p " + b"".join(b'a%d="x" ' % number for number in range(20_000)) + b">words</p>"
    yield "comment.html", b"<!--" * 50_000
    yield "stream.pdf", _pdf(b"/Filter/FlateDecode", zlib.compress(blank))
    yield "streams.pdf", _pdf(b"/Filter[/FlateDecode/FlateDecode]", zlib.compress(zlib.compress(blank)))
    yield "kids.pdf", _pdf(kids=b"2 0 R " * 100)
    yield "lines.jsonl.gz", _gzipped(blank * 5)
    yield "lines.csv.gz", _gzipped(blank * 5)
    yield "page.md.gz", _gzipped(blank)
    yield "values.jsonl", b'{"id": "1", "text": "x", "n": [' + b"[]," * 1_000_000 + b"1]}\n"
    yield "columns.csv", b",".join(b"c%d" % number for number in range(100_000)) + b"\n" + b"," * 99_999 + b"\n"
    for ending in ("docx", "odt", "epub", "xlsx", "pptx"):
        yield f"zeros.{ending}", _zipped({"word/document.xml": blank, "content.xml": blank, "mimetype": b"x"})
        yield f"entities.{ending}", _zipped({"word/document.xml": _entities(), "content.xml": _entities()})


# What is no file, and zip files as places


def _no_files(path: Path, outside: Path) -> Place:
    path.mkdir()
    neighbours = [key for number in range(12) for key in _neighbours(path, number)]
    os.mkfifo(path / "pipe.md")
    os.mkfifo(path / "pipe.jsonl")
    links = {
        "link.md": outside / "secret.md",
        "relative.md": Path("../outside/secret.md"),
        "folder": outside,
        "zero.txt": Path("/dev/zero"),
        "gone.md": Path("nowhere.md"),
        "itself.md": Path("itself.md"),
        "loop": Path(),
        "up": Path(".."),
        "chain.md": Path("link.md"),
    }
    for name, target in links.items():
        (path / name).symlink_to(target)
    return Place(path, ["pipe.md", "pipe.jsonl", *links], neighbours)


def _archives(folder: Path, rng: random.Random) -> Iterator[Place]:
    good = {f"good-{number}.md": f"# Good {number}\n\nWords.\n".encode() for number in range(6)}
    blank = bytes(17 << 20)
    whole = _zipped({"a.md": b"# A\n\n" + rng.randbytes(50).hex().encode(), "b.csv": _table("b"), **good})
    first, second = whole.find(b"PK\x01\x02"), whole.find(b"PK\x01\x02", whole.find(b"PK\x01\x02") + 1)
    changed: dict[str, tuple[bytes, list[str]]] = {
        "bombs": (_zipped({"a.md": blank, "b.jsonl": blank * 5, "c.csv": blank * 5, **good}), ["a.md", "b.jsonl", "c.csv"]),
        "crc": (whole[: first + 16] + b"\0\0\0\0" + whole[first + 20 :], ["a.md"]),
        "encrypted": (whole[: first + 8] + b"\x01" + whole[first + 9 :], ["a.md"]),
        "method": (whole[: second + 10] + b"\x63" + whole[second + 11 :], ["b.csv"]),
    }
    for name, (content, hostile) in changed.items():
        path = folder / f"{name}.zip"
        path.write_bytes(content)
        yield Place(path, hostile, list(good))
