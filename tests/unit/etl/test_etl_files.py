"""The source `files`: every kind of file, and every way in which one can be broken."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.fields import FieldNames
from tests.unit.etl.factories import documents, read, reject_reasons
from twinline.contract.documents.records import MAX_TEXT_BYTES
from twinline.contract.errors import SettingsError


def pdf(text: str) -> bytes:
    """Return a PDF of one page."""
    content = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET" if text else ""
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(content)}>>stream\n{content}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, thing in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj{thing}endobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    tail = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(data)}\n%%EOF"
    return data + tail.encode()


def test_every_supported_kind_of_file_becomes_documents_with_title_and_text(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.md").write_text("# Tides\n\nThe *moon* pulls [the sea](http://x).\n\n```\ncode()\n```\n\n- one\n- two\n")
    (folder / "b.html").write_text("<title>Wind</title><script>no()</script><body><p>Air</p><p>moves.</p></body>")
    (folder / "deep" / "c.txt").write_text("Plain words.")
    (folder / "d.pdf").write_bytes(pdf("Portable words"))
    (folder / "e.jsonl").write_text(json.dumps({"id": "e1", "title": "E", "body": "Lines.", "lang": "en"}) + "\n")
    (folder / "f.csv").write_text('id,title,text\nf1,F,"two\nlines, quoted"\n')
    pq.write_table(pa.table({"key": ["g1"], "content": ["Columns."], "big": [2**60]}), folder / "g.parquet")
    (folder / "h.jsonl.gz").write_bytes(gzip.compress(b'{"id": "h1", "text": "Compressed."}\n'))

    items = read(f"files:{folder}", tmp_path)

    found = {key: (document.title, document.text) for key, document in documents(items).items()}
    assert found == {
        "a.md": ("Tides", "The moon pulls the sea.\n\ncode()\n\none\n\ntwo"),
        "b.html": ("Wind", "Air\nmoves."),
        "deep/c.txt": ("c", "Plain words."),
        "d.pdf": ("d", "Portable words"),
        "e1": ("E", "Lines."),
        "f1": ("F", "two\nlines, quoted"),
        "g1": ("", "Columns."),
        "h1": ("", "Compressed."),
    }
    assert not reject_reasons(items)
    assert documents(items)["e1"].metadata == {"lang": "en"}
    assert documents(items)["g1"].metadata == {"big": str(2**60)}, "an integer that JSON cannot hold exactly is text"
    assert {document.source for document in documents(items).values()} == {"docs"}


@pytest.mark.parametrize(
    ("name", "content", "line", "reason"),
    [
        ("broken.pdf", b"%PDF-1.4 and then nothing", None, "corrupt_pdf"),
        ("noise.pdf", bytes(range(256)) * 40, None, "corrupt_pdf"),
        ("scan.pdf", pdf(""), None, "no_text"),  # pictures only
        ("latin.txt", "caf\u00e9".encode("latin-1"), None, "invalid_utf8"),
        ("latin.md", b"# T\n\n\xff\xfe", None, "invalid_utf8"),
        ("liar.html", b'<meta charset="utf-8"><p>caf\xe9</p>', None, "invalid_encoding"),
        ("odd.html", b'<meta charset="klingon"><p>caf\xe9</p>', None, "invalid_encoding"),
        ("empty.txt", b"  \n ", None, "no_text"),
        ("empty.html", b"<script>only()</script>", None, "no_text"),
        ("huge.txt", b"a" * (MAX_TEXT_BYTES + 1), None, "too_large"),
        ("picture.png", b"\x89PNG", None, "unsupported_format"),
        ("rows.jsonl", b'{"id": "1", "text": "fine"}\n{"id": "2", "text":\n', 2, "invalid_json"),
        ("list.jsonl", b"[1, 2]\n", 1, "not_an_object"),
        ("bytes.jsonl", b'{"id": "1", "text": "\xff"}\n', 1, "invalid_utf8"),
        ("nest.jsonl", b'{"id": "1", "text": ' + b"[" * 100_000 + b"\n", 1, "invalid_json"),
        ("half.jsonl", b'{"id": "1", "text": "\\ud800"}\n', 1, "lone_surrogate"),
        ("none.jsonl", b'{"id": "1", "text": null}\n', 1, "no_text"),
        ("type.jsonl", b'{"id": "1", "text": 7}\n', 1, "wrong_type"),
        ("column.jsonl", b'{"id": "1", "words": "x"}\n', 1, "missing_column"),
        ("column.csv", b"id,words\n1,x\n", 2, "missing_column"),
        ("fields.csv", b"id,text\n1,x,y\n", 2, "wrong_field_count"),
        ("quote.csv", b'id,text\n1,"x"y\n', 2, "invalid_csv"),
        ("bytes.csv", b"id,text\n1,\xff\n", 2, "invalid_utf8"),
        ("cut.parquet", b"PAR1 and no footer", 1, "corrupt_parquet"),
        ("cut.jsonl.gz", gzip.compress(b'{"id": "1", "text": "x"}\n', mtime=0)[:20], None, "unreadable"),
    ],
)
def test_what_is_broken_is_one_kept_reject_and_its_neighbours_are_read(
    tmp_path: Path, name: str, content: bytes, line: int | None, reason: str
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a-good.txt").write_text("Before.")
    (folder / name).write_bytes(content)
    (folder / "z-good.txt").write_text("After.")

    items = read(f"files:{folder}", tmp_path)

    assert reject_reasons(items) == [(name, line, reason)]
    assert {"a-good.txt", "z-good.txt"} <= documents(items).keys()


def test_a_fifty_megabyte_line_is_a_reject_and_the_lines_around_it_are_documents(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"id": "1", "text": "before"}\n{"id": "2", "text": "' + b"a" * 50_000_000 + b'"}\n')
        stream.write(b'{"id": "3", "text": "after"}\n')

    items = read(f"files:{path}", tmp_path)

    assert list(documents(items)) == ["1", "3"]
    assert reject_reasons(items) == [("rows.jsonl", 2, "too_large")]


def test_a_missing_column_is_named_with_its_file_and_the_columns_found(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,words\n1,x\n")

    [reject] = read(f"files:{tmp_path / 'rows.csv'}", tmp_path)

    detail = getattr(reject, "detail", "")
    assert "rows.csv has no column for text" in detail
    assert "['id', 'words']" in detail
    assert "ingest.text_column" in detail


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("no,words,id\n7,spoken,ignored\n")

    items = read(f"files:{tmp_path / 'rows.csv'}", tmp_path, fields=FieldNames(key="no", text="words"))

    assert documents(items)["7"].text == "spoken"
    assert documents(items)["7"].metadata == {"id": "ignored"}


def test_version_zero_and_tenant_of_a_row_are_kept(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "1", "text": "x", "version": 0, "tenant": "north"}\n')

    document = documents(read(f"files:{tmp_path / 'rows.jsonl'}", tmp_path))["1"]

    assert (document.version, document.tenant) == (0, "north")


@pytest.mark.parametrize("files", [[], ["picture.png"], [".hidden.txt"]])
def test_a_folder_without_a_readable_file_is_an_error_that_says_what_can_be_read(tmp_path: Path, files: list[str]) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("x")

    with pytest.raises(SettingsError, match=r"holds no file that can be read.*\.md.*\.parquet"):
        read(f"files:{folder}", tmp_path)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is nothing at"):
        read(f"files:{tmp_path / 'nowhere'}", tmp_path)


@pytest.mark.parametrize("spec", ["", "files", "ftp:somewhere", "nonsense:/x"])
def test_a_spec_that_names_no_source_is_an_error_that_lists_the_sources(tmp_path: Path, spec: str) -> None:
    with pytest.raises(SettingsError, match="pydocs, files, beir, kafka"):
        read(spec, tmp_path)


def test_an_fsspec_address_is_read_like_a_folder(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/etl-docs/deep/a.txt", b"From memory.")

    items = read("files:memory://etl-docs", tmp_path)

    assert documents(items)["deep/a.txt"].text == "From memory."


def test_files_that_once_ended_a_run_are_read_or_one_reject_and_the_last_file_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    aliases = "\n".join(f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}" if i else "x"] * 10) + "]" for i in range(9))
    (folder / "aliases.md").write_text(f"---\n{aliases}\ntitle: *a8\n---\nbody\n")
    (folder / "date.md").write_text("---\ntitle: Minutes of March\ndate: 2024-02-30\n---\n# Minutes\n\nWe met.\n")
    (folder / "label.html").write_text('<!doctype html><head><meta charset="undefined"><title>T</title><body><p>hello walrus')
    (folder / "digits.csv").write_text(f"id,text,version\nd1,fine,3\nd2,huge,{'9' * 5_000}\n")
    times = pa.array([0, 253402300800000000], pa.timestamp("us"))
    pq.write_table(pa.table({"id": ["p1", "p2"], "text": ["first", "second"], "until": times}), folder / "far.parquet")
    (folder / "z.md").write_text("# Later\n\nA later neighbour.\n")

    items = read(f"files:{folder}", tmp_path)

    found = documents(items)
    assert sorted(found) == ["d1", "date.md", "label.html", "p1", "p2", "z.md"]
    assert (found["date.md"].title, found["label.html"].text) == ("Minutes of March", "hello walrus")
    assert reject_reasons(items) == [("aliases.md", None, "invalid_front_matter"), ("digits.csv", 3, "bad_version")]


def test_front_matter_gives_the_title_and_what_only_looks_like_it_loses_no_word(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("---\ntitle: From the matter\ntags: [x]\n---\n# Heading\n\nText.\n")
    (folder / "b.md").write_text("---\njust: [broken\n---\nText.\n")

    found = documents(read(f"files:{folder}", tmp_path))

    assert (found["a.md"].title, found["a.md"].text) == ("From the matter", "Heading\n\nText.")
    assert (found["b.md"].title, found["b.md"].text) == ("just: [broken", "Text.")
