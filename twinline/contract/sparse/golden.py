"""Golden words: texts with the sparse vectors that a release's words give them, compared whenever the release is opened.

The platform's golden texts cover the scripts and the seams; the corpus's own most frequent words cover its language. Another
stemmer, another folding, another stop word or another rarity stops the start here, instead of finding less in silence.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import Stemmer

from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.encoder.golden_texts import GOLDEN_TEXTS
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.errors import MismatchError
from twinline.contract.sparse.analyzer import Analyzer
from twinline.contract.sparse.weights import Words

GOLDEN_WORDS_FILE: Final = "words.json"
GOLDEN_WORDS_SCHEMA: Final = 1
# Of the corpus's own words, as they are written.
MOST_FREQUENT: Final = 300

# The terms of all golden texts in each language, as one hash.
_TERMS: Final = {
    "none": "05525b423a55198860a6b0efc7815cf3178caf44148e0d40c3b2f20a6243b30c",
    "english": "c2a1560ba5aa7edb8d9ca4b04e0286dd8f268f459a324ff9e2b0f44d17a897bc",
    "german": "30684b227d3de02bb85346f88bb300fbb905cefb552e13be94bd13eadeaeee5f",
    "french": "83b6014bcb57955aa717cf6d5101f7f5a9396ffd1d68828281e9b738ced92547",
    "spanish": "ece6b3bee7953b4e57241628020a52d1a1b237b962965e198db6c8c1f26fab4d",
    "italian": "7cb213aa494f273acadc810b737178d2cffd4a3bcc4b5fe69759e0b1a15a45cc",
    "portuguese": "04bab927da86e34b5bd40e2e5e8fffbeba4d66650360fd42b40b6a80bf797b4d",
    "dutch": "80250036bc0a76f8b5b4ce99dfe7189be3ea1d8a31a05d4eaad9275ba545f6f5",
    "turkish": "e6afe6e89da95d5cb459c91f3e9933fa3cce6211864553ca3ddfa8d4cb73ff24",
}


@dataclass(frozen=True, slots=True)
class GoldenWords:
    """One text, and the sparse vectors of it as a chunk and as a query."""

    text: str
    document: tuple[tuple[int, int], ...]
    query: tuple[tuple[int, int], ...]


def golden_words(words: Words, frequent: Iterable[str] = ()) -> tuple[GoldenWords, ...]:
    """Return what a release's words give the platform's golden texts and the corpus's most frequent words."""
    texts = dict.fromkeys([*(golden.text for golden in GOLDEN_TEXTS), *frequent])
    return tuple(_given(words, text) for text in texts)


def write_golden_words(folder: Path, entries: Sequence[GoldenWords], facts: dict[str, JSON]) -> None:
    """Write `words.json`: the golden words, and what is said about the corpus they were counted on."""
    content = {
        "schema": GOLDEN_WORDS_SCHEMA,
        **facts,
        "golden": [{"text": entry.text, "document": entry.document, "query": entry.query} for entry in entries],
    }
    (folder / GOLDEN_WORDS_FILE).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def read_sparse(folder: Path) -> SparseContract:
    """Return the sparse contract that the golden words were written with.

    Raises:
        MismatchError: there is none.
    """
    place = folder / GOLDEN_WORDS_FILE
    try:
        return SparseContract.from_json(json.loads(place.read_bytes())["contract"])
    except FileNotFoundError as exc:
        raise MismatchError(f"{place} does not exist: make it first (`dvc repro encoder-words`)") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise MismatchError(f"{place} has no sparse contract: {exc!r}") from exc


def read_words(folder: Path) -> Words:
    """Return the words of a folder that no release holds yet, compared with its golden ones.

    Raises:
        MismatchError: see `read_sparse`, `Words.load` and `check_golden_words`.
    """
    words = Words.load(folder, read_sparse(folder))
    check_golden_words(folder, words)
    return words


def check_golden_words(folder: Path, words: Words) -> None:
    """Compare this process's words with those of the release.

    Raises:
        MismatchError: the file is missing, or this process gives a text another vector.
    """
    check_terms_in_code()
    place = folder / GOLDEN_WORDS_FILE
    try:
        value: dict[str, Any] = json.loads(place.read_bytes())
        if value["schema"] != GOLDEN_WORDS_SCHEMA:
            raise MismatchError(f"{place}: schema is {value['schema']!r}, this code reads {GOLDEN_WORDS_SCHEMA}")
        entries = [GoldenWords(entry["text"], _pairs(entry["document"]), _pairs(entry["query"])) for entry in value["golden"]]
    except FileNotFoundError as exc:
        raise MismatchError(f"{place} is missing: the contract has words; fetch the release again") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise MismatchError(f"{place}: no golden words of schema {GOLDEN_WORDS_SCHEMA}: {exc!r}") from exc
    for entry in entries:
        document, query = _vectors(words, entry.text)
        for role, found, expected in (("document", document, entry.document), ("query", query, entry.query)):
            if found != expected:
                raise MismatchError(
                    f"{place}: the {role} {entry.text[:40]!r} has the terms {found[:4]}... in this process, the release says "
                    f"{expected[:4]}...: words would find less without a sign. PyStemmer is {Stemmer.version()} here: install "
                    "what constraints.txt names, or build a new release"
                )


def check_terms_in_code() -> None:
    """Compare the terms of the golden texts in every language with their golden values.

    Raises:
        MismatchError: this process cuts, folds or stems words in another way than the platform's.
    """
    for language, expected in _TERMS.items():
        if (found := terms_fingerprint(language)) != expected:
            raise MismatchError(
                f"golden check of words in {language}: this process gives {found[:12]}, the platform {expected[:12]}: PyStemmer "
                f"is {Stemmer.version()} here: install the versions that constraints.txt names"
            )


def terms_fingerprint(language: str) -> str:
    """Return the hash of the golden texts' terms in a language."""
    analyzer = Analyzer(1, language)
    return fingerprint([analyzer.terms(golden.text) for golden in GOLDEN_TEXTS])


def _given(words: Words, text: str) -> GoldenWords:
    return GoldenWords(text, *_vectors(words, text))


def _vectors(words: Words, text: str) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    document, query = words.document(text), words.query(text)
    return (
        tuple(zip(document.ids, document.weights, strict=True)),
        tuple(zip(query.ids, query.weights, strict=True)),
    )


def _pairs(value: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(identity), int(weight)) for identity, weight in value)
