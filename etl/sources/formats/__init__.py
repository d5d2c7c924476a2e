"""One reader per kind of file that holds one document: its title and its text.

A reader knows nothing of places and limits. It raises DocumentError for a file that it cannot read.
"""

from collections.abc import Callable, Mapping
from typing import Final

from etl.sources.formats.books import read_epub
from etl.sources.formats.mail import read_eml
from etl.sources.formats.markdown import read_markdown
from etl.sources.formats.notebooks import read_ipynb
from etl.sources.formats.office import read_docx, read_odt, read_pptx, read_xlsx
from etl.sources.formats.pages import read_html, read_xhtml
from etl.sources.formats.pdf import read_pdf
from etl.sources.formats.plain import TitleAndText, read_text
from etl.sources.formats.rst import read_rst
from twinline.contract.documents.records import MAX_TEXT_BYTES

__all__ = ["READERS", "max_file_bytes"]

READERS: Final[Mapping[str, Callable[[bytes, str], TitleAndText]]] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_xhtml,
    ".txt": read_text,
    ".text": read_text,
    ".rst": read_rst,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".pptx": read_pptx,
    ".xlsx": read_xlsx,
    ".odt": read_odt,
    ".epub": read_epub,
    ".ipynb": read_ipynb,
    ".eml": read_eml,
}

# Their pictures and attachments are not text.
_WITH_PICTURES: Final = frozenset({".pdf", ".docx", ".pptx", ".xlsx", ".odt", ".epub", ".ipynb", ".eml"})


def max_file_bytes(ending: str) -> int:
    """Return how large a file of this kind may be: it bounds the memory that its parser takes."""
    return 4 * MAX_TEXT_BYTES if ending in _WITH_PICTURES else MAX_TEXT_BYTES
