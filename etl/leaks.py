"""The proof that nothing held out reaches training: it looks at the finished rows, not at how they were made. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract.errors import ContractError
from etl.natural import normal_text

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What was found.

    Args:
        violations: number per kind; every one must be 0.
        examples: one offending row per kind.
        shared_documents: per held-out split, the documents relevant both there and in training. Allowed where the data
            set brings its splits, but to be known when a score is read.
    """

    violations: dict[str, int]
    examples: dict[str, str]
    shared_documents: dict[str, int]

    def refuse(self, place: str) -> None:
        """Raise ContractError when anything held out is in training."""
        found = {kind: count for kind, count in self.violations.items() if count}
        if found:
            counts = ", ".join(f"{kind} {count} (for example {self.examples[kind]})" for kind, count in found.items())
            raise ContractError(f"held-out data in the training pairs: {counts}. See {place}; no pairs were written")


def find_leaks(
    train: Sequence[Row], queries: Iterable[Row], judgements: Iterable[Row], made_splits: Mapping[str, Sequence[Row]]
) -> LeakReport:
    """Compare training pairs with everything held out.

    Args:
        train: rows with query_id, query, source, key, cluster_id.
        queries: held-out rows with query_id, text, split.
        judgements: held-out rows with query_id, source, key, grade, split.
        made_splits: pairs of each split that this code made; data sets answer for their own.
    """
    queries = list(queries)
    judgements = list(judgements)
    held_texts = {normal_text(row["text"]): row for row in queries}
    text_of = {(row["split"], row["query_id"]): normal_text(row["text"]) for row in queries}
    held_ids = {row["query_id"] for row in queries}
    held_judgements = {(text_of.get((row["split"], row["query_id"]), ""), row["source"], row["key"]) for row in judgements}
    offending = {
        "test_query_text": [row for row in train if normal_text(row["query"]) in held_texts],
        "test_query_id": [row for row in train if row["query_id"] in held_ids],
        "test_judgement": [row for row in train if (normal_text(row["query"]), row["source"], row["key"]) in held_judgements],
        "cluster_across_splits": _shared_clusters({"train": train, **made_splits}),
    }
    trained = {(row["source"], row["key"]) for row in train}
    relevant: dict[str, set[tuple[str, str]]] = {}
    for row in judgements:
        if row["grade"] > 0:
            relevant.setdefault(row["split"], set()).add((row["source"], row["key"]))
    return LeakReport(
        {kind: len(rows) for kind, rows in offending.items()},
        {kind: f"query {rows[0]['query_id']!r}: {rows[0]['query'][:80]!r}" for kind, rows in offending.items() if rows},
        {split: len(trained & documents) for split, documents in sorted(relevant.items())},
    )


def _shared_clusters(splits: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return the pairs whose cluster another split has too."""
    owners: dict[str, str] = {}
    shared = []
    for split, rows in splits.items():
        for row in rows:
            if owners.setdefault(row["cluster_id"], split) != split:
                shared.append(row)
    return shared
