"""EPUB books: their pages in reading order, each read as HTML."""

from collections.abc import Iterator
from posixpath import dirname, join, normpath
from typing import Any, Final
from urllib.parse import unquote
from zipfile import ZipFile

from etl.sources.formats.archives import open_archive
from etl.sources.formats.charsets import decode_page
from etl.sources.formats.pages import html_of_xhtml, page_text
from etl.sources.formats.plain import TitleAndText, one_line, stem
from twinline.contract.errors import DocumentError

_PAGES: Final = ("application/xhtml+xml", "text/html")


def read_epub(data: bytes, name: str) -> TitleAndText:
    """Return the title and the pages of a book."""
    with open_archive(data, "epub", name) as archive:
        container = _xml(archive, "META-INF/container.xml")
        package_path = next((file.attrib["full-path"] for file in container.iterfind(".//{*}rootfile")), "")
        package = _xml(archive, package_path)
        title = one_line(next((node.text for node in package.iterfind("{*}metadata/{*}title") if node.text), ""))
        encrypted = _encrypted(archive)
        texts = []
        for path in _reading_order(package, dirname(package_path)):
            if path in encrypted:
                raise DocumentError("encrypted", f"{name}: {path} is encrypted: take a copy without protection")
            texts.append(page_text(html_of_xhtml(decode_page(archive.read(path), f"{name}: {path}")))[1])
    return title or stem(name), "\n\n".join(text for text in texts if text)


def _xml(archive: ZipFile, path: str) -> Any:
    from defusedxml.ElementTree import fromstring

    return fromstring(archive.read(path), forbid_dtd=True)


def _reading_order(package: Any, folder: str) -> Iterator[str]:
    """Yield the paths of the pages that the book's spine names; its table of contents is no page."""
    items = {item.get("id"): item for item in package.iterfind("{*}manifest/{*}item")}
    for reference in package.iterfind("{*}spine/{*}itemref"):
        item = items[reference.get("idref")]
        if item.get("media-type") in _PAGES and "nav" not in (item.get("properties") or "").split():
            yield normpath(join(folder, unquote(item.get("href", ""))))


def _encrypted(archive: ZipFile) -> set[str]:
    if "META-INF/encryption.xml" not in archive.namelist():
        return set()
    references = _xml(archive, "META-INF/encryption.xml").iterfind(".//{*}CipherReference")
    return {unquote(reference.get("URI", "")) for reference in references}
