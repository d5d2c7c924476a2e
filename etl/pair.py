"""A query and its document by their ids: the part of a pair that stays in memory while training pairs are chosen."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa


class Pair(NamedTuple):
    """One row of the gathered table without the document's text; `cluster_id` is None where the document is missing."""

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
        # Every row repeats a few values: one object a value, not one a row.
        for name in ("kind", "split", "source"):
            columns[name] = [seen.setdefault(value, value) for value in columns[name]]
        yield from map(Pair._make, zip(*columns.values(), strict=True))
