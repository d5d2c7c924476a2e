"""reStructuredText: the words of a document without its markup."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from etl.sources.formats.plain import TitleAndText, one_line, parser_errors, stem, text_of

if TYPE_CHECKING:
    from docutils import nodes

# Sphinx's directives and roles are unknown to docutils, which keeps their source: the words in it are text.
_DIRECTIVE: Final = re.compile(r"^[ \t]*\.\. [\w:.+-]+::[ \t]*|^[ \t]*:[\w -]+:(?=[ \t]|$)", re.MULTILINE)
_ROLE: Final = re.compile(r":[\w:.+-]+:`~?!?([^`<]*[^`<\s])(?:\s*<[^`>]*>)?`")
# Lists of other files and of index entries.
_NO_TEXT: Final = re.compile(r"[ \t]*\.\. (toctree|index|highlight|currentmodule|module|include|literalinclude|raw)::")


def read_rst(data: bytes, name: str) -> TitleAndText:
    """Return the words of a reStructuredText file; the title is its own, the field `Title`, or the file name.

    Nothing outside the file is read, and nothing in it is run: no inclusion, no raw markup, no settings file.
    """
    source = text_of(data, name)
    with parser_errors("rst", name):
        document = _parsed(source, name)
        title, heading = _title(document)
        text = "\n\n".join(_texts(document, heading))
    return title or stem(name), text


def _parsed(source: str, name: str) -> "nodes.document":
    from docutils import frontend, nodes, utils
    from docutils.parsers.rst import Parser

    settings = frontend.get_default_settings(Parser)
    settings.file_insertion_enabled = settings.raw_enabled = False
    settings.syntax_highlight = "none"
    settings.report_level = settings.halt_level = 5  # a flaw of the markup loses no word, and is no news
    settings.line_length_limit = len(source) + 1
    document = utils.new_document(name, settings)
    # A header of fields, as Python's enhancement proposals have it, is read as a field list.
    Parser(rfc2822=True).parse(source, document)
    for unknown in list(document.findall(nodes.problematic)):
        unknown.parent.replace(unknown, nodes.Text(_ROLE.sub(r"\1", unknown.astext())))
    return document


def _title(document: "nodes.document") -> "tuple[str, nodes.Node | None]":
    """Return the title and its node, if that is a heading: the document's first node, or its only outermost section."""
    from docutils import nodes

    before = nodes.comment | nodes.target | nodes.system_message | nodes.image | nodes.figure | nodes.substitution_definition
    content = [node for node in document.children if not isinstance(node, before)]
    sections = [node for node in content if isinstance(node, nodes.section)]
    if content and sections and (content[0] is sections[0] or len(sections) == 1):
        heading = sections[0].children[0]
        return one_line(heading.astext()), heading
    fields = content[0].children if content and isinstance(content[0], nodes.field_list) else ()
    named = (field.children[1].astext() for field in fields if field.children[0].astext().lower() == "title")
    return one_line(next(named, "")), None


def _texts(document: "nodes.document", heading: "nodes.Node | None") -> Iterator[str]:
    from docutils import nodes

    no_text = nodes.comment | nodes.target | nodes.substitution_definition | nodes.raw
    for node in document.findall(nodes.TextElement):
        if node is heading or isinstance(node, no_text) or isinstance(node.parent, nodes.TextElement):
            continue
        text = node.astext()
        if isinstance(node.parent, nodes.system_message):
            # The source of what docutils does not know; its own words about it are no text of the document.
            known = not isinstance(node, nodes.literal_block) or _NO_TEXT.match(text)
            text = "" if known else _ROLE.sub(r"\1", _DIRECTIVE.sub("", text))
        if text.strip():
            yield text.strip("\n")
