"""Natural pairs: a query out of a document, and the document without it. Pure."""

import re
import unicodedata
from dataclasses import dataclass

from etl.params import PairsParams
from twinline.contract.canonical import sha256_hex


@dataclass(frozen=True, slots=True)
class NaturalPair:
    """A query, and the rest of its document: title and text without the query."""

    query_id: str
    query: str
    title: str
    text: str


def natural_pair(title: str, text: str, params: PairsParams) -> NaturalPair | None:
    """Return the first that is a sentence of its own: the title, the summary paragraph, the first sentence.

    Args:
        title: clean title. A single word, such as a name, is no query and stays with the document.
        text: clean text.
    """
    candidates = ((title, "", text), _summary(title, text), _first_sentence(title, text))
    for query, rest_title, rest in candidates:
        words = len(query.split())
        if not params.min_query_words <= words <= params.max_query_words or len(rest.split()) < params.min_body_words:
            continue
        words_alone = normal_text(query)
        if words_alone and words_alone not in normal_text(rest):
            # Documents with the same question share one query.
            return NaturalPair("n" + sha256_hex(words_alone.encode())[:15], query, rest_title, rest)
    return None


def normal_text(text: str) -> str:
    """Return the words alone, in lower case: two texts that a person would call the same give the same words."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"(?<=[.!?。])\s+")


def _summary(title: str, text: str) -> tuple[str, str, str]:
    head, separator, rest = text.partition("\n\n")
    return (" ".join(head.split()), title, rest) if separator else ("", title, text)


def _first_sentence(title: str, text: str) -> tuple[str, str, str]:
    parts = _SENTENCE_END.split(text, maxsplit=1)
    return (" ".join(parts[0].split()), title, parts[1]) if len(parts) == 2 else ("", title, text)
