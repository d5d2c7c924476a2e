"""The questions of a data set's split, as its snapshot holds them."""

from dataclasses import dataclass
from pathlib import Path

from train.encoder.heldout import document_id


@dataclass(frozen=True)
class Questions:
    """Raw query texts by id, and graded judgements by query and document id (the message key as text)."""

    texts: dict[str, str]
    judgements: dict[str, dict[str, int]]


def read_questions(snapshot: Path, split: str) -> Questions:
    """Read the judged queries of one split."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    judgements: dict[str, dict[str, int]] = {}
    for row in pq.read_table(snapshot / "judgements.parquet", filters=pc.field("split") == split).to_pylist():
        judgements.setdefault(row["query_id"], {})[document_id(row["source"], row["key"])] = int(row["grade"])
    texts = {row["query_id"]: row["text"] for row in pq.read_table(snapshot / "queries.parquet").to_pylist()}
    return Questions({query: texts[query] for query in sorted(judgements)}, judgements)


def read_development(project: Path) -> Questions:
    """Read the development questions that the pairs stage held out."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    in_split, pairs = pc.field("split") == "dev", project / "data" / "pairs"
    judgements: dict[str, dict[str, int]] = {}
    for row in pq.read_table(pairs / "judgements.parquet", filters=in_split).to_pylist():
        judgements.setdefault(row["query_id"], {})[document_id(row["source"], row["key"])] = int(row["grade"])
    texts = {row["query_id"]: row["text"] for row in pq.read_table(pairs / "queries.parquet", filters=in_split).to_pylist()}
    return Questions({query: texts[query] for query in sorted(judgements) if query in texts}, judgements)
