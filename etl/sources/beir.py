"""A data set in BEIR's form, a folder, zip file or address: corpus.jsonl, queries.jsonl, qrels/<split>.tsv.

Splits have the names of their files: qrels/test_unseen.tsv is the split `test_unseen`.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace

from etl.reading.reader import lent_reader
from etl.sources.compression import open_unpacked
from etl.sources.items import Item, Judgement, Query, Reject, checked, excerpt, guarded
from etl.sources.lines import read_json_lines
from etl.sources.listing import Listing
from etl.sources.places import Origins, Place, open_place
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import MAX_TEXT_BYTES, Document
from twinline.contract.errors import SettingsError

_SAME_SPLIT = {"validation": "dev", "valid": "dev", "val": "dev", "development": "dev"}


class Beir:
    """The source `beir:PATH_OR_URL`."""

    def __init__(self, name: str, location: str) -> None:
        self.uri = f"beir:{location}"
        self._place, listing = _dataset(open_place(location))
        self._names, self._left_out = listing.names, listing.left_out
        self.name = name
        self._origins = Origins()
        self._counts = {"judgements_without_document": 0, "queries_without_judgement": 0}

    def items(self) -> Iterator[Item]:
        """Yield the documents, then each split's queries and judgements."""
        yield from self._left_out
        keys: set[str] = set()
        for item in guarded(self._stored_name("corpus.jsonl"), self._documents()):
            if isinstance(item, Document):
                keys.add(item.key)
            yield item
        texts: dict[str, str] = {}
        for line in self._lines(self._stored_name("queries.jsonl")):
            if isinstance(line, Reject):
                yield line
                continue
            number, record = line
            query_id, text = str(record.get("_id", "")), record.get("text")
            if not query_id or not isinstance(text, str) or not text.strip():
                detail = f"a query needs `_id` and `text`; found {sorted(record)[:20]}"
                yield Reject("queries.jsonl", "missing_field", detail, number, query_id)
            else:
                texts[query_id] = text
        yield from self._splits(texts, keys)

    def provenance(self) -> Mapping[str, JSON]:
        """Return the hashes of the files read, and counts of missing documents and of queries without judgements."""
        read = ("corpus.jsonl", "queries.jsonl", "qrels/")
        names = [name for name in self._names if name.startswith(read)]
        # The hash of a file that could not be read is null.
        files: dict[str, JSON] = {name: self._origins.hashes.get(name) for name in names}
        return {"files": files, "uris": dict(self._origins.uris), "counts": dict(self._counts)}

    def _lines(self, name: str) -> Iterator[tuple[int, Mapping[str, JSON]] | Reject]:
        return guarded(name, self._opened_lines(name))

    def _opened_lines(self, name: str) -> Iterator[tuple[int, Mapping[str, JSON]] | Reject]:
        with self._place.stored(name) as (stored, sha256), lent_reader() as reader:
            self._origins.note(name, self._place.address(name), sha256)
            yield from read_json_lines(open_unpacked(stored, name), name, reader.line)

    def _stored_name(self, name: str) -> str:
        return name if name in self._names else f"{name}.gz"

    def _documents(self) -> Iterator[Item]:
        corpus = self._stored_name("corpus.jsonl")
        for line in self._lines(corpus):
            if isinstance(line, Reject):
                yield line
                continue
            number, record = line
            if "_id" not in record or "text" not in record:
                detail = f"a document needs `_id` and `text`; found {sorted(record)[:20]}"
                yield Reject(corpus, "missing_field", detail, number, str(record.get("_id", "")))
                continue
            document = Document(
                self.name,
                str(record["_id"]),
                record["text"],  # type: ignore[arg-type]  # the check refuses any other type
                title=record.get("title") or "",  # type: ignore[arg-type]
                metadata=record.get("metadata") or {},  # type: ignore[arg-type]
            )
            yield self._origins.complete(checked(document, corpus, number))

    def _splits(self, texts: Mapping[str, str], keys: set[str]) -> Iterator[Item]:
        judged: set[str] = set()
        for name in self._names:
            folder, _, file = name.rpartition("/")
            if folder != "qrels" or not file.endswith(".tsv"):
                continue
            split = _SAME_SPLIT.get(file.removesuffix(".tsv"), file.removesuffix(".tsv"))
            asked: set[str] = set()
            for item in guarded(name, self._judgements(name, split)):
                if isinstance(item, Judgement):
                    if item.query_id not in texts:
                        detail = f"query {item.query_id!r} is judged but not in queries.jsonl"
                        yield Reject(name, "unknown_query", detail, key=item.key)
                        continue
                    # Yielded even without its document: leaving it out would flatter every system that cannot find it.
                    self._counts["judgements_without_document"] += item.key not in keys
                    if item.query_id not in asked:
                        asked.add(item.query_id)
                        yield Query(item.query_id, texts[item.query_id], split)
                yield item
            judged |= asked
        self._counts["queries_without_judgement"] = len(texts.keys() - judged)

    def _judgements(self, name: str, split: str) -> Iterator[Judgement | Reject]:
        csv.field_size_limit(2 * MAX_TEXT_BYTES)
        with self._place.stored(name) as (stored, sha256):
            self._origins.note(name, self._place.address(name), sha256)
            text = io.TextIOWrapper(stored, encoding="utf-8", errors="backslashreplace", newline="")
            for number, row in enumerate(csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
                if number == 1 and row[:1] == ["query-id"]:
                    continue
                judgement = _judgement(row, self.name, split)
                if judgement is None:
                    detail = "a judgement is: query id, document id, whole-number grade, separated by tabs"
                    yield Reject(name, "invalid_judgement", detail, number, raw=excerpt("\t".join(row)))
                else:
                    yield judgement


def _judgement(row: list[str], source: str, split: str) -> Judgement | None:
    """Read a row of three columns (BEIR) or four (TREC, second column unused)."""
    columns = [row[0], *row[2:]] if len(row) == 4 else row
    if len(columns) != 3 or not all(columns):
        return None
    try:
        grade = int(columns[2])
    except ValueError:
        return None
    return Judgement(columns[0], source, columns[1], grade, split)


def _dataset(place: Place) -> tuple[Place, Listing]:
    """Return the folder that holds corpus.jsonl, and its files: the place itself or, as in BEIR's zip files, its only folder."""
    found = place.listing()
    names = found.names
    corpora = [name for name in names if name.rpartition("/")[2] in {"corpus.jsonl", "corpus.jsonl.gz"}]
    if not corpora:
        left_out = f", left out {found.left_out[0].detail}" if found.left_out else ""
        raise SettingsError(f"{place.uri} holds no corpus.jsonl: is it a BEIR data set? Found {names[:10]}{left_out}")
    folder = min(corpora, key=lambda name: name.count("/")).rpartition("/")[0]
    inner = replace(place, root=place.path(folder))
    listing = inner.listing()
    missing = [wanted for wanted in ("queries.jsonl",) if not {wanted, f"{wanted}.gz"} & set(listing.names)]
    if missing:
        raise SettingsError(f"{place.uri} holds a corpus.jsonl but no {missing[0]}: a BEIR data set has both")
    return inner, listing
