"""The part of the evaluation that training has seen, by an independent check of the finished rows.

A leak is a held-out query among the training queries, word for word or judged for the same document. In a split that the pairs
stage made, a training document that equals or nearly equals a relevant document is a leak too. A data set's own split may
share documents with its training part, as published benchmarks do: these are counted and reported.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from train.encoder.params import SimilarityParams
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import encode_key
from twinline.contract.release.checks import Check
from twinline.contract.release.verdict import NO_EVALUATION_LEAK

TOLERATED = 0
_SHOWN = 3
_SHOWN_CHARS = 100
# Five standard errors: no corpus is large enough to exceed them by chance.
_STANDARD_ERRORS = 5

Row = Mapping[str, Any]
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class LeakFiles:
    """The files of the rows; `snapshot_queries` shows the data set's own splits."""

    train: Path
    queries: Path
    judgements: Path
    documents: Path
    snapshot_queries: Path


@dataclass
class Leaks:
    """Leaked rows by kind, in words, and shared documents that are allowed but reported."""

    found: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    shared_documents: dict[str, int] = field(default_factory=dict)
    compared: dict[str, int] = field(default_factory=dict)


def read_leaks(files: LeakFiles, params: SimilarityParams) -> Leaks:
    """Compare the training pairs with everything held out, not only with the sample for scoring."""
    train = pq.read_table(files.train, columns=["query_id", "query", "source", "key", "title", "text"]).to_pylist()
    queries = pq.read_table(files.queries).to_pylist()
    judgements = pq.read_table(files.judgements).to_pylist()
    brought = {row["split"] for row in pq.read_table(files.snapshot_queries, columns=["split"]).to_pylist()}
    wanted = {_id(row) for row in [*train, *judgements]}
    columns = ["source", "key", "clean_title", "clean_text"]
    texts = {
        _id(row): row["clean_text"] or row["clean_title"]
        for row in pq.read_table(files.documents, columns=columns).to_pylist()
        if _id(row) in wanted
    }
    return find_leaks(train, queries, judgements, brought, texts, params)


def find_leaks(
    train: Sequence[Row],
    queries: Sequence[Row],
    judgements: Sequence[Row],
    brought: Iterable[str],
    texts: Mapping[str, str],
    params: SimilarityParams,
) -> Leaks:
    """Return the leaks. Pure.

    Args:
        train: rows with query_id, query, source, key, title, text.
        queries: held-out rows with query_id, text, split.
        judgements: held-out rows with query_id, source, key, grade, split.
        brought: the data set's own splits.
        texts: the whole clean text of documents, by id; a training row without its document is compared by its own text.
        params: the prepare stage's definition of a near-duplicate.
    """
    leaks = Leaks()
    held_texts = {normal_text(row["text"]): row for row in queries}
    held_ids = {(row["query_id"]) for row in queries}
    for row in train:
        if (same := held_texts.get(normal_text(row["query"]))) is not None:
            leaks.found["query text"].append(f"{_short(row['query'])} is query {same['query_id']!r} of {same['split']}")
        elif row["query_id"] in held_ids:
            leaks.found["query id"].append(f"{row['query_id']!r}: {_short(row['query'])}")
    relevant: dict[str, dict[str, str]] = defaultdict(dict)
    for row in judgements:
        if row["grade"] > 0:
            relevant[row["split"]][_id(row)] = row["query_id"]
    trained = {_id(row): texts.get(_id(row)) or row["text"] or row["title"] for row in train}
    made = {split: documents for split, documents in relevant.items() if split not in set(brought)}
    for split, documents in sorted(relevant.items()):
        shared = sorted(set(documents) & set(trained))
        if split in made:
            leaks.found["relevant document"] += [
                f"{name} trains, and answers query {documents[name]!r} of {split}" for name in shared
            ]
        else:
            leaks.shared_documents[split] = len(shared)
    held = {name: (split, texts[name]) for split, documents in made.items() for name in documents if name in texts}
    leaks.found["near-duplicate document"] += _near_duplicates(trained, held, params)
    leaks.compared = {"training_pairs": len(train), "held_out_queries": len(queries), "held_out_documents": len(held)}
    leaks.found = {kind: rows for kind, rows in leaks.found.items() if rows}
    return leaks


def _near_duplicates(trained: Mapping[str, str], held: Mapping[str, tuple[str, str]], params: SimilarityParams) -> Iterator[str]:
    limit = certain_similarity(params)
    held_shingles = {name: shingles(text, params.shingle_words) for name, (_, text) in held.items()}
    having: defaultdict[str, list[str]] = defaultdict(list)
    for name, members in held_shingles.items():
        for member in members:
            having[member].append(name)
    for name, text in trained.items():
        if name in held:
            continue  # the document itself, reported above
        own = shingles(text, params.shingle_words)
        common = Counter(other for member in own for other in having.get(member, ()))
        for other, count in common.items():
            similarity = count / (len(own) + len(held_shingles[other]) - count)
            if similarity >= limit:
                yield f"{name} trains, and is {similarity:.2f} like {other} of {held[other][0]}: {_short(text)}"


def certain_similarity(params: SimilarityParams) -> float:
    """Return the lowest Jaccard similarity that the prepare stage's estimate cannot have put below its threshold.

    The exact threshold would accuse pairs that the estimate put just below it.
    """
    threshold = params.near_duplicate_similarity
    return min(1.0, threshold + _STANDARD_ERRORS * sqrt(threshold * (1 - threshold) / params.hashes))


def shingles(text: str, words: int) -> set[str]:
    """Return the shingles of a text, runs of so many words; a shorter text is one shingle."""
    found = normal_text(text).split()
    return {" ".join(found[start : start + words]) for start in range(max(1, len(found) - words + 1))}


def normal_text(text: str) -> str:
    """Return the words alone, without case, punctuation and width."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def judge_leaks(leaks: Leaks) -> Check:
    """Accept an evaluation if training has seen nothing of it."""
    count = sum(map(len, leaks.found.values()))
    shared = "".join(
        f"; {n} documents of {split} train as well, as the data set has it" for split, n in leaks.shared_documents.items()
    )
    numbers: dict[str, JSON] = {
        **leaks.compared,
        "leaks": {kind: len(rows) for kind, rows in leaks.found.items()},
        "tolerated": TOLERATED,
        "shared_documents": dict(leaks.shared_documents),
        "examples": [f"{kind}: {row}" for kind, rows in leaks.found.items() for row in rows[:_SHOWN]],
    }
    looked = (
        f"{leaks.compared['training_pairs']} training pairs against {leaks.compared['held_out_queries']} held-out queries and "
        f"{leaks.compared['held_out_documents']} documents that answer them"
    )
    if count <= TOLERATED:
        return Check(NO_EVALUATION_LEAK, True, f"{looked}: none found{shared}", numbers)
    kinds = ", ".join(f"{len(rows)} x {kind} (for example {rows[0]})" for kind, rows in leaks.found.items())
    remedy = "the scores are worthless; fix the pairs stage (etl/pairs.py) and train again"
    return Check(NO_EVALUATION_LEAK, False, f"{looked}: {kinds}, {TOLERATED} tolerated: {remedy}{shared}", numbers)


def _id(row: Row) -> str:
    return encode_key(row["source"], row["key"]).decode()


def _short(text: str) -> str:
    whole = " ".join(text.split())
    return repr(whole if len(whole) <= _SHOWN_CHARS else whole[: _SHOWN_CHARS - 1] + "…")
