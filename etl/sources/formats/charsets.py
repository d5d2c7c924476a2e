"""The encoding of a page, as the WHATWG standard finds it: byte order mark, then declaration, then UTF-8."""

import codecs
import re
from collections.abc import Iterator
from typing import Final

from twinline.contract.errors import DocumentError

# Browsers look for a declaration in the first 1,024 bytes, and read again where they meet it later.
_LOOKED_THROUGH: Final = 64 << 10
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_IN_CONTENT: Final = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']+)", re.IGNORECASE)
_IN_XML: Final = re.compile(r"<\?xml\s[^>]*?encoding\s*=\s*[\"']([^\"'>]+)[\"']")
# The bytes of windows-1252 that are not those of Latin-1. Five bytes are undefined to Python and controls to browsers.
_WINDOWS_1252: Final = {
    byte: bytes([byte]).decode("cp1252") for byte in range(0x80, 0xA0) if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}

# Where Python's codec of that name is not the one of browsers.
_CODECS: Final = {"windows-1252": "windows-1252", "x-user-defined": "windows-1252", "gbk": "gb18030"}


def decode_page(data: bytes, name: str, label: str = "", *, declares: bool = True) -> str:
    """Return the text of a page.

    Args:
        label: the encoding that a message names for the page: it counts more than the page's own declaration.
        declares: whether the bytes are HTML, which may declare its encoding; plain text does not.

    Raises:
        DocumentError: `invalid_encoding`, for bytes that are not in the page's encoding.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], codec, name)
    encoding = _known(label) or (_declared(data[:_LOOKED_THROUGH].decode("latin-1")) if declares else "utf-8")
    return _decoded(data, encoding, name)


def _decoded(data: bytes, encoding: str, name: str) -> str:
    if encoding == "windows-1252":
        return data.decode("latin-1").translate(_WINDOWS_1252)
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as exc:
        message = f"{name}: not {encoding}: {exc}: save it as UTF-8, or declare its encoding"
        raise DocumentError("invalid_encoding", message) from exc


def _declared(start: str) -> str:
    for label in _labels(start):
        if encoding := _known(label):
            # Bytes in which a declaration could be read are not UTF-16.
            return {"utf-16-le": "utf-8", "utf-16-be": "utf-8"}.get(encoding, encoding)
    return "utf-8"


def _labels(start: str) -> Iterator[str]:
    """Yield the labels that a page declares. A parser looks for them: a comment or a script declares nothing."""
    from selectolax.lexbor import LexborHTMLParser

    for meta in LexborHTMLParser(start).css("meta"):
        attributes = meta.attributes
        if label := attributes.get("charset"):
            yield label
        elif (attributes.get("http-equiv") or "").strip().lower() == "content-type":
            yield from _IN_CONTENT.findall(attributes.get("content") or "")
    if in_xml := _IN_XML.match(start):
        yield in_xml[1]


def _known(label: str) -> str:
    """Return Python's codec for a label of the web; empty for a label that browsers do not know, such as `undefined`."""
    from webencodings import lookup

    encoding = lookup(label)
    if encoding is None:
        return ""
    return _CODECS.get(encoding.name) or str(encoding.codec_info.name)
