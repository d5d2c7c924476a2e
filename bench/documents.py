"""Real text for measurements: docstrings, and data sets in an optional folder beside the checkout."""

import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final

from bench.checkout import CHECKOUT
from etl.sources.beir import Beir
from etl.sources.pydocs import PyDocs
from twinline.contract.documents.records import Document
from twinline.contract.errors import SettingsError

_VARIABLE: Final = "TWINLINE_BENCH_DATA"
# Packages to read when the default ones have too few docstrings.
_MORE_PYDOCS: Final = "torch,transformers,numpy,airflow,sentence_transformers,pandas,polars,pyarrow,daft"


def data_folder() -> Path:
    """Return the folder of data sets: `TWINLINE_BENCH_DATA`, or `shared/data` beside the checkout."""
    named = os.environ.get(_VARIABLE)
    return Path(named) if named else CHECKOUT.parent / "shared" / "data"


def scifact() -> Path | None:
    """Return the BEIR folder of SciFact, or None where this machine has none."""
    folder = data_folder() / "scifact"
    return folder if (folder / "corpus.jsonl").is_file() else None


@lru_cache(maxsize=4)
def read_documents(corpus: str, count: int) -> tuple[Document, ...]:
    """Return the first `count` documents of a corpus: `pydocs`, or `scifact`.

    Raises:
        SettingsError: the machine has no such corpus, or it is too small.
    """
    found = tuple(islice(_documents(corpus), count))
    if len(found) < count:
        raise SettingsError(f"corpus {corpus} has {len(found)} documents, {count} were asked for: ask for fewer")
    return found


def _documents(corpus: str) -> Iterator[Document]:
    if corpus == "pydocs":
        sources = [PyDocs("", ""), PyDocs("more", _MORE_PYDOCS)]
        yield from _distinct(item for source in sources for item in source.items() if isinstance(item, Document))
    elif corpus == "scifact":
        folder = scifact()
        if folder is None:
            raise SettingsError(f"no SciFact in {data_folder()}: name the folder of data sets in {_VARIABLE}, or use pydocs")
        yield from (item for item in Beir("scifact", str(folder)).items() if isinstance(item, Document))
    else:
        raise SettingsError(f"corpus {corpus!r} is not known: choose pydocs or scifact")


def _distinct(documents: Iterator[Document]) -> Iterator[Document]:
    seen: set[str] = set()
    for document in documents:
        if document.key not in seen:
            seen.add(document.key)
            yield document
