"""The text layer of a PDF, with the letters behind its ligatures and the words behind its line ends."""

import logging
import re
import unicodedata
from io import BytesIO
from typing import Final

from etl.sources.formats.plain import TitleAndText, one_line, parser_errors, stem
from twinline.contract.errors import DocumentError

# Presentation forms: one glyph of a font for several letters, or for a letter's place in a word (Latin, Hebrew, Arabic).
_FORMS: Final = re.compile("[\ufb00-\ufdff\ufe70-\ufefc]")
_SOFT_HYPHEN: Final = "\u00ad"
_BROKEN_WORD: Final = re.compile(r"([^\W_]+(?:[-\u2010][^\W_]+)*)([-\u2010\u00ad])[ \t]*\n[ \t]*([^\W\d_]+)")
_WORD: Final = re.compile(r"[^\W_]+(?:[-\u2010][^\W_]+)*")
# After these a hyphen at a line's end stands for a word that is left out: "pre- and post-war".
_CONJUNCTIONS: Final = frozenset({"and", "or", "nor", "to", "und", "oder", "bis", "et", "ou"})


def read_pdf(data: bytes, name: str) -> TitleAndText:
    """Return the text layer of a PDF; a scan without one has no text."""
    from pypdf import PasswordType, PdfReader
    from pypdf.errors import FileNotDecryptedError, PyPdfError

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it reports every repaired flaw of a file that it can read
    try:
        with parser_errors("pdf", name):
            reader = PdfReader(BytesIO(data))
            if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
                raise DocumentError("encrypted", f"{name}: it needs a password: save it without one")
            pages = [page.extract_text() for page in reader.pages]
            title = _text_of(reader.metadata["/Title"]) if reader.metadata and "/Title" in reader.metadata else ""
    except FileNotDecryptedError as exc:
        raise DocumentError("encrypted", f"{name}: it needs a password: save it without one") from exc
    except PyPdfError as exc:
        raise DocumentError("corrupt_pdf", f"{name}: {type(exc).__name__}: {exc}") from exc
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    if not text:
        raise DocumentError("no_text", f"{name}: its {len(pages)} pages have no text layer: run text recognition first")
    return one_line(letters(title)) or stem(name), words_joined(letters(text))


def _text_of(title: object) -> str:
    """Return a title of any type as text: 2024 is a number, a name has a slash, a list is no title."""
    if isinstance(title, bytes):
        return title.decode("utf-8", errors="replace")
    return "" if title is None or isinstance(title, dict | list) else str(title)


def letters(text: str) -> str:
    """Return a text with the letters behind its presentation forms: `ﬁle` becomes `file`."""
    return _FORMS.sub(lambda form: unicodedata.normalize("NFKC", form[0]), text)


def words_joined(text: str) -> str:
    """Return a text whose words are whole again where a line ended inside them.

    A hyphen stays where the word has it elsewhere in the text, where it has another one, and after digits or a single letter:
    `well-known`, `state-of-the-art`, `e-mail`.
    """
    known = set(_WORD.findall(text.replace(_SOFT_HYPHEN, "").lower()))

    def whole(match: re.Match[str]) -> str:
        before, hyphen, after = match.groups()
        if not after[0].islower() or after in _CONJUNCTIONS:
            return match[0]
        if hyphen == _SOFT_HYPHEN:
            return before + after
        last = re.split("[-\u2010]", before)[-1]
        with_hyphen, without = f"{before}-{after}".lower(), (before + after).lower()
        is_compound = before != last or len(last) == 1 or last[-1].isdigit()
        keeps = with_hyphen in known or (is_compound and without not in known)
        return f"{before}{hyphen}{after}" if keeps else before + after

    return _BROKEN_WORD.sub(whole, text)
