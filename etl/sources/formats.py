"""One reader per kind of file that holds one document: its title and its text."""

import logging
import re
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import PurePosixPath

from twinline.contract.errors import DocumentError

TitleAndText = tuple[str, str]


def read_text(data: bytes, name: str) -> TitleAndText:
    """Return plain text as it is, titled by its file name."""
    return _stem(name), _utf8(data, name)


def read_markdown(data: bytes, name: str) -> TitleAndText:
    """Return the words of a Markdown file without its markup; the title is its front matter's, or its first heading."""
    from markdown_it import MarkdownIt

    front_matter, source = _front_matter(_utf8(data, name))
    title, blocks = front_matter, []
    heading = False
    for token in MarkdownIt("commonmark").enable("table").parse(source):
        if token.type == "inline":
            text = "".join(_inline(child.type, child.content) for child in token.children or ())
            if heading and not title:
                title = text  # every chunk starts with the title: not in the text again
            elif text.strip():
                blocks.append(text)
        elif token.type in {"fence", "code_block"}:
            blocks.append(token.content.rstrip("\n"))
        elif token.type == "html_block":
            blocks.append(_visible_text(token.content)[1])
        heading = token.type == "heading_open"
    return title or _stem(name), "\n\n".join(block for block in blocks if block)


def read_html(data: bytes, name: str) -> TitleAndText:
    """Return the visible text of a page, in the encoding that the page declares (UTF-8 where it declares none)."""
    from bs4.dammit import EncodingDetector

    encoding = EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8"
    try:
        source = data.decode("utf-8-sig" if encoding in {"utf-8", "utf8"} else encoding)
    except (UnicodeDecodeError, LookupError) as exc:
        raise DocumentError("invalid_encoding", f"{name}: not {encoding}: {exc}") from exc
    try:
        title, text = _visible_text(source)
    except RecursionError as exc:
        raise DocumentError("too_deep", f"{name}: elements are nested too deeply to be read") from exc
    return title or _stem(name), text


def read_pdf(data: bytes, name: str) -> TitleAndText:
    """Return the text layer of a PDF; a scan without one has no text."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it reports every repaired flaw of a file that it can read
    try:
        reader = PdfReader(BytesIO(data))
        pages = [page.extract_text() for page in reader.pages]
        title = (reader.metadata.title if reader.metadata else None) or ""
    # A damaged file makes the parser fail anywhere, so the list is long; each failure becomes a reject.
    except (PyPdfError, ArithmeticError, AttributeError, LookupError, OSError, RecursionError) as exc:
        raise DocumentError("corrupt_pdf", f"{name}: {type(exc).__name__}: {exc}") from exc
    except (AssertionError, NotImplementedError, TypeError, ValueError, zlib.error) as exc:
        raise DocumentError("corrupt_pdf", f"{name}: {type(exc).__name__}: {exc}") from exc
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    if not text:
        raise DocumentError("no_text", f"{name}: its {len(pages)} pages have no text layer: run text recognition first")
    return title.strip() or _stem(name), text


READERS: Mapping[str, Callable[[bytes, str], TitleAndText]] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".txt": read_text,
    ".text": read_text,
    ".rst": read_text,
    ".pdf": read_pdf,
}


def _utf8(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise DocumentError("invalid_utf8", f"{name}: not UTF-8 at byte {exc.start}, line {line}") from exc


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _inline(kind: str, content: str) -> str:
    if kind in {"softbreak", "hardbreak"}:
        return "\n"
    return "" if kind == "html_inline" else content


def _front_matter(source: str) -> TitleAndText:
    """Separate the YAML block that site generators put first from the text, and return its title and the text."""
    import yaml

    match = re.match(r"---[ \t]*\r?\n(.*?\n)---[ \t]*(?:\r?\n|$)", source, re.DOTALL)
    if match is None:
        return "", source
    try:
        fields = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return "", source  # a ruled-off paragraph, not front matter: all of it stays text
    if not isinstance(fields, dict):
        return "", source
    return str(fields.get("title") or ""), source[match.end() :]


def _visible_text(source: str) -> TitleAndText:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(source, "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for hidden in soup(["head", "title", "nav", "script", "style", "template", "noscript"]):
        hidden.decompose()
    for block in soup(["p", "div", "li", "tr", "pre", "br", "h1", "h2", "h3", "h4", "h5", "h6", "section", "table"]):
        block.insert_after("\n")
    if not title and soup.h1:
        title = soup.h1.get_text(" ", strip=True)
    return title, soup.get_text().strip()
