"""Zip files that hold one document, as Office, OpenDocument and EPUB files do. They come from outside: they are checked first."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Final
from zipfile import ZipFile

from etl.sources.formats.plain import parser_errors
from twinline.contract.documents.records import MAX_TEXT_BYTES
from twinline.contract.errors import DocumentError

# Parsers hold a file's parts whole, pictures too.
_MAX_UNPACKED_BYTES: Final = 8 * MAX_TEXT_BYTES
_XML: Final = (".xml", ".rels", ".opf", ".ncx")
# The container of old and of encrypted Office files.
_COMPOUND_FILE: Final = bytes.fromhex("d0cf11e0a1b11ae1")


@contextmanager
def open_archive(data: bytes, kind: str, name: str) -> Iterator[ZipFile]:
    """Open the zip file of a document; errors inside the block become the reject `corrupt_KIND`.

    Raises:
        DocumentError: encrypted, damaged, larger unpacked than parsers are given, or with a document type: only that can
            declare entities, which grow without bound or name other files, and none of these formats needs it.
    """
    if data.startswith(_COMPOUND_FILE):
        message = f"{name}: encrypted, or of the format before {kind}: save it as .{kind} without a password"
        raise DocumentError("encrypted", message)
    with parser_errors(kind, name), warnings.catch_warnings(), ZipFile(BytesIO(data)) as archive:
        warnings.simplefilter("ignore")  # a flaw that a parser can read past is no news
        parts = archive.infolist()
        # Python reads no more of a part than its entry declares.
        size = sum(part.file_size for part in parts)
        if size > _MAX_UNPACKED_BYTES:
            raise DocumentError("too_large", f"{name}: {size} bytes unpacked, the limit is {_MAX_UNPACKED_BYTES}: split it")
        if any(part.flag_bits & 1 for part in parts):
            raise DocumentError("encrypted", f"{name}: it needs a password: save it without one")
        for part in parts:
            if part.filename.lower().endswith(_XML):
                _refuse_document_type(archive, part.filename, name)
        yield archive


def _refuse_document_type(archive: ZipFile, part: str, name: str) -> None:
    from defusedxml import DTDForbidden
    from defusedxml.ElementTree import ParseError, iterparse

    try:
        with archive.open(part) as stream:
            # A document type stands before the first element: no more is parsed.
            next(iterparse(stream, events=("start",), forbid_dtd=True), None)
    except DTDForbidden as exc:
        raise DocumentError("document_type", f"{name}: {part} has a document type: save the file anew") from exc
    except ParseError:
        return  # the format's own parser judges a part that is no XML
