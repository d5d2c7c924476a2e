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
    "english": "8537507a491b08432aca1e470056228c85120c23086e819c329aa2ceb1f94a70",
    "german": "6aa700eb8a810855caab5a49002af9379f8a0f2f374dbb296937b6fecef3fb89",
    "french": "86e062c7e71f13575ed081cfa6df23ae7eeebdc0bcdada6f0aa293c3d9d1555d",
    "spanish": "43945b6897fdd5eece34a88065da2e0a7067fe4031d47b8fd4f7089d30ef0bfa",
    "italian": "3265bff9e685f38f3a607dff73ca0d1582f8b18c01f8786f6e7364e728ba16f1",
    "portuguese": "f0daa15a4034f2626fa6ff640a875c1b5980f0617a0e7098ad7d106d2fe99486",
    "dutch": "4942fdb04c81574fb86c67569f1ceb641916bd776ade3be6e3068d6d807a8901",
    "turkish": "f9251ac678b4ae119270b7b04ff739e048a3384c4f0bd8ab55c3d764b20979fe",
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
