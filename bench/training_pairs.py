"""Real training pairs on every machine with the training packages: a docstring's summary and its body."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.checkout import CHECKOUT
from etl.natural import natural_pair
from etl.params import PairsParams
from etl.sources.pydocs import PyDocs
from twinline.clients.params import load_params
from twinline.contract.documents.cleaning import DEFAULT_CLEANING, clean
from twinline.contract.documents.records import Document
from twinline.contract.errors import SettingsError

# Packages that training needs come first, so that every training machine has pairs; large packages take long to parse.
_PACKAGES: Final = (
    *("torch.nn", "torch.optim", "torch.distributions", "torch.utils", "torch.autograd"),
    *("numpy.lib", "numpy.ma", "numpy._core", "numpy.linalg", "numpy.polynomial"),
    *("asyncio", "collections", "concurrent", "email", "http", "json", "logging", "multiprocessing", "unittest", "urllib"),
    *("scipy", "sklearn", "pandas", "torch", "transformers"),
)
_SEED: Final = 23


def write_real_pairs(path: Path, count: int) -> Path:
    """Write `count` pairs in the form of the stage `pairs`, in random order, the same for every run on one machine.

    Raises:
        SettingsError: the installed packages have fewer.
    """
    params = load_params("encoder.pairs", PairsParams, CHECKOUT / "params.yaml")
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for row in _rows(params):
        if row["query"] not in seen:
            seen.add(row["query"])
            rows.append(row)
        if len(rows) == count:
            break
    else:
        raise SettingsError(f"the docstrings of the installed packages give {len(rows)} pairs, {count} are wanted: ask for fewer")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([rows[place] for place in np.random.default_rng(_SEED).permutation(count)]), path)
    return path


def _rows(params: PairsParams) -> Iterator[dict[str, Any]]:
    for package in _PACKAGES:
        if importlib.util.find_spec(package.partition(".")[0]) is None:
            continue
        for document in PyDocs("pydocs", package).items():
            if not isinstance(document, Document):
                continue
            pair = natural_pair(_clean(document.title), _clean(document.text), params)
            if pair is not None:
                yield {
                    "query_id": pair.query_id,
                    "query": pair.query,
                    "source": document.source,
                    "key": document.key,
                    "title": pair.title,
                    "text": pair.text,
                    "cluster_id": document.key,
                }


def _clean(text: str) -> str:
    return clean(text, DEFAULT_CLEANING).text
