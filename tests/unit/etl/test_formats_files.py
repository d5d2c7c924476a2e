"""Office files, OpenDocument, books, mail, notebooks, reStructuredText: title, text, and what is wrong with a file."""

import bz2
import gzip
import json
import lzma
import sys
import zipfile
from collections.abc import Callable, Mapping
from datetime import datetime
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
import zstandard
from docx import Document
from docx.oxml import parse_xml
from openpyxl import Workbook
from pptx import Presentation
from pptx.util import Inches

from etl.sources import compression
from etl.sources.formats import READERS, max_file_bytes
from tests.unit.etl.factories import documents, read, reject_reasons
from twinline.contract.documents.records import MAX_TEXT_BYTES
from twinline.contract.errors import DocumentError

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def saved(document: object) -> bytes:
    stream = BytesIO()
    document.save(stream)  # type: ignore[attr-defined]
    return stream.getvalue()


def docx(title: str = "Tide tables", heading: str = "Harbours") -> bytes:
    document = Document()
    document.core_properties.title = title
    if heading:
        document.add_heading(heading, 1)
    paragraph = document.add_paragraph("The har")
    paragraph.add_run("bour").bold = True
    paragraph.add_run(" is\topen.").add_break()
    paragraph.add_run("Second line")
    table = document.add_table(2, 2)
    for cell, words in zip((cell for row in table.rows for cell in row.cells), ("alpha", "beta", "gamma", "delta"), strict=True):
        cell.text = words
    body = document.element.body
    # A field of a form, which python-docx's own lists of paragraphs leave out; a deletion; a text box in two forms.
    control = f"<w:sdt {_W}><w:sdtContent><w:p><w:r><w:t>In a control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    deleted = (
        f"<w:p {_W}><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del><w:ins><w:r><w:t>inserted</w:t></w:r></w:ins></w:p>"
    )
    box = (
        f'<w:p {_W} xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><w:r><mc:AlternateContent>'
        "<mc:Choice><w:p><w:r><w:t>Boxed</w:t></w:r></w:p></mc:Choice><mc:Fallback><w:p><w:r><w:t>Boxed</w:t></w:r></w:p>"
        "</mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )
    for xml in (control, deleted, box):
        body.insert(len(body) - 1, parse_xml(xml))
    return saved(document)


_DOCX_TEXT = "Harbours\nThe harbour is\topen.\nSecond line\nalpha\tbeta\ngamma\tdelta\nIn a control\ninserted\nBoxed"


def pptx(title: str = "Ferries") -> bytes:
    deck = Presentation()
    deck.core_properties.title = title
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "First slide"
    slide.placeholders[1].text = "One point\nAnother point"
    slide.notes_slide.notes_text_frame.text = "Say hello."
    second = deck.slides.add_slide(deck.slide_layouts[6])
    table = second.shapes.add_table(1, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    return saved(deck)


def xlsx(title: str = "Fleet") -> bytes:
    book = Workbook()
    book.properties.title = title
    sheet = book.active
    assert sheet is not None
    sheet.title = "Ships"
    sheet.append(["Name", "Built", "Length", None])
    sheet.append(["Aurora", datetime(1998, 5, 1), 62.0, None])
    sheet.append([None, None, None, None])
    sheet.append(["Borealis", datetime(2004, 2, 29, 13, 30), 48.5, True])
    book.create_sheet("Empty")
    book.create_sheet("Ports").append(["Turku", "Åland"])
    return saved(book)


def archive(parts: Mapping[str, str | bytes]) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return stream.getvalue()


_ODF = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:dc="http://purl.org/dc/elements/1.1/"'
)


def odt(title: str = "Charts") -> bytes:
    content = f"""<?xml version="1.0"?><office:document-content {_ODF}><office:body><office:text>
        <text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>
        <text:h>Of the <text:span>sea</text:span></text:h>
        <text:p>Two<text:s text:c="1000000000"/>words<text:tab/>tab<text:line-break/>line <text:a>li</text:a>nk</text:p>
        <text:list><text:list-item><text:p>one</text:p></text:list-item><text:list-item><text:p>two</text:p></text:list-item></text:list>
        <table:table><table:table-row><table:table-cell><text:p>alpha</text:p></table:table-cell>
        <table:table-cell><text:p>beta</text:p></table:table-cell></table:table-row></table:table>
        <text:p>e<!-- c -->nd<office:annotation><dc:creator>me</dc:creator><text:p>remark</text:p></office:annotation>ing</text:p>
        </office:text></office:body></office:document-content>"""
    meta = f"<office:document-meta {_ODF}><office:meta><dc:title>{title}</dc:title></office:meta></office:document-meta>"
    return archive({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content, "meta.xml": meta})


_ODT_TEXT = "Of the sea\nTwo words\ttab\nline link\none\ntwo\nalpha\tbeta\nending"


def epub(title: str = "A voyage", **parts: str | bytes) -> bytes:
    package = f"""<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
        <metadata><dc:title>{title}</dc:title></metadata><manifest>
        <item id="b" href="text/two%20b.xhtml" media-type="application/xhtml+xml"/><item id="a" href="text/one.xhtml"
        media-type="application/xhtml+xml"/><item id="n" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>
        <item id="p" href="cover.png" media-type="image/png"/></manifest>
        <spine><itemref idref="n"/><itemref idref="p"/><itemref idref="a"/><itemref idref="b"/></spine></package>"""
    container = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
        <rootfile full-path="OEBPS/book.opf"/></rootfiles></container>"""
    head = '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>'
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OEBPS/book.opf": package,
            "OEBPS/nav.xhtml": head + "<ol><li>Contents</li></ol></body></html>",
            "OEBPS/text/two b.xhtml": head + "<p>The end, caf\u00e9.</p></body></html>",
            "OEBPS/text/one.xhtml": head + "<h1>Chapter 1</h1><p>We sail<br/>away.</p></body></html>",
            "OEBPS/cover.png": b"\x89PNG",
            **parts,
        }
    )


def notebook(**fields: object) -> bytes:
    cells = [
        {"cell_type": "markdown", "source": ["# Tides\n", "\n", "How *they* rise.<br>And fall."]},
        {"cell_type": "code", "source": "x = 1 < 2\nprint(x)\n", "outputs": [{"text": ["noise"]}]},
        {"cell_type": "raw", "source": "raw words"},
        {"cell_type": "markdown", "source": []},
    ]
    return json.dumps({"nbformat": 4, "metadata": {}, "cells": cells, **fields}).encode()


def mail(
    plain: str | None = "Dear all,\n\nthe ferry leaves at noon.\n", page: str | None = None, subject: str = "Tomorrow's ferry"
) -> bytes:
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = "captain@example.org"
    if plain is not None:
        message.set_content(plain)
    if page is not None:
        (message.add_alternative if plain is not None else message.set_content)(page, subtype="html")
    return bytes(message)


def with_attachment() -> bytes:
    message = EmailMessage()
    message["Subject"] = "Über Fähren"
    message.set_content("See the plan.")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="plan für heute.pdf")
    return bytes(message)


_RST = b"""\
.. _top:

==========
 The tides
==========

.. This comment is hidden.

Water *rises* and **falls**, see :ref:`the moon <moon>` and ``code``, :func:`~sea.level`.

.. note:: Known to docutils.

.. versionadded:: 3.8
   Known to Sphinx, :class:`Sea`.

.. toctree::
   :maxdepth: 2

   other/file

.. include:: /etc/hostname

.. raw:: html

   <b>raw</b>

Moon
====

* one
* two

=====  =====
alpha  beta
=====  =====
1      2
=====  =====

.. code-block:: python

   x = 1

term
   its definition
"""
_RST_TEXT = """\
Water rises and falls, see the moon and code, sea.level.

Known to docutils.

3.8
   Known to Sphinx, Sea.

Moon

one

two

alpha

beta

1

2

x = 1

term

its definition"""


@pytest.mark.parametrize(
    ("name", "data", "title", "text"),
    [
        ("a.docx", docx(), "Tide tables", _DOCX_TEXT),
        ("a.docx", docx(title=""), "Harbours", _DOCX_TEXT),
        ("a.docx", docx(title="Word Document", heading=""), "a", _DOCX_TEXT.removeprefix("Harbours\n")),
        ("a.pptx", pptx(), "Ferries", "First slide\nOne point\nAnother point\n\nSay hello.\n\nleft\tright"),
        (
            "a.pptx",
            pptx("PowerPoint Presentation"),
            "First slide",
            "First slide\nOne point\nAnother point\n\nSay hello.\n\nleft\tright",
        ),
        (
            "a.xlsx",
            xlsx(),
            "Fleet",
            "Ships\nName\tBuilt\tLength\nAurora\t1998-05-01\t62\nBorealis\t2004-02-29 13:30:00\t48.5\tTrue"
            "\n\nPorts\nTurku\tÅland",
        ),
        ("a.odt", odt(), "Charts", _ODT_TEXT),
        ("a.odt", odt(""), "Of the sea", _ODT_TEXT),
        ("a.epub", epub(), "A voyage", "Chapter 1\nWe sail\naway.\n\nThe end, café."),
        ("a.epub", epub(""), "a", "Chapter 1\nWe sail\naway.\n\nThe end, café."),
        ("a.ipynb", notebook(), "Tides", "How they rise.\nAnd fall.\n\nx = 1 < 2\nprint(x)\n\nraw words"),
        (
            "a.ipynb",
            notebook(metadata={"title": "Named"}),
            "Named",
            "Tides\n\nHow they rise.\nAnd fall.\n\nx = 1 < 2\nprint(x)\n\nraw words",
        ),
        ("a.ipynb", notebook(cells=[], worksheets=[{"cells": [{"cell_type": "code", "input": "old()"}]}]), "a", "old()"),
        ("a.eml", mail(), "Tomorrow's ferry", "Dear all,\n\nthe ferry leaves at noon."),
        ("a.eml", mail("plain", "<p>page</p>"), "Tomorrow's ferry", "plain"),
        ("a.eml", mail(None, "<table><tr><td>a<td>b</table><script>x</script>"), "Tomorrow's ferry", "a\tb"),
        ("a.eml", mail(subject=""), "a", "Dear all,\n\nthe ferry leaves at noon."),
        ("a.eml", with_attachment(), "Über Fähren", "See the plan.\n\nAttachments: plan für heute.pdf"),
        (
            "a.eml",
            b"Subject: =?iso-8859-1?Q?caf=E9?=\nContent-Type: text/plain; charset=iso-8859-1\n\ndon\x92t \x80",
            "café",
            "don’t €",
        ),
        (
            "a.eml",
            b"Subject: s\nContent-Type: text/html; charset=undefined\n\n<meta charset=windows-1251><p>\xcf\xf0\xe8\xe2\xe5\xf2",
            "s",
            "Привет",
        ),
        ("a.eml", "Subject: s\n\n<meta charset=iso-8859-1> café".encode(), "s", "<meta charset=iso-8859-1> café"),
        ("a.eml", "Subject: s\nContent-Type: text/plain; charset=x-unknown\n\ncafé".encode(), "s", "café"),
        ("a.eml", b"no headers at all", "a", "no headers at all"),
        ("a.rst", _RST, "The tides", _RST_TEXT),
        ("a.rst", b"PEP: 8\nTitle: Style\nAuthor: G\n\nAbstract\n========\n\nWords.\n\nMore\n====\n\nx", "Style", None),
        ("a.rst", b":Title: Fields\n:Date: today\n\nWords.\n", "Fields", None),
        ("a.rst", b".. image:: x.png\n\nTitle\n=====\n\nText.\n", "Title", "Text."),
        ("a.rst", b"Words.\n\nOne\n---\n\nx\n\nTwo\n---\n\ny\n", "a", "Words.\n\nOne\n\nx\n\nTwo\n\ny"),
        ("a.rst", b"Just ``unclosed and |x| *y\n\n.. unknown:: z\n", "a", None),
        ("a.rst", b"x" * 20_000, "a", "x" * 20_000),
        ("a.txt", "\ufeffcafé".encode("utf-16-le"), "a", "café"),
        ("a.txt", "\ufeffcafé".encode(), "a", "café"),
    ],
)
def test_each_kind_of_file_has_its_own_title_and_all_of_its_words(name: str, data: bytes, title: str, text: str | None) -> None:
    found = READERS[f".{name.rpartition('.')[2]}"](data, name)
    assert found[0] == title
    assert (
        found[1] == text
        if text is not None
        else all(word in found[1] for word in ("Words.", "x", "today", "z") if word.encode() in data)
    )


_BOMB = '<!DOCTYPE x [<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)) + "]>"
_OUTSIDE = '<!DOCTYPE x [<!ENTITY out SYSTEM "file:///etc/hostname">]>'
_PARAMETER = '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd">%p;]>'


def _replaced(data: bytes, part: str, change: Callable[[str], str]) -> bytes:
    with zipfile.ZipFile(BytesIO(data)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    return archive({**parts, part: change(parts[part].decode())})


def _with_prolog(data: bytes, part: str, prolog: str) -> bytes:
    def change(xml: str) -> str:
        declaration, _, rest = xml.rpartition("?>") if xml.startswith("<?xml") else ("", "", xml)
        return f"{declaration}?>{prolog}{rest}" if declaration else f"{prolog}{rest}"

    return _replaced(data, part, change)


@pytest.mark.parametrize("prolog", [_BOMB, _OUTSIDE, _PARAMETER])
@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("a.docx", docx(), "word/document.xml"),
        ("a.docx", docx(), "docProps/core.xml"),
        ("a.docx", docx(), "[Content_Types].xml"),
        ("a.docx", docx(), "word/_rels/document.xml.rels"),
        ("a.pptx", pptx(), "ppt/slides/slide1.xml"),
        ("a.xlsx", xlsx(), "xl/workbook.xml"),
        ("a.xlsx", xlsx(), "xl/worksheets/sheet1.xml"),
        ("a.odt", odt(), "content.xml"),
        ("a.odt", odt(), "meta.xml"),
        ("a.epub", epub(), "OEBPS/book.opf"),
        ("a.epub", epub(), "META-INF/container.xml"),
    ],
)
def test_entities_are_refused_before_any_parser_meets_them(name: str, data: bytes, part: str, prolog: str) -> None:
    changed = _with_prolog(data, part, prolog)
    with pytest.raises(DocumentError, match=f"{name}: .* has a document type") as caught:
        READERS[f".{name.rpartition('.')[2]}"](changed, name)
    assert caught.value.reason == "document_type"
    assert part in str(caught.value)


def test_an_entity_in_the_page_of_a_book_stays_what_it_is_to_browsers() -> None:
    page = f"{_BOMB}<html><body><p>before &a9; after</p></body></html>"
    text = READERS[".epub"](epub(**{"OEBPS/text/one.xhtml": page}), "a.epub")[1]
    assert len(text) < 1_000
    assert "after" in text


def _locked() -> bytes:
    data = bytearray(docx())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


_DRM = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><x>
    <CipherReference URI="OEBPS/text/one.xhtml"/></x></encryption>"""


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        *((f"a.{kind}", b"no zip", f"corrupt_{kind}") for kind in ("docx", "pptx", "xlsx", "odt", "epub")),
        *((f"a.{kind}", archive({"x": "y"}), f"corrupt_{kind}") for kind in ("docx", "pptx", "xlsx", "odt", "epub")),
        ("a.docx", xlsx(), "corrupt_docx"),
        ("a.xlsx", docx(), "corrupt_xlsx"),
        ("a.pptx", docx(), "corrupt_pptx"),
        ("a.docx", docx()[:3_000], "corrupt_docx"),
        ("a.docx", bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600, "encrypted"),
        ("a.docx", _locked(), "encrypted"),
        ("a.docx", _replaced(docx(), "word/document.xml", lambda xml: xml[:200]), "corrupt_docx"),
        ("a.epub", epub(**{"META-INF/encryption.xml": _DRM}), "encrypted"),
        ("a.epub", epub(**{"META-INF/container.xml": "<container/>"}), "corrupt_epub"),
        ("a.odt", archive({"content.xml": "<a>"}), "corrupt_odt"),
        ("a.odt", archive({"content.xml": "<a/>", "x": b"\0" * (8 * MAX_TEXT_BYTES + 1)}), "too_large"),
        ("a.ipynb", b"{", "invalid_json"),
        ("a.ipynb", b"[" * 100_000, "invalid_json"),
        ("a.ipynb", b"[1]", "corrupt_ipynb"),
        ("a.ipynb", b"\xff", "invalid_utf8"),
        ("a.rst", b"\xff", "invalid_utf8"),
        ("a.rst", b"\n".join(b" " * i + b"* x\n" for i in range(0, 1_500, 2)), "corrupt_rst"),
        ("a.eml", b"Content-Type: text/plain; charset=utf-8\n\n\xff", "invalid_encoding"),
    ],
)
def test_a_damaged_file_is_one_error_with_its_name(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=rf"^{name}: ") as caught:
        READERS[f".{name.rpartition('.')[2]}"](data, name)
    assert caught.value.reason == reason


def test_a_book_whose_fonts_alone_are_scrambled_is_read() -> None:
    assert (
        READERS[".epub"](epub(**{"META-INF/encryption.xml": _DRM.replace("text/one.xhtml", "font.otf")}), "a.epub")[0]
        == "A voyage"
    )


@pytest.mark.parametrize(
    ("value", "title", "text"),
    [
        ({"cells": 7}, "a", ""),
        ({"cells": [7, None, {}, {"source": 7}]}, "a", ""),
        ({"metadata": {"title": 7}, "worksheets": 3}, "a", ""),
    ],
)
def test_a_notebook_of_odd_types_loses_only_what_is_odd(value: dict[str, object], title: str, text: str) -> None:
    assert READERS[".ipynb"](json.dumps(value).encode(), "a.ipynb") == (title, text)


_WHOLE: Mapping[str, bytes] = {
    ".docx": docx(),
    ".pptx": pptx(),
    ".xlsx": xlsx(),
    ".odt": odt(),
    ".epub": epub(),
    ".ipynb": notebook(),
    ".eml": with_attachment(),
    ".rst": _RST,
}


@pytest.mark.parametrize("ending", _WHOLE)
def test_damage_anywhere_gives_text_or_one_error(ending: str) -> None:
    random = Random(ending)
    outcomes = []
    for _ in range(40):
        data = bytearray(_WHOLE[ending])
        if random.random() < 0.3:
            del data[random.randrange(len(data)) :]
        for _ in range(random.choice([1, 3, 30]) if data else 0):
            data[random.randrange(len(data))] = random.randrange(256)
        try:
            outcomes.append(READERS[ending](bytes(data), f"a{ending}")[0])
        except DocumentError as exc:
            outcomes.append(str(exc))
    assert len(outcomes) == 40
    assert all(outcomes)


@pytest.mark.parametrize(
    ("ending", "library"),
    [
        (".docx", "docx"),
        (".pptx", "pptx"),
        (".xlsx", "openpyxl"),
        (".odt", "lxml"),
        (".rst", "docutils"),
        (".epub", "defusedxml"),
    ],
)
def test_a_library_that_is_not_installed_is_told_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, ending: str, library: str
) -> None:
    for module in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DocumentError, match=r"pip install 'twinline\[formats\]'") as caught:
        READERS[ending](_WHOLE[ending], f"a{ending}")
    assert caught.value.reason == "missing_library"


def test_a_folder_of_all_kinds_is_read_with_titles_and_formats(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for ending, data in _WHOLE.items():
        (folder / f"a{ending}").write_bytes(data)

    items = read(f"files:{folder}", tmp_path)

    assert not reject_reasons(items)
    assert {key: (item.title, item.metadata) for key, item in documents(items).items()} == {
        f"a{ending}": (READERS[ending](data, f"a{ending}")[0], {"format": ending[1:]}) for ending, data in _WHOLE.items()
    }


_PACK: Mapping[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("method", _PACK)
def test_compressed_files_are_read_under_their_own_names(tmp_path: Path, method: str) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    pack = _PACK[method]
    (folder / f"note.md{method}").write_bytes(pack(b"# Packed\n\nwords"))
    (folder / f"plain.txt{method}").write_bytes(pack(b"more words"))
    (folder / f"rows.csv{method}").write_bytes(pack(b"id;text\n") + pack(b"c1;x\n"))  # two members, as `cat` joins them
    (folder / f"lines.jsonl{method.upper()}").write_bytes(pack(b'{"id": "j1", "text": "y"}\n'))
    (folder / f"cut.txt{method}").write_bytes(pack(bytes(Random(1).randbytes(5_000)))[:900])
    (folder / f"cut.csv{method}").write_bytes(
        pack(b"id,text\n" + b"".join(b"%d,%d\n" % (i, i * 7919) for i in range(9_000)))[:300]
    )
    (folder / f"junk.jsonl{method}").write_bytes(b"this is not packed")

    items = read(f"files:{folder}", tmp_path)

    found = documents(items)
    assert (found[f"note.md{method}"].title, found[f"note.md{method}"].text) == ("Packed", "words")
    assert found[f"plain.txt{method}"].title == "plain"
    assert (found["c1"].text, found["j1"].text) == ("x", "y")
    reasons = {place: reason for place, _, reason in reject_reasons(items)}
    assert reasons == {f"{name}{method}": "unreadable" for name in ("cut.txt", "cut.csv", "junk.jsonl")}


@pytest.mark.parametrize("method", _PACK)
def test_what_a_small_file_unpacks_to_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(compression, "_FREE_BYTES", 1 << 20)
    bomb = _PACK[method]((b" " * 999 + b"\n") * 9_000)
    assert len(bomb) < 30_000
    with pytest.raises(DocumentError, match="more than 1000000 bytes unpacked: split the document") as caught:
        compression.unpacked(bomb, f"a.txt{method}", 1_000_000)
    assert caught.value.reason == "too_large"
    (tmp_path / f"rows.jsonl{method}").write_bytes(bomb)
    items = read(f"files:{tmp_path / f'rows.jsonl{method}'}", tmp_path)
    assert reject_reasons(items) == [(f"rows.jsonl{method}", None, "output_too_large")]


def test_monotonous_text_is_no_bomb(tmp_path: Path) -> None:
    rows = b"".join(b'{"id": "%d", "text": "the same words again and again"}\n' % number for number in range(2_000))
    (tmp_path / "rows.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(rows))
    assert len(documents(read(f"files:{tmp_path / 'rows.jsonl.zst'}", tmp_path))) == 2_000


def test_files_with_pictures_may_be_larger_than_text() -> None:
    assert {ending for ending in READERS if max_file_bytes(ending) == 4 * MAX_TEXT_BYTES} == {
        *(".pdf", ".docx", ".pptx", ".xlsx", ".odt", ".epub", ".ipynb", ".eml")
    }
    assert max_file_bytes(".txt") == MAX_TEXT_BYTES
