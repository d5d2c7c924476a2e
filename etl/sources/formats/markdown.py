"""Markdown: rendered to HTML a block at a time, and read as HTML is, so that both follow one set of rules."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from etl.sources.formats.pages import page_text
from etl.sources.formats.plain import TitleAndText, one_line, stem, text_of
from twinline.contract.errors import DocumentError

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from yaml import Mark, NodeEvent
    from yaml._yaml import Mark as CMark

_FRONT_MATTER: Final = re.compile(r"---[ \t]*\r?\n(.*?\n)---[ \t]*(?:\r?\n|$)", re.DOTALL)
# Longer front matter is text.
_MAX_FRONT_MATTER_CHARS: Final = 64 << 10


def read_markdown(data: bytes, name: str) -> TitleAndText:
    """Return the words of a Markdown file without its markup; the title is its front matter's, or its first heading."""
    front, source = _front_matter(text_of(data, name), name)
    title, text = markdown_text(source, front)
    return title or stem(name), text


def markdown_text(source: str, title: str = "") -> TitleAndText:
    """Return title and text of Markdown. Where no title is given, the first heading is it, and leaves the text."""
    markdown = _parser()
    env: dict[str, Any] = {}
    tokens = markdown.parse(source, env)
    for at in [at for at, token in enumerate(tokens) if token.type == "heading_open"]:
        if title:
            break
        # Every chunk starts with the title: not in the text again.
        heading = tokens[at : at + 3]
        title = one_line(page_text(markdown.renderer.render(heading, markdown.options, env))[1])
        if title:
            del tokens[at : at + 3]
    # One page is quicker than many. An element that HTML leaves open, such as a stray `<script>`, hides its block alone.
    parts = _blocks(tokens) if any(map(_has_html, tokens)) else (tokens,)
    blocks = (page_text(markdown.renderer.render(part, markdown.options, env), "\n\n")[1] for part in parts)
    return title, "\n\n".join(block for block in blocks if block)


@cache
def _parser() -> "MarkdownIt":
    """Return the parser; making it takes as long as reading a page."""
    from markdown_it import MarkdownIt
    from markdown_it.common.utils import escapeHtml

    def image(self: object, tokens: Sequence["Token"], at: int, options: object, env: object) -> str:
        return escapeHtml(tokens[at].content)  # what the picture shows, in words

    # A line end of the source stays one: texts of older releases keep their form.
    markdown = MarkdownIt("commonmark", {"breaks": True}).enable("table")
    markdown.add_render_rule("image", image)
    return markdown


def _blocks(tokens: Sequence["Token"]) -> Iterator[Sequence["Token"]]:
    """Yield the outermost blocks."""
    depth = start = 0
    for at, token in enumerate(tokens, 1):
        depth += token.nesting
        if depth == 0:
            yield tokens[start:at]
            start = at


def _has_html(token: "Token") -> bool:
    return token.type == "html_block" or any(child.type == "html_inline" for child in token.children or ())


def _front_matter(source: str, name: str) -> TitleAndText:
    """Separate the YAML block that site generators put first from the text, and return its title and the text."""
    import yaml

    match = _FRONT_MATTER.match(source)
    if match is None or len(match[1]) > _MAX_FRONT_MATTER_CHARS:
        return "", source
    try:
        title = _title_of(match[1], name)
    except yaml.YAMLError:
        return "", source  # a ruled-off paragraph, not front matter: all of it stays text
    return ("", source) if title is None else (one_line(title), source[match.end() :])


def _title_of(matter: str, name: str) -> str | None:
    """Return the title in front matter, None where it is no mapping.

    Only events are read: no value is built, so no date can be wrong and no alias grows.
    """
    import yaml

    title: str | None = None
    key, at_key, depth, began, found = "", True, 0, -1, False
    anchored: dict[str, str] = {}
    # The parser in C, where PyYAML has it: the other one takes the square of the depth.
    for event in yaml.parse(matter, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            if depth == 1 and began >= 0:
                title, began = matter[began : _index(event.end_mark)], -1  # a list or a template: as it is written
            at_key = not at_key if depth == 1 else at_key
        elif isinstance(event, yaml.NodeEvent):
            if depth == 0 and not isinstance(event, yaml.MappingStartEvent):
                return None
            if isinstance(event, yaml.ScalarEvent) and event.anchor:
                anchored[event.anchor] = event.value
            if depth == 1 and at_key:
                key = event.value if isinstance(event, yaml.ScalarEvent) else ""
            elif depth == 1 and key == "title" and title is None:
                title, began = _title_or_begin(event, anchored, name)
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif depth == 1:
                at_key = not at_key
            found = True
    return title or "" if found else None


def _title_or_begin(event: "NodeEvent", anchored: Mapping[str, str], name: str) -> tuple[str | None, int]:
    """Return a title of one value, or the place where a longer one begins."""
    import yaml

    if isinstance(event, yaml.ScalarEvent):
        is_null = event.implicit[0] and event.value in ("", "~", "null", "Null", "NULL")
        return "" if is_null else event.value, -1
    if not isinstance(event, yaml.AliasEvent):
        return None, _index(event.start_mark)
    if event.anchor is None or event.anchor not in anchored:
        message = f"{name}: the title in the front matter is an alias of a list or mapping (*{event.anchor}): write it out"
        raise DocumentError("invalid_front_matter", message)
    return anchored[event.anchor], -1


def _index(mark: "Mark | CMark | None") -> int:
    return 0 if mark is None else mark.index
