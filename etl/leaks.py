"""The proof that nothing held out reaches training: it checks the finished rows, not the code that made them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etl.natural import normal_text
from etl.pair import Pair
from twinline.contract.errors import ContractError

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LeakReport:
    """The result of a leak check.

    Args:
        violations: number per kind; all must be 0.
        examples: one offending row per kind.
        shared_documents: per held-out split, the number of documents relevant both there and in training. Allowed where
            the data set brings its splits; a reader of scores must know it.
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
    train: Sequence[Pair], queries: Iterable[Row], judgements: Iterable[Row], made_splits: Mapping[str, Sequence[Pair]]
) -> LeakReport:
    """Compare training pairs with everything held out.

    Args:
        train: the pairs to train on.
        queries: held-out rows with query_id, text, split.
        judgements: held-out rows with query_id, source, key, grade, split.
        made_splits: pairs of each split that this code made; the splits of a data set are not checked.
    """
    queries = list(queries)
    judgements = list(judgements)
    held_texts = {normal_text(row["text"]) for row in queries}
    text_of = {(row["split"], row["query_id"]): normal_text(row["text"]) for row in queries}
    held_ids = {row["query_id"] for row in queries}
    held_judgements = {(text_of.get((row["split"], row["query_id"]), ""), row["source"], row["key"]) for row in judgements}
    offending: dict[str, list[Pair]] = {"test_query_text": [], "test_query_id": [], "test_judgement": []}
    for pair in train:
        text = normal_text(pair.query)
        if text in held_texts:
            offending["test_query_text"].append(pair)
        if pair.query_id in held_ids:
            offending["test_query_id"].append(pair)
        if (text, pair.source, pair.key) in held_judgements:
            offending["test_judgement"].append(pair)
    offending["cluster_across_splits"] = _shared_clusters({"train": train, **made_splits})
    trained = {(pair.source, pair.key) for pair in train}
    relevant: dict[str, set[tuple[str, str]]] = {}
    for row in judgements:
        if row["grade"] > 0:
            relevant.setdefault(row["split"], set()).add((row["source"], row["key"]))
    return LeakReport(
        {kind: len(pairs) for kind, pairs in offending.items()},
        {kind: f"query {pairs[0].query_id!r}: {pairs[0].query[:80]!r}" for kind, pairs in offending.items() if pairs},
        {split: len(trained & documents) for split, documents in sorted(relevant.items())},
    )


def _shared_clusters(splits: Mapping[str, Sequence[Pair]]) -> list[Pair]:
    """Return the pairs whose cluster is in another split too."""
    owners: dict[str | None, str] = {}
    return [pair for split, pairs in splits.items() for pair in pairs if owners.setdefault(pair.cluster_id, split) != split]
