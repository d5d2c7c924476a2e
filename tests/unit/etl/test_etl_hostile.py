"""Other people's files, as a source meets them: each broken one is one reject, its neighbours are read, the run goes on."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import socket
import stat
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.fields import FieldNames
from etl.ingest import ingest
from etl.reading.child import Limits
from etl.rejects import RejectsFile
from etl.source_state import open_source_state
from etl.sources import Reject, open_source
from etl.sources.items import Item
from tests.unit.etl.factories import documents, read, reject_reasons, rows, settings, write_beir
from tests.unit.etl.test_etl_files import pdf
from twinline.clients.erasure_list import Erasures
from twinline.contract.errors import SettingsError


def rejects(items: list[Item]) -> list[Reject]:
    return [item for item in items if isinstance(item, Reject)]


def folder_with(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """Return a folder with these files between two good neighbours."""
    folder = tmp_path / "docs"
    for name, content in {
        "a-good.md": b"# Before\n\nA good neighbour.",
        "z-good.md": b"# After\n\nA later one.",
        **files,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


# A mebibyte of empty lines, few enough to be cut in no time.
BLANK = (b" " * 65_535 + b"\n") * 16

NEIGHBOURS = {"a-good.md", "z-good.md"}


def alias_bomb(depth: int, width: int = 10) -> bytes:
    """Return front matter of a few hundred bytes whose title is width ** depth letters once it is written out."""
    lines = ["---", "a0: &a0 [" + ",".join("x" * width) + "]"]
    lines += [f"a{level}: &a{level} [" + ",".join([f"*a{level - 1}"] * width) + "]" for level in range(1, depth)]
    return "\n".join([*lines, f"title: *a{depth - 1}", "---", "body of a note"]).encode() + b"\n"


def titled_pdf(title: bytes) -> bytes:
    """Return a PDF whose /Title is any object."""
    data = pdf("Text of a yearly report")
    return data.replace(b"trailer<<", b"trailer<</Info<</Title " + title + b">>")


def parquet(**columns: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


FAR = pa.array([0, 253402300800000000, 0], pa.timestamp("us"))

# Content that a library meets with an error of its own. A later reader may read some of it: then it is a document.
RAISING: list[tuple[str, bytes]] = [
    ("date.md", b"---\ntitle: Minutes of March\ndate: 2024-02-30\n---\n# Minutes\n\nWe met.\n"),
    ("hour.md", b"---\ntitle: T\nat: 2024-01-01 25:00:00\n---\nwords\n"),
    ("month.md", b"---\ntitle: T\ndate: 2024-13-01\n---\nwords\n"),
    ("number.md", b"---\ntitle: T\nsize: 1_0.5e_\nport: 0x\n---\nwords\n"),
    ("digits.md", b"---\ntitle: " + b"9" * 5_000 + b"\n---\nwords\n"),
    ("tag.md", b"---\ntitle: !!int words\n---\nwords\n"),
    ("float.md", b"---\ntitle: !!float words\n---\nwords\n"),
    ("binary.md", b"---\ntitle: !!binary '*'\n---\nwords\n"),
    ("python.md", b"---\ntitle: !!python/object/apply:os.system [true]\n---\nwords\n"),
    ("key.md", b"---\n? [a, b]\n: c\n? {d: e}\n: f\ntitle: T\n---\nwords\n"),
    ("self.md", b"---\ntitle: &t [*t]\n---\nwords\n"),
    ("deep.md", b"---\ntitle: " + b"[" * 3_000 + b"]" * 3_000 + b"\n---\nwords\n"),
    ("quotes.md", b">" * 20_000 + b" words\n"),
    ("control.md", b"---\ntitle: \x00\n---\nwords\n"),
    ("codec.html", b'<!doctype html><meta charset="undefined"><title>T</title><p>hello walrus</p>'),
    ("base64.html", b'<meta charset="base64"><p>hello walrus</p>'),
    ("rot13.html", b'<meta charset="rot13"><p>hello walrus</p>'),
    ("idna.html", b'<meta charset="idna"><p>hello ' + b"x" * 100 + b" walrus</p>"),
    ("zip.html", b'<meta charset="zip"><p>hello walrus</p>'),
    ("declared.html", b"<!doctype html><![if words><p>hello</p>"),
    ("nested.html", b"<b>" * 20_000 + b"hello walrus"),
    ("reference.html", b"<p>&#99999999999999999999; hello walrus</p>"),
    ("year.pdf", titled_pdf(b"2024")),
    ("list.pdf", titled_pdf(b"[1 2]")),
    ("name.pdf", titled_pdf(b"/Name")),
    ("loop.pdf", pdf("words").replace(b"/Kids[3 0 R]", b"/Kids[2 0 R]")),
    ("far.parquet", parquet(id=["1", "2", "3"], text=["first row", "second row", "third row"], valid_until=FAR)),
    ("bytes.parquet", parquet(id=["1"], text=[b"\xff\xfe"])),
    ("version.csv", b"id,text,version\n1,fine,3\n2,huge," + b"9" * 5_000 + b"\n3,fine,4\n"),
    ("version.jsonl", b'{"id": "1", "text": "x", "version": "' + b"9" * 5_000 + b'"}\n'),
    ("number.jsonl", b'{"id": "1", "text": "x", "n": ' + b"9" * 5_000 + b"}\n"),
    ("null.csv", b"id,text\n1,a\x00b\n"),
    ("cut.csv.gz", gzip.compress(b"id,text\n" + b"1,words\n" * 5_000)[:-20]),
    ("crc.csv.gz", gzip.compress(b"id,text\n1,words\n", mtime=0)[:-8] + b"\x00" * 8),
    ("not.csv.gz", b"id,text\n1,words\n"),
    ("not.md.gz", b"# words\n"),
    ("empty.parquet", b""),
    ("magic.parquet", b"PAR1" + b"\xff" * 200 + b"PAR1"),
]


@pytest.mark.parametrize(("name", "content"), RAISING, ids=[name for name, _ in RAISING])
def test_an_error_of_a_library_ends_no_run(tmp_path: Path, name: str, content: bytes) -> None:
    folder = folder_with(tmp_path, {name: content})

    items = read(f"files:{folder}", tmp_path)

    found = documents(items)
    assert found.keys() >= NEIGHBOURS
    of_it = [document for document in found.values() if document.origin and document.origin.place == name]
    refused = [reject for reject in rejects(items) if reject.place == name]
    assert of_it or len(refused) == 1
    assert all(reject.detail for reject in refused)
    assert len(refused) <= 1
    assert {reject.place for reject in rejects(items)} <= {name}


def test_the_text_that_a_damaged_head_hides_is_read_or_refused_and_never_changed(tmp_path: Path) -> None:
    cases = dict(RAISING)
    folder = folder_with(tmp_path, {name: cases[name] for name in ("date.md", "codec.html", "year.pdf")})
    found = {key: document.text for key, document in documents(read(f"files:{folder}", tmp_path)).items()}
    expected = {"date.md": "We met.", "codec.html": "hello walrus", "year.pdf": "Text of a yearly report"}
    assert all(words in found[name] for name, words in expected.items() if name in found)


def test_a_version_of_five_thousand_digits_is_the_reject_of_its_row(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"version.csv": dict(RAISING)["version.csv"]})
    items = read(f"files:{folder}", tmp_path)
    assert reject_reasons(items) == [("version.csv", 3, "bad_version")]
    assert {key: document.version for key, document in documents(items).items() if key not in NEIGHBOURS} == {"1": 3, "3": 4}


@pytest.mark.parametrize("depth", [7, 9, 30])
def test_an_alias_bomb_is_one_reject_in_bounded_memory(tmp_path: Path, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "of_document", lambda size: Limits(5, 128 << 20, 1 << 20))
    folder = folder_with(tmp_path, {"note.md": alias_bomb(depth)})
    items = read(f"files:{folder}", tmp_path)
    assert documents(items).keys() == NEIGHBOURS
    [reject] = rejects(items)
    assert (reject.place, reject.reason) == ("note.md", "invalid_front_matter")


def test_a_name_that_is_not_utf8_is_a_reject_that_shows_it_escaped(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {})
    for name in (b"caf\xe9.md", b"caf\xe9.png", b"\xff\xfe", b"dir\xe9/inner.md"):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_text("# X\n\nhello")

    snapshot = ingest(open_source(f"files:{folder}", settings(tmp_path)), tmp_path / "out", max_reject_share=0.9)

    refused = {row["place"]: row["reason"] for row in rows(tmp_path / "out" / "rejects.parquet")}
    expected = ("caf\\xe9.md", "caf\\xe9.png", "\\xff\\xfe", "dir\\xe9/inner.md")
    # A surrogate is one escape of its own: \udce9 stands for the byte e9.
    assert set(refused) == {name.replace("\\x", "\\udc") for name in expected}
    assert set(refused.values()) == {"invalid_name"}
    assert snapshot.counts["documents"] == 2


@pytest.mark.parametrize(
    "text", ["caf\udce9", "\ud800", "\udfff" * 10, "\x00", "\x1b[31m", "\u2028", "ok", "é", "😀\udcff", "\n"]
)
def test_the_sink_writes_any_string(tmp_path: Path, text: str) -> None:
    reject = Reject(text, text, text, 7, text, text)
    with RejectsFile(tmp_path / "rejects.jsonl") as sink:
        sink.add(reject)
        [row] = sink.rows()
    shown = text.encode("utf-8", errors="backslashreplace").decode()
    assert row == {"place": shown, "reason": shown, "detail": shown, "line": 7, "key": shown, "raw": shown}
    assert sink.first_broken is not None
    sink.first_broken.detail.encode()
    assert (tmp_path / "rejects.jsonl").read_bytes().decode("utf-8").count("\n") == 1


# Zip files


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


PAIR = {"a.md": b"# A\n\nhello world this is text", "b.md": b"# B\n\nfine"}


def with_wrong_crc() -> bytes:
    data = bytearray(zipped(PAIR))
    data[data.find(b"hello")] ^= 2
    return bytes(data)


def with_flag(bit: int) -> bytes:
    data = bytearray(zipped(PAIR))
    data[data.find(b"PK\x03\x04") + 6] |= bit
    data[data.find(b"PK\x01\x02") + 8] |= bit
    return bytes(data)


def with_method(method: int) -> bytes:
    data = bytearray(zipped(PAIR))
    data[data.find(b"PK\x03\x04") + 8] = method
    data[data.find(b"PK\x01\x02") + 10] = method
    return bytes(data)


def with_broken_header() -> bytes:
    data = bytearray(zipped(PAIR))
    data[0:4] = b"XXXX"
    return bytes(data)


def with_bomb(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(name, "w") as entry:
            for _ in range(100):
                entry.write(BLANK)
        archive.writestr("b.md", b"# B\n\nfine")
    return stream.getvalue()


def with_link() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("a.md")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("b.md", b"# B\n\nfine")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("archive", "place", "reason", "detail"),
    [
        (with_wrong_crc, "a.md", "unreadable", "BadZipFile: Bad CRC-32"),
        (lambda: with_flag(1), "a.md", "unreadable", "RuntimeError: File 'a.md' is encrypted"),
        (lambda: with_flag(0x20), "a.md", "unreadable", "NotImplementedError: compressed patched data"),
        (lambda: with_flag(0x40), "a.md", "unreadable", "NotImplementedError: strong encryption"),
        (lambda: with_method(99), "a.md", "unreadable", "NotImplementedError: That compression method"),
        (lambda: with_method(8), "a.md", "unreadable", "error: Error -3 while decompressing data"),
        (lambda: with_method(12), "a.md", "unreadable", "OSError: Invalid data stream"),
        (lambda: with_method(14), "a.md", "unreadable", "a.md"),
        (with_broken_header, "a.md", "unreadable", "BadZipFile: Bad magic number for file header"),
        (with_link, "a.md", "outside_link", "a link, which is not followed"),
        (lambda: with_bomb("a.md"), "a.md", "too_large", "the limit is 16777216"),
        (lambda: with_bomb("a.csv"), "a.csv", "output_too_large", "more than 300 times its size"),
        (lambda: with_bomb("a.jsonl"), "a.jsonl", "output_too_large", "more than 300 times its size"),
    ],
)
def test_an_entry_that_cannot_be_unpacked_is_one_reject_and_the_rest_is_read(
    tmp_path: Path, archive: Callable[[], bytes], place: str, reason: str, detail: str
) -> None:
    path = tmp_path / "packed.zip"
    path.write_bytes(archive())

    items = read(f"files:{path}", tmp_path)

    assert documents(items).keys() == {"b.md"}
    [refused] = rejects(items)
    assert (refused.place, refused.reason) == (place, reason)
    assert detail in refused.detail


@pytest.mark.parametrize(
    "content",
    [
        b"<html>404 not found</html>",
        b"",
        b"PK\x03\x04" + b"\x00" * 100,
        zipped(PAIR)[:60],
        zipped(PAIR)[:-10],
        b"\x00" * 1_000,
        b"PK\x05\x06" + b"\xff" * 18,
        gzip.compress(b"x", mtime=0),
        zipped(PAIR)[:80] + b"\x00" * 40,
        os.urandom(4_000),
    ],
    # Archives hold the time at which they were made: every process would name them otherwise.
    ids=[f"content{number}" for number in range(10)],
)
def test_what_is_no_zip_file_is_said_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "packed.zip"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"(no zip file that can be read .*: fetch it again, or unpack it|holds no file)"):
        open_source(f"files:{path}", settings(tmp_path))


def test_a_gzip_bomb_costs_its_budget_and_no_more(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with gzip.open(stream, "wb") as packed:
        for _ in range(100):
            packed.write(BLANK)
    folder = folder_with(tmp_path, {"bomb.jsonl.gz": stream.getvalue(), "bomb.md.gz": stream.getvalue()})
    items = read(f"files:{folder}", tmp_path)
    assert [(item.place, item.reason) for item in rejects(items)] == [
        ("bomb.jsonl.gz", "output_too_large"),
        ("bomb.md.gz", "too_large"),
    ]
    assert documents(items).keys() == NEIGHBOURS


def test_a_compressed_document_is_read(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"page.md.gz": gzip.compress(b"# Tides\n\nThe moon.")})
    found = documents(read(f"files:{folder}", tmp_path))["page.md.gz"]
    assert (found.title, found.text, found.metadata) == ("Tides", "The moon.", {"format": "md"})


# What is no file, and what is not followed


def test_a_pipe_a_socket_and_a_device_are_said_and_not_opened(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {})
    os.mkfifo(folder / "notes.md")
    (folder / "zero.txt").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s.md"))
        items = read(f"files:{folder}", tmp_path)
    assert documents(items).keys() == NEIGHBOURS
    assert reject_reasons(items) == [
        ("notes.md", None, "not_a_file"),
        ("s.md", None, "not_a_file"),
        ("zero.txt", None, "outside_link"),
    ]


@pytest.mark.parametrize("name", ["pipe.md", "pipe.jsonl", "pipe.zip"])
def test_a_pipe_as_a_source_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SettingsError, match="a pipe, socket or device"):
        open_source(f"files:{tmp_path / name}", settings(tmp_path))


def test_a_link_is_followed_to_files_of_the_folder_alone_and_any_other_is_said(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("# Secret\n\nOutside.")
    (outside / "rows.jsonl").write_text('{"id": "s", "text": "secret"}\n')
    folder = folder_with(tmp_path, {"deep/c.md": b"# C\n\nDeep."})
    (folder / "again.md").symlink_to("deep/c.md")
    (folder / "chain.md").symlink_to("again.md")
    (folder / "docs").symlink_to("deep")
    (folder / "loop").symlink_to(".")
    (folder / "deep" / "up").symlink_to("..")
    (folder / "linked").symlink_to("../outside")
    (folder / "secret.md").symlink_to("../outside/secret.md")
    (folder / "absolute.md").symlink_to(outside / "secret.md")
    (folder / "rows.jsonl").symlink_to("../outside/rows.jsonl")
    (folder / "two.md").symlink_to("absolute.md")
    (folder / "gone.md").symlink_to("nowhere.md")
    (folder / "itself.md").symlink_to("itself.md")
    (tmp_path / "docs2").mkdir()
    (tmp_path / "docs2" / "beside.md").write_text("A folder whose name begins like the source's.")
    (folder / "beside.md").symlink_to("../docs2/beside.md")

    items = read(f"files:{folder}", tmp_path)

    assert documents(items).keys() == {*NEIGHBOURS, "deep/c.md", "again.md", "chain.md"}
    assert {(item.place, item.reason) for item in rejects(items)} == {
        ("docs", "folder_link"),
        ("loop", "folder_link"),
        ("deep/up", "folder_link"),
        ("linked", "outside_link"),
        ("secret.md", "outside_link"),
        ("absolute.md", "outside_link"),
        ("rows.jsonl", "outside_link"),
        ("two.md", "outside_link"),
        ("beside.md", "outside_link"),
        ("gone.md", "broken_link"),
        ("itself.md", "broken_link"),
    }


def test_a_source_that_is_itself_a_link_is_read(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {})
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "one.md").symlink_to(folder / "a-good.md")
    assert documents(read(f"files:{tmp_path / 'link'}", tmp_path)).keys() == NEIGHBOURS
    assert documents(read(f"files:{tmp_path / 'one.md'}", tmp_path)).keys() == {"one.md"}


def test_a_file_that_becomes_a_link_after_the_listing_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("# Secret")
    folder = folder_with(tmp_path, {"b.md": b"words", "c.md": b"words", "sub/d.md": b"words"})
    source = open_source(f"files:{folder}", settings(tmp_path))
    (folder / "b.md").unlink()
    (folder / "b.md").symlink_to("../secret.md")
    (folder / "c.md").unlink()
    os.mkfifo(folder / "c.md")
    shutil.rmtree(folder / "sub")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.md").write_text("# Secret")
    (folder / "sub").symlink_to("../elsewhere")
    (folder / "z-good.md").unlink()

    items = list(source.items())

    assert documents(items).keys() == {"a-good.md"}
    assert reject_reasons(items) == [
        ("b.md", None, "outside_link"),
        ("c.md", None, "not_a_file"),
        ("sub/d.md", None, "outside_link"),
        ("z-good.md", None, "unreadable"),
    ]


def test_a_folder_that_cannot_be_listed_is_a_reject_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, {"shut/b.md": b"words", "open/c.md": b"words", "shut.md": b"words"})
    real = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("/shut"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr("os.scandir", refusing)  # root, who runs some of the tests, may list everything
    items = read(f"files:{folder}", tmp_path)
    assert documents(items).keys() == {*NEIGHBOURS, "open/c.md", "shut.md"}
    [refused] = rejects(items)
    assert (refused.place, refused.reason) == ("shut", "unlisted_folder")
    assert "Permission denied" in refused.detail
    monkeypatch.setattr("os.scandir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(SettingsError, match="0 files found; the folder itself: its files cannot be listed: Permission denied"):
        open_source(f"files:{folder}", settings(tmp_path))


def test_a_folder_of_another_file_system_that_cannot_be_listed_is_a_reject(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    files = fsspec.filesystem("memory")
    for name in ("a.md", "shut/b.md", "open/c.md", ".hidden/d.md"):
        files.pipe(f"/listed/{name}", b"words")
    real = MemoryFileSystem.ls

    def refusing(self: MemoryFileSystem, path: str, **options: object) -> object:
        if str(path).rstrip("/").endswith("/shut"):
            raise PermissionError(13, "Permission denied", path)
        return real(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "ls", refusing)
    items = read("files:memory://listed", tmp_path)
    assert documents(items).keys() == {"a.md", "open/c.md"}
    assert reject_reasons(items) == [("shut", None, "unlisted_folder")]


def test_a_file_that_may_not_be_read_has_no_hash_and_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, {"shut.md": b"words", "shut.jsonl": b"{}", "broken.pdf": b"no pdf"})
    real = os.open

    def refusing(path: object, *arguments: object, **options: object) -> int:
        if "/shut." in str(path):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("os.open", refusing)
    source = open_source(f"files:{folder}", settings(tmp_path))
    items = list(source.items())
    assert reject_reasons(items) == [
        ("broken.pdf", None, "corrupt_pdf"),
        ("shut.jsonl", None, "unreadable"),
        ("shut.md", None, "unreadable"),
    ]
    hashes = source.provenance()["files"]
    assert isinstance(hashes, dict)
    assert {name for name, digest in hashes.items() if digest is None} == {"shut.md", "shut.jsonl"}
    assert hashes["broken.pdf"] is not None


# The other sources


def test_a_data_set_with_damaged_parts_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "set", {"a": ("", "one")}, {"q": "what"}, {"test": [("q", "a", 1)], "dev": [("q", "a", 1)]})
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + "q\t" + "a" * 40_000_000 + "\t1\n")
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress((folder / "corpus.jsonl").read_bytes() * 3_000)[:-30])
    (folder / "corpus.jsonl").unlink()
    items = read(f"beir:{folder}", tmp_path)
    assert "a" in documents(items)
    assert {(place, reason) for place, _, reason in reject_reasons(items)} == {
        ("corpus.jsonl.gz", "unreadable"),
        ("qrels/dev.tsv", "unreadable"),
    }


@pytest.mark.parametrize("error", [ValueError("null"), MemoryError(), RecursionError(), OSError(13, "denied"), SystemError()])
def test_a_module_that_cannot_be_parsed_is_one_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import ast

    real, first = ast.parse, []

    def parse(source: bytes) -> ast.Module:
        if not first:
            first.append(source)
            raise error
        return real(source)

    monkeypatch.setattr("ast.parse", parse)
    items = read("pydocs:json", tmp_path)
    assert len(rejects(items)) == 1
    assert documents(items)


def test_a_long_line_of_json_is_parsed_where_its_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "of_document", lambda size: Limits(20, 64 << 20, 1 << 20))
    lines = [
        json.dumps({"id": "1", "text": "before"}),
        json.dumps({"id": "2", "text": "x" * 400_000}),
        '{"id": "3", "text": "x", "n": [' + ",".join(["[]"] * 3_000_000) + "]}",
        json.dumps({"id": "4", "text": "after"}),
    ]
    folder = folder_with(tmp_path, {"t.jsonl": "\n".join(lines).encode() + b"\n"})
    items = read(f"files:{folder}", tmp_path)
    assert documents(items).keys() == {*NEIGHBOURS, "1", "2", "4"}
    assert reject_reasons(items) == [("t.jsonl", 3, "out_of_memory")]


# The next ingest


def test_an_unchanged_folder_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, {"t.jsonl": b'{"id": "1", "text": "words"}\n'})
    for path in folder.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    monkeypatch.setattr("etl.source_state._FRESH_NS", -(10**12))  # a change just now counts as an old one
    where = settings(tmp_path)
    ids = []
    for turn in range(2):
        if turn:
            monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a file is read again"))
        source = open_source(f"files:{folder}", where)
        state = open_source_state(source, where, FieldNames(), Erasures())
        assert state is not None
        snapshot = ingest(source, where.snapshots / "new", max_reject_share=0.5, state=state)
        (where.snapshots / "new").rename(where.snapshots / snapshot.id) if not turn else None
        state.save(snapshot.id)
        ids.append(snapshot.id)
    assert ids[0] == ids[1]


def test_two_sources_are_read_at_once(tmp_path: Path) -> None:
    one, other = folder_with(tmp_path / "1", {}), folder_with(tmp_path / "2", {})
    feeds = [open_source(f"files:{folder}", settings(tmp_path)).items() for folder in (one, other)]
    found = [next(feed) for _ in range(2) for feed in feeds]
    assert [getattr(item, "key", "") for item in found] == ["a-good.md", "a-good.md", "z-good.md", "z-good.md"]
    for feed in feeds:
        assert list(feed) == []


def test_a_source_that_is_left_in_the_middle_leaves_no_process(tmp_path: Path) -> None:
    import psutil

    before = {child.pid for child in psutil.Process().children()}
    feed = open_source(f"files:{folder_with(tmp_path, {})}", settings(tmp_path)).items()
    next(feed)
    feed.close()  # type: ignore[attr-defined]
    assert {child.pid for child in psutil.Process().children()} <= before
    assert threading.active_count() >= 1


def test_other_compressions_of_a_table_are_read(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path,
        {"t.jsonl.bz2": bz2.compress(b'{"id": "1", "text": "one"}\n'), "t.csv.xz": lzma.compress(b"id,text\n2,two\n")},
    )
    found = documents(read(f"files:{folder}", tmp_path))
    assert {key: document.text for key, document in found.items() if key not in NEIGHBOURS} == {"1": "one", "2": "two"}
