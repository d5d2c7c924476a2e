"""Stage pairs: training pairs, held-out queries, and the proof that the two do not touch.

1. gather: judged pairs of the data set, or natural pairs of the documents, as one table on disk
2. split: the data set's splits stay; missing ones are made from the training queries, by cluster
3. choose: one training pair per query and cluster; the rest is set aside with its reason
4. prove: the leak check reads the finished rows; only then are they written

Queries and ids stay in memory, about a kilobyte a pair; the texts of documents are read in blocks.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.block_tables import TableWriter, read_blocks
from etl.gather import DEV, GATHERED, gather_pairs
from etl.leaks import LeakReport, find_leaks
from etl.natural import normal_text
from etl.pair import Pair, read_pairs
from etl.params import PairsParams
from etl.snapshots import read_snapshot
from etl.splits import Asked, assign_splits
from etl.storage import JUDGEMENTS, QUERIES, read_rows, replaced_folder, write_table
from twinline.clients.questions import Question, is_asked
from twinline.contract.errors import TooSmallError

Row = dict[str, Any]

TRAIN = "train"
TEST = "test"

_text = pa.large_string()
PAIRS = pa.schema([(name, _text) for name in ("query_id", "query", "source", "key", "title", "text", "cluster_id")])
ASIDE = pa.schema([(name, _text) for name in ("query_id", "query", "source", "key", "reason")])
# A held-out natural query was taken from its document: a search must not find it there word for word.
WITHHELD = pa.schema([(name, _text) for name in ("split", "source", "key", "title", "text")])


@dataclass(frozen=True, slots=True)
class Plan:
    """The fate of every row of the gathered table: its split, and why it is set aside (None where it is used).

    `made` names the splits that the data set lacks.
    """

    splits: Sequence[str]
    aside: Sequence[str | None]
    made: Sequence[str]


def make_pairs(
    snapshot: Path,
    prepared: Path,
    out: Path,
    params: PairsParams,
    cache: Path | None = None,
    asked: Sequence[Question] = (),
) -> dict[str, Any]:
    """Write the training pairs, the held-out queries and judgements, and report.json; return the report.

    Args:
        cache: folder of the stage caches; None makes every natural pair again.
        asked: the project's own questions. They join the development split; training leaves out the documents that answer them.

    Raises:
        TooSmallError: there is nothing to train on.
        ContractError: the leak check found something; then only report.json is written.
    """
    record = read_snapshot(snapshot)
    with replaced_folder(out) as folder:
        gathered = gather_pairs(snapshot, prepared / "documents.parquet", params, folder / "gathered", cache, asked)
        pairs = list(read_pairs(read_blocks([gathered], GATHERED, Pair._fields)))
        brought = [row for row in read_rows(snapshot / "queries.parquet") if row["split"] != TRAIN]
        plan = plan_pairs(pairs, brought, params)
        queries, judgements = _held_out(pairs, plan, brought)
        chosen = {split: _chosen(pairs, plan, split) for split in (TRAIN, *plan.made)}
        made = {split: own for split, own in chosen.items() if split != TRAIN}
        leaks = find_leaks(chosen[TRAIN], queries, judgements, made)
        report = {
            "snapshot": record.id,
            "seed": params.seed,
            "train_pairs": len(chosen[TRAIN]),
            **_report(pairs, plan, queries, judgements, leaks),
            "asked": _count_asked(asked, judgements),
        }
        (folder / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if not any(leaks.violations.values()):
            _write(folder, gathered, plan, pairs)
            write_table(folder / "queries.parquet", QUERIES, queries)
            write_table(folder / "judgements.parquet", JUDGEMENTS, judgements)
        rmtree(gathered.parent)
    leaks.refuse(str(out / "report.json"))
    if not chosen[TRAIN]:
        raise TooSmallError(
            f"{record.uri} gives no training pair (set aside: {report['set_aside']}): bring train judgements, or "
            f"documents of at least {params.min_body_words} words with a title or a first sentence (pairs.min_body_words)"
        )
    return report


def plan_pairs(pairs: Sequence[Pair], brought: Sequence[Row], params: PairsParams) -> Plan:
    """Decide the split of every pair, and the training pairs to leave out. Pure.

    Args:
        pairs: in a fixed order; pairs in the split `train` or in none are split here.
        brought: the held-out queries of the data set, judged or not.
    """
    held_splits = {row["split"] for row in brought}
    # Test first: its queries stay the same when the development share changes.
    shares = {} if held_splits - {DEV} else {TEST: params.test_share}
    shares |= {} if DEV in held_splits else {DEV: params.dev_share}
    texts = [normal_text(pair.query) for pair in pairs]
    held_texts = {normal_text(row["text"]) for row in brought}
    assigned = assign_splits(_asked(pairs, texts, held_texts), shares, params.seed)
    splits = [assigned.get(pair.query_id, TRAIN) if pair.split in (TRAIN, "") else pair.split for pair in pairs]
    held_texts |= {text for text, split in zip(texts, splits, strict=True) if split != TRAIN}
    return Plan(splits, list(_asides(pairs, texts, splits, held_texts)), tuple(shares))


def _asked(pairs: Sequence[Pair], texts: Sequence[str], held_texts: set[str]) -> list[Asked]:
    """Return the queries to split, without those whose text the data set holds out."""
    text_of: dict[str, str] = {}
    clusters: dict[str, list[str]] = {}
    for pair, text in zip(pairs, texts, strict=True):
        if pair.split in (TRAIN, "") and pair.grade > 0 and pair.cluster_id is not None:
            text_of[pair.query_id] = text
            clusters.setdefault(pair.query_id, []).append(pair.cluster_id)
    return [Asked(query, text, clusters[query]) for query, text in text_of.items() if text not in held_texts]


def _asides(pairs: Sequence[Pair], texts: Sequence[str], splits: Sequence[str], held_texts: set[str]) -> Iterator[str | None]:
    """Yield why a pair is not used, None where it is. Only training pairs are left out as near-duplicates."""
    seen: set[tuple[str, str]] = set()
    asked_about = {pair.cluster_id for pair in pairs if is_asked(pair.query_id)}
    for pair, text, split in zip(pairs, texts, splits, strict=True):
        if pair.cluster_id is None:
            yield "no_document"
        elif pair.cluster_id in asked_about and pair.split in (TRAIN, "") and split != DEV:
            # The project's own questions are in the development split, and a cluster in one alone.
            yield "asked_about"
        elif split != TRAIN:
            yield None
        elif pair.grade <= 0:
            yield "not_relevant"
        elif text in held_texts:
            yield "query_held_out"
        else:
            # A near-duplicate's natural pair repeats this one; a judged pair is repeated only by its own query.
            name = ("" if pair.kind == "natural" else text, pair.cluster_id)
            yield "near_duplicate" if name in seen else None
            seen.add(name)


def _held_out(pairs: Sequence[Pair], plan: Plan, brought: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the held-out queries and judgements, sorted: of the data set, and of the splits made here."""
    queries = {(row["split"], row["query_id"]): row for row in brought}
    judgements = []
    for pair, split, aside in zip(pairs, plan.splits, plan.aside, strict=True):
        if split == TRAIN or aside is not None:
            continue
        queries.setdefault((split, pair.query_id), {"query_id": pair.query_id, "text": pair.query, "split": split})
        judgements.append(
            {"query_id": pair.query_id, "source": pair.source, "key": pair.key, "grade": pair.grade, "split": split}
        )
    judgements.sort(key=lambda row: (row["split"], row["query_id"], row["source"], row["key"]))
    return [queries[name] for name in sorted(queries)], judgements


def _chosen(pairs: Sequence[Pair], plan: Plan, split: str) -> list[Pair]:
    return [pair for pair, wanted in zip(pairs, _is_chosen(pairs, plan, split), strict=True) if wanted]


def _is_chosen(pairs: Sequence[Pair], plan: Plan, split: str) -> NDArray[np.bool_]:
    return np.fromiter(
        (
            own == split and aside is None and pair.grade > 0
            for pair, own, aside in zip(pairs, plan.splits, plan.aside, strict=True)
        ),
        np.bool_,
        len(pairs),
    )


def _write(folder: Path, gathered: Path, plan: Plan, pairs: Sequence[Pair]) -> None:
    """Write the chosen pairs with their texts, block by block of the gathered table."""
    chosen = {split: _is_chosen(pairs, plan, split) for split in (TRAIN, DEV)}
    at = 0
    with ExitStack() as opened:
        writers = {
            name: opened.enter_context(TableWriter(folder / f"{name}.parquet", schema))
            for name, schema in ((TRAIN, PAIRS), (DEV, PAIRS), ("withheld", WITHHELD))
        }
        for block in read_blocks([gathered], GATHERED):
            rows = slice(at, at := at + block.num_rows)
            for split, wanted in chosen.items():
                writers[split].write(block.filter(pa.array(wanted[rows])))
            planned = block.set_column(block.schema.get_field_index("split"), "split", pa.array(plan.splits[rows], _text))
            writers["withheld"].write(planned.filter(pa.array(_is_withheld(pairs[rows], plan.splits[rows]), pa.bool_())))
    aside = ({**pair._asdict(), "reason": reason} for pair, reason in zip(pairs, plan.aside, strict=True) if reason is not None)
    write_table(folder / "rejects.parquet", ASIDE, ({name: row[name] for name in ASIDE.names} for row in aside))


def _is_withheld(pairs: Iterable[Pair], splits: Iterable[str]) -> list[bool]:
    return [pair.kind == "natural" and split != TRAIN for pair, split in zip(pairs, splits, strict=True)]


def _count_asked(asked: Sequence[Question], judgements: Sequence[Row]) -> dict[str, int]:
    there = {(row["query_id"], row["source"], row["key"]) for row in judgements}
    return {"judgements": len(asked), "without_document": sum(one.pair not in there for one in asked)}


def _report(pairs: Sequence[Pair], plan: Plan, queries: list[Row], judgements: list[Row], leaks: LeakReport) -> Mapping[str, Any]:
    return {
        "natural_pairs": sum(pair.kind == "natural" for pair in pairs),
        "queries": dict(sorted(Counter(row["split"] for row in queries).items())),
        "judgements": dict(sorted(Counter(row["split"] for row in judgements).items())),
        "splits_made_here": list(plan.made),
        "set_aside": dict(sorted(Counter(reason for reason in plan.aside if reason is not None).items())),
        "leaks": asdict(leaks),
    }
