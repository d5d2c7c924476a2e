"""HTML and Markdown as browsers read them: words, breaks, encodings, titles."""

import re
from collections.abc import Sequence
from html import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.sources.formats import READERS
from etl.sources.formats.pages import page_text
from twinline.contract.errors import DocumentError


def html(source: str | bytes) -> tuple[str, str]:
    return READERS[".html"](source.encode() if isinstance(source, str) else source, "page.html")


def markdown(source: str) -> tuple[str, str]:
    return READERS[".md"](source.encode(), "note.md")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        # the ends of head, body, p, li, tr, td, dt, dd and option may be left out
        (
            "<!doctype html><html lang=en><head><meta charset=utf-8><title>F</title><link rel=stylesheet href=x><body><p>noon",
            "noon",
        ),
        ("<title>F</title><p>no head, no body", "no head, no body"),
        ("<head><title>F</title><p>a paragraph ends the head</p>", "a paragraph ends the head"),
        ("<p>one<p>two<li>x<li>y", "one\ntwo\nx\ny"),
        ("<ul><li>x<li>y</ul>z", "x\ny\nz"),
        ("<table><tr><td>a<td>b<tr><td>c<td>d</table>", "a\tb\nc\td"),
        ("<dl><dt>Term<dd>Definition<dt>Other<dd>Too</dl>", "Term\nDefinition\nOther\nToo"),
        ("<select><option>red<option>green</select>blue", "red\ngreen\nblue"),
        # cells and blocks
        ("<table><tr><td>alpha</td><td>beta</td></tr></table>", "alpha\tbeta"),
        ("<div>Intro<p>Para</p></div>", "Intro\nPara"),
        ("<dl><dt>Term</dt><dd>Definition</dd></dl>", "Term\nDefinition"),
        (
            "<table><caption>Cap</caption><tr><th>h1</th><th>h2</th></tr><tr><td>a</td><td>b</td></tr></table>",
            "Cap\nh1\th2\na\tb",
        ),
        ("before<blockquote>quote</blockquote>after", "before\nquote\nafter"),
        ("a<article>b</article>c<aside>d</aside>e", "a\nb\nc\nd\ne"),
        ("<figure>pic<figcaption>words</figcaption></figure>", "pic\nwords"),
        ("<form><fieldset><legend>L</legend>in</fieldset></form>out", "L\nin\nout"),
        ("a<hr>b<br>c<br/>d", "a\nb\nc\nd"),
        ("<details><summary>More</summary>inside</details>", "More\ninside"),
        ("a<address>b</address>c<center>d</center>e", "a\nb\nc\nd\ne"),
        ("one<nav>menu</nav>two", "one\ntwo"),
        ("<button>Yes</button><button>No</button>", "Yes No"),
        ("left<img alt=''>right<video>old browser</video>end", "left right end"),
        ("<svg><title>tip</title><text>a</text><text>b</text></svg>", "a b"),
        ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>", "漢 kan"),
        # no break inside a line
        ("in<b>side</b> a <i>w</i>ord<sup>2</sup>", "inside a word2"),
        ("<a href=x>li</a>nk, <span>s</span>pan, soft<wbr>break, <code>co</code>de", "link, span, softbreak, code"),
        ("un<!-- a comment -->broken", "unbroken"),
        ("un<my-tag>known</my-tag> ele<x>ments</x>", "unknown elements"),
        # white space
        ("<p>  many\n\t spaces  </p>  <p>\n next </p>", "many spaces\nnext"),
        ("<b>bold </b>and<i> italic</i>", "bold and italic"),
        ("<pre>\n  two\n    lines\n</pre>after", "two\n    lines\nafter"),
        ("<pre></pre> one  space", "one space"),
        ("<textarea>kept\n  so</textarea>", "kept\n  so"),
        ("a&nbsp;b &lt;c&gt; &eacute;&#8217;&hellip;", "a\xa0b <c> é’…"),
        # what is not shown
        ("<script>no()</script>a<style>p{}</style>b<template><p>t</p></template>c<noscript>n</noscript>d", "abcd"),
        ("a<iframe>old</iframe>b<datalist><option>x</datalist>", "a b"),
        ("<body><title>late</title>text", "text"),
    ],
)
def test_words_stand_apart_where_a_browser_shows_them_apart(source: str, text: str) -> None:
    assert html(source)[1] == text


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("<title> Ferry\n timetable </title><h1>Ferry</h1>", "Ferry timetable"),
        ("<h1>Head<br>line</h1><p>x", "Head line"),
        ("<nav><h1>Menu</h1></nav><h1>Main <b>part</b></h1>", "Main part"),
        ("<title></title><h1>Spare</h1>", "Spare"),
        ("<svg><title>icon</title></svg><h1>Real</h1>", "Real"),
        ("<p>nothing named", "page"),
    ],
)
def test_the_title_is_the_pages_own_or_its_first_heading(source: str, title: str) -> None:
    assert html(source)[0] == title


@pytest.mark.parametrize(
    ("source", "title", "text"),
    [
        ("<html><head><title/></head><body><p>words</p></body></html>", "page", "words"),
        (
            "<html><head><title>T</title><script src='x'/></head><body><p>a<a id='b'/>b<br/>c<hr/>d</p></body></html>",
            "T",
            "ab\nc\nd",
        ),
        ("<body><textarea/><div class='x' />after <i/>that<svg><path d='M0/0'/></svg></body>", "page", "after that"),
        ("<p>a &lt;b/&gt; <span title='a/b'>c</span> 1 / 2</p>", "page", "a <b/> c 1 / 2"),
        ("<a " * 100_000 + "/>", "page", ""),
    ],
)
def test_empty_elements_of_xhtml_hide_nothing(source: str, title: str, text: str) -> None:
    assert READERS[".xhtml"](source.encode(), "page.xhtml") == (title, text)


_QUOTES = b"<p>don\x92t \x93quote\x94 \x80 5 \x96 6</p>"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (b"<html><head><meta charset=iso-8859-1></head><body>" + _QUOTES, "don’t “quote” € 5 – 6"),
        (b"<meta charset=latin1>" + _QUOTES, "don’t “quote” € 5 – 6"),
        (b"<meta charset=' US-ASCII '>" + _QUOTES, "don’t “quote” € 5 – 6"),
        (b"<meta http-equiv=Content-Type content='text/html; charset=windows-1252'>" + _QUOTES, "don’t “quote” € 5 – 6"),
        (b"<meta http-equiv='content-type' content='text/html;CHARSET=\"ISO-8859-1\"'>" + _QUOTES, "don’t “quote” € 5 – 6"),
        (b"<meta charset=windows-1252><p>a\x81b", "a\x81b"),  # undefined to Python, a control to browsers
        # a byte order mark outranks the label
        ("\ufeff<html><head><meta charset=iso-8859-1></head><body><p>café</p>".encode(), "café"),
        ("\ufeff<p>café".encode("utf-16-le"), "café"),
        ("\ufeff<meta charset=utf-8><p>café".encode("utf-16-be"), "café"),
        # a label that browsers do not know is none
        (
            b'<!doctype html><html><head><meta charset="undefined"><title>T</title></head><body><p>hello walrus</p></body>',
            "hello walrus",
        ),
        ('<meta charset="klingon"><p>café'.encode(), "café"),
        ('<meta charset="{{ charset }}"><p>café'.encode(), "café"),
        ('<meta charset=""><p>café'.encode(), "café"),
        ('<meta charset="rot13"><p>café'.encode(), "café"),  # Python knows it, browsers do not
        ('<meta charset="utf-16"><p>café'.encode(), "café"),  # a page that could be read so far is not UTF-16
        # labels of the web that Python does not know, or knows by another name
        (b'<meta charset="windows-31j"><p>' + "①日本".encode("cp932"), "①日本"),
        (b'<meta charset="x-sjis"><p>' + "日本".encode("cp932"), "日本"),
        (b'<meta charset="iso-8859-8-i"><p>' + "שלום".encode("iso8859-8"), "שלום"),
        (b'<meta charset="gb2312"><p>' + "汉字€".encode("gb18030"), "汉字€"),
        (b'<meta charset="ks_c_5601-1987"><p>' + "똠방".encode("cp949"), "똠방"),
        (b'<meta charset="koi8-u"><p>' + "Київ".encode("koi8-u"), "Київ"),
        ('<meta charset="unicode-1-1-utf-8"><p>café'.encode(), "café"),
        # where it is declared
        (b'<?xml version="1.0" encoding="ISO-8859-1"?><html><body>' + _QUOTES, "don’t “quote” € 5 – 6"),
        ("<!-- <meta charset=iso-8859-1> --><p>café".encode(), "café"),
        ("<script>'<meta charset=iso-8859-1>'</script><p>café".encode(), "café"),
        (b"<!--" + b"x" * 3_000 + b"--><meta charset=iso-8859-1>" + _QUOTES, "don’t “quote” € 5 – 6"),
        (b"<meta charset=nonsense><meta charset=iso-8859-1>" + _QUOTES, "don’t “quote” € 5 – 6"),
        ("<p>nothing declared: café".encode(), "nothing declared: café"),
    ],
)
def test_encodings_are_found_as_browsers_find_them(source: bytes, text: str) -> None:
    assert html(source)[1] == text


@pytest.mark.parametrize("source", [b"<p>caf\xe9", b"<meta charset=utf-8><p>caf\xe9", b"<meta charset=hz-gb-2312><p>x"])
def test_bytes_that_are_not_in_the_pages_encoding_are_one_error_with_its_name(source: bytes) -> None:
    with pytest.raises(DocumentError, match=r"page.html: not (utf-8|replacement).*save it as UTF-8") as caught:
        html(source)
    assert caught.value.reason == "invalid_encoding"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("".join(f"<p>Paragraph {i} of a long book, with some words in it.</p>\n" for i in range(30_000)), 11 * 30_000),
        ("<div>" * 20_000 + "deep", 1),
        ("<table><tr><td>" * 3_000 + "deep", 1),
        ("<ul>" + "<li>item" * 50_000, 50_000),
        ("<table>" + "<tr><td>a<td>b" * 30_000, 60_000),
        ("<b>" * 20_000 + "deep", 1),
        ("<p>" + "word<br>" * 100_000, 100_000),
        ("<pre>" + "word\n" * 100_000, 100_000),
        ("<!--" * 100_000, 0),
        ("<p " + "a=1 " * 100_000 + ">x", 1),
    ],
)
def test_large_and_deep_pages_are_read_whole(source: str, words: int) -> None:
    # pytest's own limit of 300 s is what a quadratic pass exceeds: the first page took more than 200 s once.
    assert len(page_text(source)[1].split()) == words


_WORDS = st.from_regex(r"[a-z]{1,8}[0-9]{1,3}", fullmatch=True)
_BLOCK_TAGS = st.sampled_from(
    ["p", "div", "li", "section", "blockquote", "h2", "dd", "dt", "figcaption", "td", "option", "caption"]
)
_INLINE_TAGS = st.sampled_from(["b", "i", "em", "span", "a", "code", "sup", "u", "mark", "small"])


@settings(deadline=None)
@given(st.lists(st.tuples(_BLOCK_TAGS, _INLINE_TAGS, _WORDS, st.booleans()), min_size=1, max_size=30))
def test_every_visible_word_of_generated_pages_stands_apart_and_whole(pieces: Sequence[tuple[str, str, str, bool]]) -> None:
    wrapped = {"td": ("<table><tr>", "</table>"), "option": ("<select>", "</select>"), "caption": ("<table>", "</table>")}
    source = ""
    for block, inline, word, is_closed in pieces:
        before, after = wrapped.get(block, ("", ""))
        half = len(word) // 2
        inner = f"{word[:half]}<{inline}>{word[half:]}</{inline}>"
        end = f"</{block}>" if is_closed or after or block in ("h2", "figcaption", "div", "section", "blockquote") else ""
        source += f"{before}<{block}>{inner}{end}{after}<script>hidden</script>"
    assert page_text(source)[1].split() == [word for _, _, word, _ in pieces]


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=200))
def test_escaped_text_comes_back_as_it_was(text: str) -> None:
    assert page_text(f"<p>{escape(text)}</p>")[1] == re.sub(" +", " ", text).strip()


@pytest.mark.parametrize(
    ("source", "title", "text"),
    [
        ("# T\n\nfirst line<br>second line", "T", "first line\nsecond line"),
        ("# T\n\n| a | b |\n|---|---|\n| one<br>two | x |", "T", "a\tb\none\ntwo\tx"),
        ("a<br/>b<br />c", "note", "a\nb\nc"),
        ("line one\nline two  \nline three", "note", "line one\nline two\nline three"),
        ("in<b>side</b> <kbd>Ctrl</kbd>+<kbd>C</kbd>", "note", "inside Ctrl+C"),
        ("<div>Intro<p>Para</p></div>\n\nafter", "note", "Intro\n\nPara\n\nafter"),
        ("<table><tr><td>alpha</td><td>beta</td></tr></table>", "note", "alpha\tbeta"),
        ("<dl><dt>Term<dd>Definition</dl>", "note", "Term\n\nDefinition"),
        ("<details>\n<summary>More</summary>\n\nInside *it*.\n\n</details>", "note", "More\n\nInside it."),
        ("a <!-- hidden --> b\n\n<!-- hidden\n\ntoo -->\n\nc", "note", "a b\n\nc"),
        ("a stray <script> and more\n\nnext block", "note", "a stray\n\nnext block"),
        ("![a picture of tides](x.png) and [a link](http://x 'tip')", "note", "a picture of tides and a link"),
        ("AT&amp;T &lt;b&gt; `<br>` \\<br>", "note", "AT&T <b> <br> <br>"),
        ("```html\n<p>one</p>\n<p>two</p>\n```\n\nend", "note", "<p>one</p>\n<p>two</p>\n\nend"),
        ("    indented\n      code\n\nend", "note", "indented\n  code\n\nend"),
        ("# A *styled* `title`\n\n## Second\n\nText.", "A styled title", "Second\n\nText."),
        ("Setext\n======\n\nText.", "Setext", "Text."),
        ("#\n\n# Named\n\nText.", "Named", "Text."),
        ("> # Quoted title\n>\n> words", "Quoted title", "words"),
        ("- one\n- two\n\n1. three\n2. four", "note", "one\n\ntwo\n\nthree\n\nfour"),
        ("<script>no()</script>\n\ntext<style>x</style>", "note", "text"),
    ],
)
def test_markdown_reads_as_the_page_that_it_becomes(source: str, title: str, text: str) -> None:
    assert markdown(source) == (title, text)


@pytest.mark.parametrize(
    ("matter", "title"),
    [
        ("title: Minutes of March\ndate: 2024-02-30", "Minutes of March"),
        ("title: 1984", "1984"),
        ("title: 2024-02-30", "2024-02-30"),
        ("title: 2024-13-01T25:61:61", "2024-13-01T25:61:61"),
        ("title: 1_0:99:99", "1_0:99:99"),
        ("title: 0b2\nweight: 0xzz\nn: .inf", "0b2"),
        ("title: No", "No"),
        ("title: 3.10", "3.10"),
        ("title: '  quoted: with colon '", "quoted: with colon"),
        ("title: >\n  folded\n  lines", "folded lines"),
        ("title: [a, b]", "[a, b]"),
        ("title: {{ page.title }}", "{{ page.title }}"),
        ("title: !!python/object:os.system x", "x"),
        ("title: !Ref thing", "thing"),
        ("name: &n Named once\ntitle: *n", "Named once"),
        ("base: &b {x: 1}\ntitle: Merged\nmore:\n  <<: *b", "Merged"),
        ("tags: [title, x]\nother: {title: inner}\ntitle: Outer", "Outer"),
        ("title: First\ntitle: Second", "First"),
        ("title:\nx: 1", "Heading"),
        ("title: ~", "Heading"),
        ("title: null", "Heading"),
        ("layout: page", "Heading"),
        ("être: [é, ü]\ntitle: [Tür, Öl]", "[Tür, Öl]"),
        ("deep: " + "[" * 5_000 + "]" * 5_000 + "\ntitle: Deep", "Deep"),
    ],
)
def test_the_title_of_front_matter_may_be_anything(matter: str, title: str) -> None:
    found, text = markdown(f"---\n{matter}\n---\n# Heading\n\nWe met.\n")
    assert found == title
    assert text == ("We met." if title == "Heading" else "Heading\n\nWe met.")


@pytest.mark.parametrize(
    "source",
    [
        "---\njust: [broken\n---\nText.",
        "---\na list\n---\nText.",
        "---\n- a\n- b\n---\nText.",
        "---\n\n---\nText.",
        "---\n*x\n---\nText.",
    ],
)
def test_what_only_looks_like_front_matter_stays_text(source: str) -> None:
    title, text = markdown(source)
    assert [word for word in ("broken", "list", "a", "Text.") if word in source.split()] == [
        word for word in ("broken", "list", "a", "Text.") if word in f"{title} {text}".split()
    ]
    assert "Text." in text


def test_front_matter_whose_title_grows_by_aliases_is_one_error() -> None:
    lines = ["a0: &a0 [" + ",".join("x" * 10) + "]"]
    lines += [f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 9)]
    source = "\n".join(["---", *lines, "title: *a8", "---", "body of a note"]) + "\n"
    assert len(source) < 500

    with pytest.raises(DocumentError, match=r"note.md: the title .* alias .*\(\*a8\): write it out") as caught:
        markdown(source)

    assert caught.value.reason == "invalid_front_matter"
    # Where the title is plain, nothing of the aliases is built.
    assert markdown(source.replace("*a8", "Plain"))[0] == "Plain"
