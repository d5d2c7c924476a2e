"""Stage pairs: what to train on, what is held out, and the proof that the two do not touch.

1. gather: judged pairs of the data set, or natural pairs of the documents, as one table
2. split: the data set's splits are kept; those it lacks are made from the training queries, by cluster
3. choose: one training pair per query and cluster; the rest is set aside with its reason
4. prove: the leak check reads the finished rows; only then are they written
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from contract.errors import ContractError
from etl.gather import gather_pairs
from etl.leaks import LeakReport, find_leaks
from etl.natural import normal_text
from etl.params import PairsParams
from etl.snapshots import read_snapshot
from etl.splits import Asked, assign_splits
from etl.storage import JUDGEMENTS, QUERIES, read_rows, replaced_folder, write_arrow, write_table

Row = dict[str, Any]

TRAIN = "train"
DEV = "dev"
TEST = "test"

_text = pa.large_string()
PAIRS = pa.schema([(name, _text) for name in ("query_id", "query", "source", "key", "title", "text", "cluster_id")])
ASIDE = pa.schema([(name, _text) for name in ("query_id", "query", "source", "key", "reason")])
# A held-out natural query was taken from its document: whoever searches for it must not find it there word for word.
WITHHELD = pa.schema([(name, _text) for name in ("split", "source", "key", "title", "text")])

_IDS = ("query_id", "query", "kind", "split", "grade", "source", "key", "cluster_id")


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of every row of the gathered table: the split it is in, and why it is set aside, if it is."""

    splits: Sequence[str]
    aside: Sequence[str | None]
    made: Sequence[str]


def make_pairs(snapshot: Path, prepared: Path, out: Path, params: PairsParams, kept: Path | None = None) -> dict[str, Any]:
    """Write the training pairs, the held-out queries and judgements, and report.json; return the report.

    Args:
        kept: folder in which the pair of each document is kept for the next run; None: all are made anew.

    Raises:
        ContractError: there is nothing to train on, or the leak check found something; then only report.json is written.
    """
    record = read_snapshot(snapshot)
    gathered = gather_pairs(snapshot, prepared / "documents.parquet", params, kept)
    rows = gathered.select(_IDS).to_pylist()
    brought = [row for row in read_rows(snapshot / "queries.parquet") if row["split"] != TRAIN]
    plan = plan_pairs(rows, brought, params)
    queries, judgements = _held_out(rows, plan, brought)
    chosen = {split: _chosen(rows, plan, split) for split in (TRAIN, *plan.made)}
    leaks = find_leaks(chosen[TRAIN], queries, judgements, {split: pairs for split, pairs in chosen.items() if split != TRAIN})
    report = {"snapshot": record.id, "seed": params.seed, **_report(rows, plan, queries, judgements, leaks)}
    with replaced_folder(out) as folder:
        (folder / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if not any(leaks.violations.values()):
            _write(folder, gathered, plan, rows, queries, judgements)
    leaks.refuse(str(out / "report.json"))
    if not chosen[TRAIN]:
        raise ContractError(
            f"{record.uri} gives no training pair (set aside: {report['set_aside']}): bring train judgements, or documents "
            f"of at least {params.min_body_words} words with a title or a first sentence (pairs.min_body_words)"
        )
    return report


def plan_pairs(rows: Sequence[Row], brought: Sequence[Row], params: PairsParams) -> Plan:
    """Decide the split of every gathered row and which training rows are left out. Pure.

    Args:
        rows: gathered pairs, in a fixed order; those in the split `train` or in none are to be split by us.
        brought: the held-out queries of the data set, judged or not.
    """
    held_splits = {row["split"] for row in brought}
    # Test first: its queries stay the same when the development share changes.
    shares = {} if held_splits - {DEV} else {TEST: params.test_share}
    shares |= {} if DEV in held_splits else {DEV: params.dev_share}
    held_texts = {normal_text(row["text"]) for row in brought}
    assigned = assign_splits(_asked(rows, held_texts), shares, params.seed)
    splits = [assigned.get(row["query_id"], TRAIN) if row["split"] in (TRAIN, "") else row["split"] for row in rows]
    held_texts |= {normal_text(row["query"]) for row, split in zip(rows, splits, strict=True) if split != TRAIN}
    return Plan(splits, list(_asides(rows, splits, held_texts)), tuple(shares))


def _asked(rows: Sequence[Row], held_texts: set[str]) -> list[Asked]:
    """Return the queries that are ours to split: a text that the data set holds out is none of them."""
    texts: dict[str, str] = {}
    clusters: dict[str, list[str]] = {}
    for row in rows:
        if row["split"] in (TRAIN, "") and row["grade"] > 0 and row["cluster_id"] is not None:
            texts[row["query_id"]] = row["query"]
            clusters.setdefault(row["query_id"], []).append(row["cluster_id"])
    return [Asked(query, text, clusters[query]) for query, text in texts.items() if normal_text(text) not in held_texts]


def _asides(rows: Sequence[Row], splits: Sequence[str], held_texts: set[str]) -> Iterator[str | None]:
    """Yield why a row is not used, None for one that is. Only training rows are left out for being near-duplicates."""
    seen: set[tuple[str, str]] = set()
    for row, split in zip(rows, splits, strict=True):
        if row["cluster_id"] is None:
            yield "no_document"
        elif split != TRAIN:
            yield None
        elif row["grade"] <= 0:
            yield "not_relevant"
        elif normal_text(row["query"]) in held_texts:
            yield "query_held_out"
        else:
            # A natural pair is as good as that of a near-duplicate; a judged one is only repeated by its own query.
            name = ("" if row["kind"] == "natural" else normal_text(row["query"]), row["cluster_id"])
            yield "near_duplicate" if name in seen else None
            seen.add(name)


def _held_out(rows: Sequence[Row], plan: Plan, brought: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the held-out queries and judgements, sorted; those of the data set and those of the splits we made."""
    queries = {(row["split"], row["query_id"]): row for row in brought}
    judgements = []
    for row, split, aside in zip(rows, plan.splits, plan.aside, strict=True):
        if split == TRAIN or aside is not None:
            continue
        queries.setdefault((split, row["query_id"]), {"query_id": row["query_id"], "text": row["query"], "split": split})
        judgements.append({**{name: row[name] for name in ("query_id", "source", "key", "grade")}, "split": split})
    judgements.sort(key=lambda row: (row["split"], row["query_id"], row["source"], row["key"]))
    return [queries[name] for name in sorted(queries)], judgements


def _chosen(rows: Sequence[Row], plan: Plan, split: str) -> list[Row]:
    return [row for row, wanted in zip(rows, _is_chosen(rows, plan, split), strict=True) if wanted]


def _is_chosen(rows: Sequence[Row], plan: Plan, split: str) -> list[bool]:
    return [
        own == split and aside is None and row["grade"] > 0 for row, own, aside in zip(rows, plan.splits, plan.aside, strict=True)
    ]


def _write(folder: Path, gathered: pa.Table, plan: Plan, rows: Sequence[Row], queries: list[Row], judgements: list[Row]) -> None:
    for split in (TRAIN, DEV):
        wanted = pa.array(_is_chosen(rows, plan, split), pa.bool_())
        write_arrow(folder / f"{split}.parquet", PAIRS, gathered.filter(wanted))
    write_table(folder / "queries.parquet", QUERIES, queries)
    write_table(folder / "judgements.parquet", JUDGEMENTS, judgements)
    write_arrow(folder / "withheld.parquet", WITHHELD, _withheld(gathered, plan))
    aside = ({**row, "reason": reason} for row, reason in zip(rows, plan.aside, strict=True) if reason is not None)
    write_table(folder / "rejects.parquet", ASIDE, ({name: row[name] for name in ASIDE.names} for row in aside))


def _withheld(gathered: pa.Table, plan: Plan) -> pa.Table:
    planned = gathered.set_column(gathered.schema.get_field_index("split"), "split", pa.array(plan.splits, _text))
    return planned.filter(pc.and_(pc.equal(planned["kind"], "natural"), pc.not_equal(planned["split"], TRAIN)))


def _report(rows: Sequence[Row], plan: Plan, queries: list[Row], judgements: list[Row], leaks: LeakReport) -> Mapping[str, Any]:
    return {
        "train_pairs": len(_chosen(rows, plan, TRAIN)),
        "natural_pairs": sum(row["kind"] == "natural" for row in rows),
        "queries": dict(sorted(Counter(row["split"] for row in queries).items())),
        "judgements": dict(sorted(Counter(row["split"] for row in judgements).items())),
        "splits_made_here": list(plan.made),
        "set_aside": dict(sorted(Counter(reason for reason in plan.aside if reason is not None).items())),
        "leaks": asdict(leaks),
    }
