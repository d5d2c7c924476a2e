"""Stage ingest: a source becomes an immutable snapshot.

1. read: every item of the source is a query, a judgement, a reject, or a document for the sorted spool; unchanged documents
   come from the last ingest
2. merge: documents by source and key, one state per key
3. seal: fixed files, their hashes, the id
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.block_tables import Run, merge, write_run
from etl.erased import keep_erased_out
from etl.marks import MARK_BYTES
from etl.rejects import RejectsFile, Where, duplicate, refuse_if_broken
from etl.snapshots import Snapshot, seal
from etl.source_state import NO_MARK, Selective, SourceState
from etl.sources.items import Item, Judgement, Logged, Made, Query, Reject, Same, Source, excerpt
from etl.storage import DELETIONS, DOCUMENTS, JUDGEMENTS, QUERIES, REJECTS, DocumentsWriter, batches, replaced_folder, write_table
from twinline.clients.erasure_list import Erasures
from twinline.contract.documents.records import Deletion, Document, Version, content_hash
from twinline.contract.errors import DocumentError

Row = dict[str, Any]

_SPOOL = pa.schema(
    [*DOCUMENTS, ("is_deleted", pa.bool_()), ("arrival", pa.int64()), ("mark", pa.binary(MARK_BYTES))],
)
_ORDER: Final = ("source", "key", "arrival")
# Limits of one run: the rows that are sorted in memory before the merge.
_RUN_ROWS: Final = 16_000
_RUN_BYTES: Final = 48 << 20


def ingest(
    source: Source,
    out: Path,
    *,
    max_reject_share: float,
    erasures: Erasures | None = None,
    state: SourceState | None = None,
    progress: Callable[[Iterable[Item]], Iterable[Item]] = lambda items: items,
) -> Snapshot:
    """Read a source to its end and leave a sealed snapshot in `out`, without the documents in `erasures`.

    Args:
        state: the last ingest of the same source under the same erasures. The caller saves it once the store has the
            snapshot. None: everything is read.

    Raises:
        ContractError: no document was found, or too many were set aside; `out` then holds the rejects as evidence.
    """
    with replaced_folder(out) as folder:
        # Inside the new folder: the next run sweeps it away as a whole if this process is killed.
        spool = folder / "spool"
        spool.mkdir()
        with RejectsFile(spool / "rejects.jsonl") as rejects:
            aside = _Aside(rejects)
            read = source.items_since(state) if state is not None and isinstance(source, Selective) else source.items()
            items = keep_erased_out(progress(read), source.uri, erasures or Erasures())
            runs = list(_runs(spool, _arrivals(items, source.uri, aside, state)))
            if state is not None:
                runs.append(state.run(_ORDER))
            with DocumentsWriter(folder, DOCUMENTS) as writer:
                for block in merge(runs, _ORDER, together=_ORDER[:-1]):
                    latest = _latest(block, source.uri, aside)
                    writer.write(latest)
                    if state is not None:
                        state.made(latest["mark"])
            counts = {"documents": writer.rows, **_write_aside(folder, aside)}
        shutil.rmtree(spool)
        snapshot = seal(folder, source.name, source.uri, counts, rejects.by_reason(), source.provenance())
    refuse_if_broken(snapshot.uri, snapshot.counts["documents"], rejects, out / "rejects.parquet", max_reject_share)
    return snapshot


class _Aside:
    """Items beside the documents: rejects go to their file, queries and judgements stay in memory."""

    def __init__(self, rejects: RejectsFile) -> None:
        self.rejects = rejects
        self.queries: dict[tuple[str, str], Query] = {}
        self.judgements: dict[tuple[str, str, str, str], Judgement] = {}
        self.deletions: list[Row] = []

    def take(self, item: Query | Judgement | Reject, uri: str) -> None:
        if isinstance(item, Reject):
            self.rejects.add(item)
        elif isinstance(item, Query):
            self.queries[item.split, item.query_id] = item
        else:
            name = (item.split, item.query_id, item.source, item.key)
            if (first := self.judgements.setdefault(name, item)).grade != item.grade:
                detail = f"{item.split} query {item.query_id!r}: judged {first.grade} before, now {item.grade}"
                self.rejects.add(Reject(uri, "conflicting_judgement", detail, key=item.key))


def _arrivals(items: Iterable[Item], uri: str, aside: _Aside, state: SourceState | None) -> Iterator[Row]:
    """Yield spool rows in order of arrival; set the rest aside, and note the places of unchanged documents."""
    for arrival, item in enumerate(items):
        if isinstance(item, Same):
            assert state is not None  # noqa: S101 (only a source with a state yields this)
            state.take(item.row, arrival, item.line)
        elif isinstance(item, Document | Logged | Made):
            try:
                yield _row(item, arrival)
            except DocumentError as exc:
                document = _document(item)
                where = Where.of(document.origin if isinstance(document, Document) else None, uri)
                aside.rejects.add(Reject(where.place, exc.reason, str(exc), where.line, excerpt(document.key)))
        else:
            aside.take(item, uri)


def _document(item: Document | Logged | Made) -> Document | Deletion:
    return item.item if isinstance(item, Logged) else item.document if isinstance(item, Made) else item


def _row(item: Document | Logged | Made, arrival: int) -> Row:
    document = _document(item)
    row: Row = {"source": document.source, "key": document.key, "version": document.version, "arrival": arrival}
    row["is_deleted"] = isinstance(document, Deletion)
    row["mark"] = item.mark if isinstance(item, Made) else NO_MARK
    if isinstance(item, Logged):
        row |= {"log_timestamp_ms": item.timestamp_ms, "log_partition": item.partition, "log_offset": item.offset}
    if isinstance(document, Document):
        row |= {
            "title": document.title,
            "text": document.text,
            "metadata": json.dumps(document.metadata, sort_keys=True, ensure_ascii=False),
            "tenant": document.tenant,
            "content_hash": content_hash(document),
        }
        if document.origin is not None:
            row |= {"place": document.origin.place, "line": document.origin.line}
    return row


def _runs(spool: Path, rows: Iterable[Row]) -> Iterator[Run]:
    """Write arriving rows to disk, in runs that are sorted each."""
    held: list[pa.RecordBatch] = []
    for batch in batches(_SPOOL, rows):
        held.append(batch)
        if sum(piece.num_rows for piece in held) >= _RUN_ROWS or sum(piece.nbytes for piece in held) >= _RUN_BYTES:
            yield write_run(spool / f"run-{uuid4().hex}.arrow", pa.Table.from_batches(held), _ORDER)
            held = []
    if held:
        yield write_run(spool / f"run-{uuid4().hex}.arrow", pa.Table.from_batches(held), _ORDER)


def _latest(block: pa.Table, uri: str, aside: _Aside) -> pa.Table:
    """Return one row per key of a block in order: the newest version of a log, the only one of any other source.

    The rules for a log are the consumer's: the first message of a key settles the kind of its versions, and an older version
    never replaces a newer one. The rule for any other source is the publisher's: `duplicate`.
    """
    begins = _begins(block)
    sizes = np.diff(np.append(begins, block.num_rows))
    is_deleted = block["is_deleted"].to_numpy()
    chosen = begins.copy()
    for group in np.flatnonzero((sizes > 1) | is_deleted[begins]):
        states = block.slice(begins[group], sizes[group]).to_pylist()
        newest = _newest(states, uri, aside)
        chosen[group] += newest
        if states[newest]["is_deleted"]:
            aside.deletions.append(states[newest])
    chosen = chosen[~is_deleted[chosen]]
    return block if len(chosen) == block.num_rows else block.take(chosen)


def _begins(block: pa.Table) -> NDArray[np.int64]:
    """Return the first row of each key."""
    differs = np.ones(block.num_rows, np.bool_)
    before, after = block.slice(0, block.num_rows - 1), block.slice(1)
    other = [pc.not_equal(after[name].combine_chunks(), before[name].combine_chunks()) for name in ("source", "key")]
    differs[1:] = pc.or_(*other).to_numpy(zero_copy_only=False)
    return np.flatnonzero(differs)


def _newest(states: list[Row], uri: str, aside: _Aside) -> int:
    """Return the number of the state that counts for one key; set aside the states that cannot."""
    newest, standing = 0, _version(states[0])
    for number, state in enumerate(states[1:], 1):
        key = state["key"]
        if state["log_offset"] is None:
            first, second = (Where(row["place"] or uri, row["line"]) for row in (states[0], state))
            aside.rejects.add(duplicate(state["source"], key, first, second, state["text"]))
            continue
        try:
            if not (version := _version(state)) < standing:
                newest, standing = number, version.after(standing)
        except DocumentError as exc:
            place = f"{uri}[{state['log_partition']}]"
            aside.rejects.add(Reject(place, exc.reason, str(exc), state["log_offset"], key))
    return newest


def _version(row: Row) -> Version:
    if row["version"] is not None:
        return Version("explicit", row["version"])
    return Version("log", row["log_timestamp_ms"], row["log_offset"], row["log_partition"])


def _write_aside(folder: Path, aside: _Aside) -> dict[str, int]:
    return {
        "deletions": write_table(folder / "deletions.parquet", DELETIONS, map(_only(DELETIONS), aside.deletions)),
        "queries": write_table(folder / "queries.parquet", QUERIES, _sorted(aside.queries)),
        "judgements": write_table(folder / "judgements.parquet", JUDGEMENTS, _sorted(aside.judgements)),
        "rejects": write_table(folder / "rejects.parquet", REJECTS, aside.rejects.rows()),
    }


def _only(schema: pa.Schema) -> Callable[[Row], Row]:
    return lambda row: {name: row[name] for name in schema.names}


def _sorted(items: dict[Any, Any]) -> Iterator[Row]:
    return (asdict(items[name]) for name in sorted(items))
