"""Small real inputs for the tests of the offline data stages."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from etl.sources import Item, Reject, open_source
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Document

SENTENCE = "The river carries {0} past the old mill while {0} herons wait for the {0} evening light to fall over the water. "


def settings(home: Path) -> Settings:
    return Settings(home=home)


def body(number: int) -> str:
    """A text of more than thirty words that is like no other number's."""
    return " ".join(f"w{number}x{i}" for i in range(40))


def read(spec: str, home: Path, **options: Any) -> list[Item]:
    return list(open_source(spec, settings(home), **options).items())


def documents(items: Iterable[Item]) -> dict[str, Document]:
    return {item.key: item for item in items if isinstance(item, Document)}


def reject_reasons(items: Iterable[Item]) -> list[tuple[str, int | None, str]]:
    return [(item.place, item.line, item.reason) for item in items if isinstance(item, Reject)]


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


class ListSource:
    """A source of what a test says."""

    def __init__(self, items: Iterable[Item], name: str = "list", provenance: Mapping[str, JSON] | None = None) -> None:
        self.name = name
        self.uri = f"{name}:"
        self._items = list(items)
        self._provenance = provenance or {}

    def items(self) -> Iterator[Item]:
        yield from self._items

    def provenance(self) -> Mapping[str, JSON]:
        return self._provenance


def write_beir(
    folder: Path,
    corpus: Mapping[str, tuple[str, str]],
    queries: Mapping[str, str],
    qrels: Mapping[str, Iterable[tuple[str, str, int]]],
) -> Path:
    """Write a BEIR data set and return its folder."""
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": key, "title": title, "text": text}) for key, (title, text) in corpus.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    lines = [json.dumps({"_id": query, "text": text}) for query, text in queries.items()]
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    for split, judgements in qrels.items():
        table = "".join(f"{query}\t{key}\t{grade}\n" for query, key, grade in judgements)
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + table)
    return folder
