"""Stage ingest: a source becomes an immutable snapshot.

1. read: every item of the source goes to a spool of documents, or is a query, a judgement or a reject
2. order: documents by source and key, one state per key
3. seal: fixed files, their hashes, the id
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from clients.erasures import Erasures
from contract.errors import ContractError, DocumentError
from contract.records import Deletion, Document, Version, content_hash
from etl.erased import keep_erased_out
from etl.rejects import RejectsFile
from etl.snapshots import Snapshot, seal
from etl.sources.items import NOT_A_DOCUMENT, Item, Judgement, Logged, Query, Reject, Source, excerpt
from etl.storage import (
    DELETIONS,
    DOCUMENTS,
    JUDGEMENTS,
    QUERIES,
    REJECTS,
    frame_rows,
    replaced_folder,
    write_documents,
    write_table,
)

Row = dict[str, Any]

_SPOOL = DOCUMENTS.append(pa.field("is_deleted", pa.bool_())).append(pa.field("arrival", pa.int64()))


def ingest(
    source: Source,
    out: Path,
    *,
    max_reject_share: float,
    erasures: Erasures | None = None,
    progress: Callable[[Iterable[Item]], Iterable[Item]] = lambda items: items,
) -> Snapshot:
    """Read a source to its end and leave a sealed snapshot in `out`; without the documents in `erasures`.

    Raises:
        ContractError: no document was found, or too many were set aside; `out` then holds the rejects as evidence.
    """
    with replaced_folder(out) as folder:
        # Inside the new folder, which is swept away as a whole if this process is killed.
        spool = folder / "spool"
        spool.mkdir()
        with RejectsFile(spool / "rejects.jsonl") as rejects:
            aside = _Aside(rejects)
            items = keep_erased_out(progress(source.items()), source.uri, erasures or Erasures())
            write_table(spool / "arrived.parquet", _SPOOL, _arrivals(items, source.uri, aside))
            documents = write_documents(folder, DOCUMENTS, _latest(_in_order(spool), source.uri, aside))
            counts = {"documents": documents, **_write_aside(folder, aside)}
        shutil.rmtree(spool)
        snapshot = seal(folder, source.name, source.uri, counts, rejects.by_reason(), source.provenance())
    _refuse_if_broken(snapshot, rejects, out / "rejects.parquet", max_reject_share)
    return snapshot


class _Aside:
    """What is found beside the documents: rejects go to their file, the rest is small enough to be held."""

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


def _arrivals(items: Iterable[Item], uri: str, aside: _Aside) -> Iterator[Row]:
    """Yield spool rows in order of arrival; put the rest aside."""
    for arrival, item in enumerate(items):
        if isinstance(item, Document | Logged):
            try:
                yield _row(item, arrival)
            except DocumentError as exc:
                document = item.item if isinstance(item, Logged) else item
                aside.rejects.add(Reject(uri, exc.reason, str(exc), key=excerpt(document.key)))
        else:
            aside.take(item, uri)


def _row(item: Document | Logged, arrival: int) -> Row:
    logged = item if isinstance(item, Logged) else None
    document = item.item if isinstance(item, Logged) else item
    row: Row = {"source": document.source, "key": document.key, "version": document.version, "arrival": arrival}
    row["is_deleted"] = isinstance(document, Deletion)
    if logged is not None:
        row |= {"log_timestamp_ms": logged.timestamp_ms, "log_partition": logged.partition, "log_offset": logged.offset}
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


def _in_order(spool: Path) -> Iterator[Row]:
    import daft

    return frame_rows(daft.read_parquet(str(spool / "*.parquet")).sort(["source", "key", "arrival"]))


def _latest(rows: Iterable[Row], uri: str, aside: _Aside) -> Iterator[Row]:
    """Yield one document per key: the newest version of a log, the only one of any other source.

    A log is followed as the consumer follows it: the first message of a key settles the kind of its versions, and an
    older version never takes the place of a newer one.
    """
    for (_, key), states in groupby(rows, key=itemgetter("source", "key")):
        current, *later = states
        for state in later:
            if state["log_offset"] is None:
                detail = f"key {key!r} comes more than once: the first one is kept"
                aside.rejects.add(Reject(uri, "duplicate_key", detail, key=key, raw=excerpt(state["text"])))
                continue
            try:
                if _version(state) >= _version(current):
                    current = state
            except DocumentError as exc:
                place = f"{uri}[{state['log_partition']}]"
                aside.rejects.add(Reject(place, exc.reason, str(exc), state["log_offset"], key))
        if current["is_deleted"]:
            aside.deletions.append(current)
        else:
            yield current


def _version(row: Row) -> Version:
    if row["version"] is not None:
        return Version("explicit", row["version"])
    return Version("log", row["log_timestamp_ms"], row["log_offset"])


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


def _refuse_if_broken(snapshot: Snapshot, rejects: RejectsFile, kept: Path, max_reject_share: float) -> None:
    documents = snapshot.counts["documents"]
    broken = Counter({reason: count for reason, count in rejects.counts.items() if reason not in NOT_A_DOCUMENT})
    reasons = ", ".join(f"{reason} {count}" for reason, count in broken.most_common())
    first = f"; the first: {rejects.first_broken.detail}" if rejects.first_broken else ""
    evidence = f"every one with its place is in {kept}{first}"
    if not documents:
        raise ContractError(f"{snapshot.uri} holds no document ({reasons or 'it is empty'}): {evidence}")
    total = documents + broken.total()
    share = broken.total() / total
    if share > max_reject_share:
        raise ContractError(
            f"{snapshot.uri}: {broken.total()} of {total} set aside ({reasons}), a share of {share:.2f} where "
            f"ingest.max_reject_share allows {max_reject_share}: {evidence}"
        )
