"""The words stage: corpus statistics and the sparse part of the contract, made from the prepared documents.

documents ──cut as in the index──> chunk texts ──analyzer──> terms ──count──> models/words
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from twinline.contract.canonical import JSON, sha256_hex
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.sparse_settings import (
    ANALYZER_VERSIONS,
    DEFAULT_B_PERCENT,
    DEFAULT_K1_PERCENT,
    LANGUAGE_NAMES,
    NO_LANGUAGE,
    WEIGHT_VERSIONS,
    SparseContract,
)
from twinline.contract.errors import DocumentError, SettingsError, check_whole_number
from twinline.contract.sparse.analyzer import Analyzer, pieces, words
from twinline.contract.sparse.golden import MOST_FREQUENT, golden_words, write_golden_words
from twinline.contract.sparse.languages import find_language
from twinline.contract.sparse.statistics import STATISTICS_FILE, Statistics
from twinline.contract.sparse.weights import Words

# Stands for the language that the corpus is written in.
AUTO: Final = "auto"
# The language is found on the first of the texts.
_LANGUAGE_TEXTS: Final = 2_000
_ROWS: Final = 1_024
# A golden word is no run of a script without spaces.
_LONGEST: Final = 32


@dataclass(frozen=True, slots=True)
class WordsParams:
    """How words are weighed. `language`: of stemmer and stop words, `none`, or `auto`: what the corpus is written in."""

    language: str = AUTO
    k1_percent: int = DEFAULT_K1_PERCENT
    b_percent: int = DEFAULT_B_PERCENT

    def __post_init__(self) -> None:
        if self.language not in (AUTO, *LANGUAGE_NAMES):
            raise SettingsError(
                f"params.yaml encoder.words.language is {self.language!r}: choose from {', '.join((AUTO, *LANGUAGE_NAMES))}"
            )
        for name, value, most in (("k1_percent", self.k1_percent, 1_000), ("b_percent", self.b_percent, 100)):
            check_whole_number(value, 0, most, f"params.yaml encoder.words.{name}")


def write_words(documents: Sequence[Path], preprocessor: Preprocessor, params: WordsParams, target: Path) -> str:
    """Count the terms of all chunks, write the sparse contract, its statistics and its golden words, and say what was found.

    Args:
        documents: Parquet files with `source`, `key`, `title` and `text`; none: all words weigh alike.
        target: an existing folder.
    """
    language = params.language if params.language != AUTO else _language(_texts(documents, preprocessor))
    analyzer = Analyzer(ANALYZER_VERSIONS[-1], language)
    frequent: Counter[str] = Counter()

    def terms() -> Iterator[list[str]]:
        for text in _texts(documents, preprocessor):
            found = pieces(text)
            frequent.update(piece for piece in found if len(piece) <= _LONGEST)
            yield [term for piece in found for term in analyzer.terms_of(piece)]

    statistics = Statistics.count(terms())
    content = statistics.to_bytes()
    contract = SparseContract(
        ANALYZER_VERSIONS[-1], language, WEIGHT_VERSIONS[-1], params.k1_percent, params.b_percent, sha256_hex(content)
    )
    (target / STATISTICS_FILE).write_bytes(content)
    common = [piece for piece, _ in sorted(frequent.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_FREQUENT]]
    facts: dict[str, JSON] = {"contract": contract.to_json(), "chunks": statistics.chunks, "collisions": statistics.collisions}
    write_golden_words(target, golden_words(Words(contract, statistics), common), facts)
    if not statistics.chunks:
        return f"words: no corpus, so all words weigh alike; language {language}"
    return (
        f"words: {statistics.chunks} chunks, {len(statistics.ids)} terms in two or more, {statistics.collisions} share an id "
        f"with another; language {language}"
    )


def _language(texts: Iterable[str]) -> str:
    counts: Counter[str] = Counter()
    for number, text in enumerate(texts):
        if number == _LANGUAGE_TEXTS:
            break
        counts.update(words(text))
    return find_language(counts) if counts else NO_LANGUAGE


def _texts(documents: Sequence[Path], preprocessor: Preprocessor) -> Iterator[str]:
    """Yield the text of every chunk, as the encoder reads it; documents without text are the consumer's to refuse."""
    for path in documents:
        for batch in pq.ParquetFile(path).iter_batches(_ROWS, columns=["source", "key", "title", "text"]):
            for row in batch.to_pylist():
                try:
                    chunks = preprocessor.chunks(Document(row["source"], row["key"], row["text"], title=row["title"] or ""))
                except DocumentError:
                    continue
                yield from (chunk.encoder_text for chunk in chunks)
