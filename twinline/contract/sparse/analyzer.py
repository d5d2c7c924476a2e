"""From text to terms: words, their parts and joined forms, folded and stemmed.

    text ──NFKC──> words ──lower case──> stop words out ──stem──> marks off ──> terms

The same analyzer reads documents and queries. A change of any step is another version.

* A word is a run of letters, marks and digits of any script. Scripts without spaces are cut into pairs of characters.
* Words that one character joins (`AB-1234`, `max_tokens`, `np.linalg`) are terms each, and one more as a whole, without the
  joiners and not stemmed, since it is a name: `max_tokens`, `max-tokens` and `maxTokens` share a term, `json.load` and
  `json.loads` do not. Signs at the end stay: `c++`, `f#`.
* Lower case knows the Turkish i. After stemming, marks of Latin and Greek letters go, and the dotless i becomes an i: whoever
  types without accents, or with another keyboard, finds the same.
"""

import re
import unicodedata
from typing import Final

import regex
import Stemmer

from twinline.contract.encoder.sparse_settings import ANALYZER_VERSIONS, NO_LANGUAGE
from twinline.contract.errors import MismatchError
from twinline.contract.sparse.languages import LANGUAGES

# Scripts that put no space between words, and Hangul, whose words carry their endings.
_UNSPACED: Final = (
    r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}ー\p{Script=Hangul}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}"
    r"\p{Script=Myanmar}"
)
_LETTER: Final = rf"[\p{{L}}\p{{M}}\p{{N}}--[{_UNSPACED}]]"
_JOINER: Final = r"(?:[-‐‑–._/\\@:+#&=~'’·]|(?<=\p{N}),(?=\p{N}))"
_PIECES: Final = regex.compile(
    rf"[{_UNSPACED}][{_UNSPACED}\p{{M}}]*|{_LETTER}+(?:{_JOINER}{_LETTER}+)*(?:[+#]+(?![\p{{L}}\p{{N}}]))?", regex.V1
)
# The same for ASCII, in a third of the time.
_ASCII: Final = re.compile(
    r"[A-Za-z0-9]+(?:(?:[-._/\\@:+#&=~']|(?<=[0-9]),(?=[0-9]))[A-Za-z0-9]+)*(?:[+#]+(?![A-Za-z0-9]))?", re.ASCII
)
_WORDS: Final = regex.compile(rf"{_LETTER}+", regex.V1)
_IS_UNSPACED: Final = regex.compile(rf"[{_UNSPACED}]", regex.V1)
_MIXED_CASE: Final = regex.compile(r"\p{Ll}.*\p{Lu}", regex.V1)
_MARKED: Final = regex.compile(r"(?<=[\p{Script=Latin}\p{Script=Greek}])\p{Mn}+", regex.V1)
# Longer ones are paths, addresses and keys, which nobody types.
_LONGEST_JOINED: Final = 64
_LONGEST_WORD: Final = 128


class Analyzer:
    """Turns text into terms, under one version and language. Thread-safe.

    Raises:
        MismatchError: the version or the language is unknown to this code.
    """

    def __init__(self, version: int, language: str) -> None:
        if version not in ANALYZER_VERSIONS:
            raise MismatchError(f"sparse analyzer version is {version!r}, this code knows {list(ANALYZER_VERSIONS)}")
        if language != NO_LANGUAGE and language not in LANGUAGES:
            raise MismatchError(f"sparse language is {language!r}, this code knows {[NO_LANGUAGE, *LANGUAGES]}")
        self._language = LANGUAGES.get(language)

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text in their order, repeated ones too."""
        return [term for piece in pieces(text) for term in self.terms_of(piece)]

    def terms_of(self, piece: str) -> tuple[str, ...]:
        """Return the terms of one piece of a text, from `pieces`."""
        parts, joined = _parts(piece)
        language = self._language
        stop_words = language.stop_words if language else frozenset[str]()
        lowered = [self._lower(part) for part in parts]
        terms = [self._term(word) for word in lowered if word not in stop_words]
        if joined:
            return (*terms, _fold(self._lower(joined)))
        # A name in mixed case is looked for as it is spelled: its exact form stands beside the stem.
        exact = [_fold(word) for part, word in zip(parts, lowered, strict=True) if _MIXED_CASE.search(part)]
        return (*terms, *(form for form in exact if form not in terms))

    def _lower(self, word: str) -> str:
        return _lower(word, dotless_i=self._language is not None and self._language.dotless_i)

    def _term(self, lowered: str) -> str:
        # Codes have no endings.
        if self._language is None or any(character.isdigit() for character in lowered):
            return _fold(lowered)
        # A stemmer keeps a state of its own while it works, so each call has one.
        return _fold(Stemmer.Stemmer(self._language.stemmer, 0).stemWord(lowered))


def pieces(text: str) -> list[str]:
    """Return the pieces of a text in their order: words, joined words, and runs of a script without spaces."""
    return _ASCII.findall(text) if text.isascii() else _PIECES.findall(unicodedata.normalize("NFKC", text))


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, not stemmed and not folded: for the detection of its language."""
    return [_lower(part, dotless_i=False) for piece in pieces(text) for part in _parts(piece)[0]]


def _parts(piece: str) -> tuple[list[str], str]:
    """Return the words of a piece, and its joined form; empty where it has none of its own."""
    if _IS_UNSPACED.match(piece):
        return [piece[start : start + 2] for start in range(max(1, len(piece) - 1))], ""
    parts = _WORDS.findall(piece)
    signs = piece[len(piece.rstrip("+#")) :]
    is_joined = (len(parts) > 1 or bool(signs)) and len(piece) <= _LONGEST_JOINED
    return [part[:_LONGEST_WORD] for part in parts], "".join(parts) + signs if is_joined else ""


def _lower(word: str, *, dotless_i: bool) -> str:
    if dotless_i:
        word = word.replace("I", "ı").replace("İ", "i")
    # İ in other languages: an i and a dot above.
    return word.casefold().replace("i\u0307", "i")


def _fold(word: str) -> str:
    if word.isascii():
        return word
    bare = _MARKED.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare).replace("ı", "i")
