"""A query and a document that goes with it, by their ids: what is held of each while it is decided what to train on."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa


class Pair(NamedTuple):
    """One row of the gathered table without the document's text; `cluster_id` is None where there is no such document."""

    query_id: str
    query: str
    kind: str
    split: str
    grade: int
    source: str
    key: str
    cluster_id: str | None


def read_pairs(blocks: Iterable[pa.Table]) -> Iterator[Pair]:
    """Yield the rows of tables that have the columns of a pair."""
    seen: dict[str, str] = {}
    for block in blocks:
        columns = {name: block[name].to_pylist() for name in Pair._fields}
        # A few words that every row repeats: one object each, not one a row.
        for name in ("kind", "split", "source"):
            columns[name] = [seen.setdefault(value, value) for value in columns[name]]
        yield from map(Pair._make, zip(*columns.values(), strict=True))
