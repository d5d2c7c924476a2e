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
_LINE_END: Final = re.compile(r"([-\u2010\u00ad])[ \t]*\n[ \t]*([^\W\d_]+)")
_WORD: Final = re.compile(r"[^\W_]+(?:[-\u2010][^\W_]+)*")
_LONGEST_WORD: Final = 100
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
    """Return a title as text. It may be of any type: 2024 is a number, a list is no title."""
    if isinstance(title, bytes):
        try:
            return title.decode()
        except UnicodeDecodeError:
            return ""
    return str(title) if isinstance(title, str | int | float) else ""


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
        hyphen, after = match.groups()
        # Backwards from the hyphen, where a match is anchored.
        word = _WORD.match(text[max(0, match.start() - _LONGEST_WORD) : match.start()][::-1])
        if word is None or not after[0].islower() or after in _CONJUNCTIONS:
            return match[0]
        before = word[0][::-1]
        first = re.split("[-\u2010]", before)[-1]
        is_compound = before != first or len(first) == 1 or first[-1].isdigit()
        keeps = f"{before}-{after}".lower() in known or (is_compound and (before + after).lower() not in known)
        return after if hyphen == _SOFT_HYPHEN or not keeps else hyphen + after

    return _LINE_END.sub(whole, text)
