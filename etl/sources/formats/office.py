"""Word, PowerPoint, Excel and OpenDocument text. A document, a presentation and a workbook are one document each."""

from collections.abc import Iterable, Iterator
from datetime import datetime, time
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from etl.sources.formats.archives import open_archive
from etl.sources.formats.plain import TitleAndText, one_line, stem
from etl.sources.formats.words import Words

if TYPE_CHECKING:
    from lxml.etree import _Element

# By the last part of an element's name: what holds text, what ends lines and cells, what is not shown.
_OOXML_TEXT: Final = frozenset({"t"})
_ODF_TEXT: Final = frozenset({"p", "h"})
_LINES: Final = frozenset({"p", "h", "tr", "br", "cr", "line-break", "table-row", "list-item", "note"})
_CELLS: Final = frozenset({"tc", "table-cell"})
_TABS: Final = _CELLS | {"tab"}
# `Fallback` repeats a text box for older programs.
_HIDDEN: Final = frozenset({"Fallback", "delText", "instrText", "tracked-changes", "annotation", "note-citation", "index-title"})
# What PowerPoint and Word write where nobody gave a title.
_NO_TITLES: Final = frozenset({"powerpoint presentation", "word document", "untitled"})


def read_docx(data: bytes, name: str) -> TitleAndText:
    """Return title and text of a Word document with its tables, text boxes and notes; headers and footers are left out."""
    with open_archive(data, "docx", name):
        from docx import Document
        from docx.oxml import parse_xml

        document = Document(BytesIO(data))
        notes = [
            parse_xml(relation.target_part.blob)
            for relation in document.part.rels.values()
            if not relation.is_external and relation.reltype.endswith(("/footnotes", "/endnotes"))
        ]
        text = _text([document.element.body, *notes], _OOXML_TEXT)
        headings = (
            paragraph.text
            for paragraph in document.paragraphs
            if paragraph.style is not None and paragraph.style.name in ("Title", "Heading 1") and paragraph.text.strip()
        )
        title = _own_title(document.core_properties.title) or one_line(next(headings, ""))
    return title or stem(name), text


def read_pptx(data: bytes, name: str) -> TitleAndText:
    """Return title and text of a presentation, slide by slide, each with its notes."""
    with open_archive(data, "pptx", name):
        from pptx import Presentation

        presentation = Presentation(BytesIO(data))
        texts = []
        heading = ""
        for slide in presentation.slides:
            shape = slide.shapes.title
            heading = heading or one_line(shape.text_frame.text if shape is not None else "")
            notes = slide.notes_slide.notes_placeholder if slide.has_notes_slide else None
            texts += [_text([slide.element], _OOXML_TEXT), "" if notes is None else _text([notes.element], _OOXML_TEXT)]
        title = _own_title(presentation.core_properties.title) or heading
    return title or stem(name), "\n\n".join(text for text in texts if text)


def read_xlsx(data: bytes, name: str) -> TitleAndText:
    """Return the sheets of a workbook as text: a sheet's name, then a line for each row."""
    with open_archive(data, "xlsx", name):
        from openpyxl import load_workbook

        workbook = load_workbook(BytesIO(data), read_only=True, data_only=True, keep_links=False)
        try:
            texts = []
            for sheet in workbook.worksheets:
                sheet.reset_dimensions()  # a file may claim more rows than it has
                if lines := list(_rows(sheet.iter_rows(values_only=True))):
                    texts.append("\n".join((sheet.title, *lines)))
            title = _own_title(workbook.properties.title)
        finally:
            workbook.close()
    return title or stem(name), "\n\n".join(texts)


def read_odt(data: bytes, name: str) -> TitleAndText:
    """Return title and text of an OpenDocument text."""
    with open_archive(data, "odt", name) as archive:
        from lxml import etree

        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
        body = etree.fromstring(archive.read("content.xml"), parser).find("{*}body")
        text = "" if body is None else _text([body], _ODF_TEXT)
        title = heading = ""
        if body is not None:
            heading = next((_text([node], _ODF_TEXT) for node in body.iter("{*}h")), "")
        if "meta.xml" in archive.namelist():
            title = _own_title(etree.fromstring(archive.read("meta.xml"), parser).findtext(".//{*}title"))
    return title or one_line(heading) or stem(name), text


def _own_title(title: object) -> str:
    found = one_line(title)
    return "" if found.lower() in _NO_TITLES else found


def _text(roots: "Iterable[_Element]", holders: frozenset[str]) -> str:
    """Return the text of some XML: what stands in its holders, with breaks after lines and cells."""
    from lxml import etree

    words = Words()
    for root in roots:
        words.part("\n")
        inside = cells = 0
        walk = etree.iterwalk(root, events=("start", "end"))
        for event, element in walk:
            tag = etree.QName(element).localname
            if event == "start" and tag in _HIDDEN:
                walk.skip_subtree()
                continue
            step = 1 if event == "start" else -1
            cells += step * (tag in _CELLS)
            # A row stays one line, however many paragraphs its cells have.
            words.part("\t" if tag in _TABS else (" " if cells else "\n") if tag in _LINES else " " if tag == "s" else "")
            inside += step * (tag in holders)
            if inside and event == "start":
                words.add(element.text or "")
            elif inside and element is not root:
                words.add(element.tail or "")
    return words.text()


def _rows(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    for row in rows:
        line = "\t".join(_cell(value) for value in row).rstrip("\t")
        if line.strip():
            yield line


def _cell(value: Any) -> str:
    """Return a cell as a person reads it: no `.0`, no midnight on dates."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return str(value)
