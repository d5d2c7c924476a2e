"""The table from which pairs are chosen: (query, document) with texts, kind, split, grade and cluster.

Documents are read in blocks, and the table is sorted on disk. Memory holds the data set's judgements and queries, the ids of
all pairs, one block of texts, and a few rows of each block on disk.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from etl.block_tables import TableWriter, merge, read_blocks, write_run
from etl.natural import natural_pair
from etl.params import PairsParams
from etl.stage_cache import StageCache, cleaning_identity
from etl.storage import JUDGEMENTS, PREPARED, QUERIES, read_table
from twinline.clients.code import code_hashes
from twinline.clients.questions import Question
from twinline.contract.canonical import JSON

DEV: Final = "dev"
_COLUMNS = ("query_id", "query", "kind", "split", "grade", "source", "key", "title", "text", "cluster_id")
GATHERED = pa.schema([(name, pa.int32() if name == "grade" else pa.large_string()) for name in _COLUMNS])
# The code that decides a natural pair and its cache.
CODE: Final = ("etl.natural", "etl.stage_cache", "etl.marks", "etl.block_tables", "etl.gather")
_ORDER: Final = ("kind", "split", "query_id", "source", "key")
_MADE: Final = pa.schema([(name, pa.large_string()) for name in ("query_id", "query", "title", "text")])
_CLEAN: Final = ("source", "key", "clean_title", "clean_text", "cluster_id")
_CLUSTERED: Final = ("source", "key", "cluster_id")


def gather_pairs(
    snapshot: Path,
    documents: Path,
    params: PairsParams,
    folder: Path,
    cache: Path | None = None,
    asked: Sequence[Question] = (),
) -> Path:
    """Write judged and, where wanted, natural pairs to one file in a fixed order; return its path.

    A judged document outside the snapshot has no cluster.

    Args:
        asked: the project's own questions; they belong to the development split.
        folder: for this file and its sorted parts; it must not exist.
        cache: folder of the stage caches; None caches nothing.
    """
    judgements = read_table([snapshot / "judgements.parquet"], JUDGEMENTS)
    queries = read_table([snapshot / "queries.parquet"], QUERIES)
    splits = set(judgements["split"].unique().to_pylist())
    judgements = pa.concat_tables([judgements, _asked_judgements(asked)])
    queries = pa.concat_tables([queries, _asked_queries(asked)])
    blocks = _judged(judgements, queries, documents) if judgements.num_rows else iter(())
    if params.natural == "always" or (params.natural == "auto" and "train" not in splits):
        blocks = chain(blocks, _natural(documents, params, cache))
    folder.mkdir()
    runs = [write_run(folder / f"run-{number:05}", block, _ORDER) for number, block in enumerate(blocks)]
    with TableWriter(folder / "pairs.parquet", GATHERED) as writer:
        for block in merge(runs, _ORDER):
            writer.write(block)
    return folder / "pairs.parquet"


def _asked_judgements(asked: Sequence[Question]) -> pa.Table:
    rows = [{**{name: getattr(one, name) for name in ("query_id", "source", "key", "grade")}, "split": DEV} for one in asked]
    return pa.Table.from_pylist(rows, schema=JUDGEMENTS)


def _asked_queries(asked: Sequence[Question]) -> pa.Table:
    texts = {one.query_id: one.question for one in asked}
    rows = [{"query_id": query, "text": text, "split": DEV} for query, text in texts.items()]
    return pa.Table.from_pylist(rows, schema=QUERIES)


def _judged(judgements: pa.Table, queries: pa.Table, documents: Path) -> Iterator[pa.Table]:
    """Yield judgements with the texts of their queries and documents, in the order of the documents."""
    asked = _with_queries(judgements, queries)
    asked = asked.sort_by([("source", "ascending"), ("key", "ascending")])
    names = [asked[name].combine_chunks() for name in ("source", "key")]
    start = 0
    for block in read_blocks([documents], PREPARED, _CLEAN):
        last = tuple(block[name][-1].as_py() for name in ("source", "key"))
        end = bisect_right(range(asked.num_rows), last, key=lambda row: tuple(column[row].as_py() for column in names))
        if end > start:
            yield _with_documents(asked.slice(start, end - start), block)
        start = end
    if start < asked.num_rows:
        yield _with_documents(asked.slice(start), PREPARED.empty_table().select(_CLEAN))


def _with_queries(judgements: pa.Table, queries: pa.Table) -> pa.Table:
    places = pc.index_in(_joined(judgements, ("query_id", "split")), value_set=_joined(queries, ("query_id", "split")))
    return judgements.append_column("query", queries["text"].take(places)).filter(pc.is_valid(places))


def _with_documents(asked: pa.Table, documents: pa.Table) -> pa.Table:
    places = pc.index_in(_joined(asked, ("source", "key")), value_set=_joined(documents, ("source", "key")))
    for name, column in (("title", "clean_title"), ("text", "clean_text"), ("cluster_id", "cluster_id")):
        asked = asked.append_column(name, documents[column].take(places))
    return _constant(asked, kind="judged").select(GATHERED.names).cast(GATHERED)


def _joined(table: pa.Table, columns: tuple[str, str]) -> pa.Array:
    """Return two columns as one; two different pairs of values never give the same one."""
    one, other = (table[name].combine_chunks() for name in columns)
    lengths = pc.utf8_length(one).cast(pa.large_string())
    return pc.binary_join_element_wise(lengths, one, other, pa.scalar(":", pa.large_string()))


def _natural(documents: Path, params: PairsParams, folder: Path | None) -> Iterator[pa.Table]:
    cache = StageCache(folder, "pairs", _identity(params), _MADE)
    for block, made in cache.made(partial(read_blocks, [documents], PREPARED), _CLEAN, lambda new: _make(new, params)):
        for name in _CLUSTERED:
            made = made.append_column(name, block[name])
        found = made.filter(pc.is_valid(made["query_id"]))
        yield _constant(found, kind="natural", split="", grade=1).select(GATHERED.names).cast(GATHERED)


def _constant(table: pa.Table, **values: str | int) -> pa.Table:
    for name, value in values.items():
        table = table.append_column(name, pa.repeat(pa.scalar(value, GATHERED.field(name).type), table.num_rows))
    return table


def _identity(params: PairsParams) -> dict[str, JSON]:
    words: dict[str, JSON] = {
        "min_body_words": params.min_body_words,
        "min_query_words": params.min_query_words,
        "max_query_words": params.max_query_words,
    }
    return {**cleaning_identity(), **words, **code_hashes(*CODE)}


def _make(documents: pa.Table, params: PairsParams) -> pa.Table:
    """Return the natural pair of each prepared document, in order; nulls where it has none."""
    import daft
    from daft import DataType, col

    @daft.func(return_dtype=DataType.struct({name: DataType.string() for name in _MADE.names}))
    def pair(title: str, text: str) -> dict[str, str] | None:
        found = natural_pair(title, text, params)
        return None if found is None else {name: getattr(found, name) for name in _MADE.names}

    frame = daft.from_arrow(documents.select(["source", "key", "clean_title", "clean_text"]))
    frame = frame.with_column("pair", pair(col("clean_title"), col("clean_text"))).sort(["source", "key"])
    return frame.select(*(col("pair").get(name).alias(name) for name in _MADE.names)).to_arrow().cast(_MADE)
