"""HTML as browsers read it: parsed by the HTML5 rules, its visible text in one pass."""

import re
from typing import TYPE_CHECKING, Final

from etl.sources.formats.charsets import decode_page
from etl.sources.formats.plain import TitleAndText, one_line, stem
from etl.sources.formats.words import Gap, Words

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

# Never shown, or no part of the page's own text. `nav` leads to other pages.
_HIDDEN: Final = frozenset(
    {"head", "title", "nav", "script", "style", "template", "noscript"}
    | {"iframe", "noembed", "noframes", "object", "audio", "video", "canvas", "datalist", "rp"}
)
# Blocks in a browser's own style sheet, and what is laid out as lines of its own.
_BLOCKS: Final = frozenset(
    {"address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "dir", "div", "dl", "dt"}
    | {"fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr"}
    | {"legend", "li", "listing", "main", "menu", "nav", "ol", "optgroup", "option", "p", "plaintext", "pre", "search", "section"}
    | {"select", "summary", "table", "textarea", "ul", "xmp"}
)
_LINES: Final = frozenset({"br", "tr", "caption", "thead", "tbody", "tfoot"})
_CELLS: Final = frozenset({"td", "th"})
# Boxes inside a line: apart for the eye, without a space in the source. `text` and `rt` are SVG's and ruby's.
_BOXES: Final = frozenset(
    {"audio", "button", "canvas", "iframe", "img", "input", "math", "meter", "object", "progress", "rt", "svg", "text", "video"}
)
_GAPS: Final[dict[str, Gap]] = {
    **dict.fromkeys(_BLOCKS, "\n"),
    **dict.fromkeys(_LINES, "\n"),
    **dict.fromkeys(_CELLS, "\t"),
    **dict.fromkeys(_BOXES, " "),
}
_AS_WRITTEN: Final = frozenset({"pre", "textarea", "listing", "xmp", "plaintext"})

_EMPTY: Final = re.compile(r"<([A-Za-z][\w:-]*)((?:\s[^<>]*)?)/>")
_VOID: Final = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})


def read_html(data: bytes, name: str) -> TitleAndText:
    """Return the visible text of a page; the title is its `title`, or its first heading of the first level."""
    title, text = page_text(decode_page(data, name))
    return title or stem(name), text


def read_xhtml(data: bytes, name: str) -> TitleAndText:
    """Return the visible text of a page in XML's form of HTML."""
    title, text = page_text(html_of_xhtml(decode_page(data, name)))
    return title or stem(name), text


def html_of_xhtml(source: str) -> str:
    """Return XHTML as HTML: there `<title/>` is a start tag, and hides all that follows."""
    return _EMPTY.sub(lambda tag: tag[0] if tag[1].lower() in _VOID else f"<{tag[1]}{tag[2]}></{tag[1]}>", source)


def page_text(source: str, between_blocks: Gap = "\n") -> TitleAndText:
    """Return title and visible text of HTML; the title is empty where the page has none."""
    from selectolax.lexbor import LexborHTMLParser

    page = LexborHTMLParser(source)
    titles = (node for node in page.css("title") if node.parent is None or node.parent.tag != "svg")
    title = next((one_line(node.text()) for node in titles), "")
    heading, text = _visible(page.root, between_blocks) if page.root else (None, "")
    if not title and heading is not None:
        title = one_line(_visible(heading, " ")[1])
    return title, text


def _visible(root: "LexborNode", between_blocks: Gap) -> "tuple[LexborNode | None, str]":
    """Return the first `h1` and the visible text under a node. Nothing recurses: pages are nested as deep as they like."""
    words, heading = Words(), None
    as_written = 0
    node: LexborNode | None = root
    leaving = False
    while node is not None:
        tag = node.tag or ""
        if tag == "-text":
            (words.add_as_written if as_written else words.add)(node.text_content or "")
        elif gap := _GAPS.get(tag):
            words.part(between_blocks if tag in _BLOCKS else gap)
        if tag == "h1" and heading is None:
            heading = node
        below = None if leaving or tag in _HIDDEN else node.first_child
        if tag in _AS_WRITTEN and (leaving or below is not None):
            as_written += -1 if leaving else 1
        if below is not None:
            node = below
        elif node.mem_id == root.mem_id:
            break
        else:
            beside = node.next
            leaving = beside is None
            node = node.parent if beside is None else beside
    return heading, words.text()
