"""Natural pairs: a query that a document carries in itself, and the document without it. Pure."""

import re
import unicodedata
from dataclasses import dataclass

from etl.params import PairsParams
from twinline.contract.canonical import sha256_hex


@dataclass(frozen=True, slots=True)
class NaturalPair:
    """A query, and the title and text that are left of its document: the query is in neither."""

    query_id: str
    query: str
    title: str
    text: str


def natural_pair(title: str, text: str, params: PairsParams) -> NaturalPair | None:
    """Return the first that is a sentence of its own: the title, the summary paragraph, the first sentence.

    Args:
        title: clean title. One word, a name say, is no query and stays with the document.
        text: clean text.
    """
    candidates = ((title, "", text), _summary(title, text), _first_sentence(title, text))
    for query, rest_title, rest in candidates:
        words = len(query.split())
        if not params.min_query_words <= words <= params.max_query_words or len(rest.split()) < params.min_body_words:
            continue
        if normal_text(query) and normal_text(query) not in normal_text(rest):
            return NaturalPair(query_id(query), query, rest_title, rest)
    return None


def query_id(query: str) -> str:
    """Return the id of a natural query: documents that ask the same share one query."""
    return "n" + sha256_hex(normal_text(query).encode())[:15]


def normal_text(text: str) -> str:
    """Return the words alone: what two texts have in common when a person would call them the same."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"(?<=[.!?。])\s+")


def _summary(title: str, text: str) -> tuple[str, str, str]:
    head, separator, rest = text.partition("\n\n")
    return (" ".join(head.split()), title, rest) if separator else ("", title, text)


def _first_sentence(title: str, text: str) -> tuple[str, str, str]:
    parts = _SENTENCE_END.split(text, maxsplit=1)
    return (" ".join(parts[0].split()), title, parts[1]) if len(parts) == 2 else ("", title, text)
