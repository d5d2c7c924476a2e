"""Where a document's bytes stand: file, line and hash travel from the source, also through a snapshot, to the log's headers."""

import gzip
import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from etl.feeds import lines_feed, snapshot_feed
from etl.ingest import ingest
from etl.lineage import Lineage
from etl.sources import open_source
from etl.sources.places import without_secrets
from tests.unit.etl.factories import documents, read, settings, write_beir
from twinline.contract.documents.records import Document, Origin


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_its_documents_origin(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a #1?.md").write_text("Text of a.")
    found = documents(read(f"files:{folder}", tmp_path))["in/a #1?.md"]
    place = folder / "in" / "a #1?.md"
    assert found.origin == Origin("in/a #1?.md", None, f"file://{place}", sha256(place))


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_rows_origin_is_its_line_in_the_file_as_it_is_stored(tmp_path: Path, name: str) -> None:
    content = b'id,text\na,"one\ntwo"\nb,three\n'
    place = tmp_path / name
    place.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    found = documents(read(f"files:{place}", tmp_path))
    assert found["b"].origin == Origin(name, 4, f"file://{place}", sha256(place))


@pytest.mark.parametrize("is_zipped", [False, True])
def test_a_data_sets_documents_stand_on_lines_of_its_corpus(tmp_path: Path, is_zipped: bool) -> None:
    folder = write_beir(tmp_path / "set", {"a": ("", "one"), "b": ("", "two")}, {"q": "what"}, {"test": [("q", "a", 1)]})
    corpus, uri = folder / "corpus.jsonl", f"file://{folder / 'corpus.jsonl'}"
    location = folder
    if is_zipped:
        location = tmp_path / "set.zip"
        with zipfile.ZipFile(location, "w") as archive:
            for path in folder.rglob("*.*"):
                archive.write(path, f"set/{path.relative_to(folder)}")
        uri = f"zip://set/corpus.jsonl::file://{location}"
    found = documents(read(f"beir:{location}", tmp_path))
    assert found["b"].origin == Origin("corpus.jsonl", 2, uri, sha256(corpus))


def test_a_docstrings_origin_is_its_module(tmp_path: Path) -> None:
    found = documents(read("pydocs:statistics", tmp_path))["statistics"].origin
    assert found is not None
    place = Path(found.uri.removeprefix("file://"))
    assert (found.place, found.sha256) == ("statistics.py", sha256(place))


def test_a_snapshot_keeps_origins_and_its_id_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    ids, feeds = set(), []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "t.jsonl").write_text(json.dumps({"key": "a", "text": "one"}) + "\n")
        source = open_source(f"notes=files:{folder}", settings(tmp_path))
        ids.add(ingest(source, tmp_path / f"snapshot-{name}", max_reject_share=0.5).id)
        feeds.append(snapshot_feed(tmp_path / f"snapshot-{name}", "documents"))
    here, there = ([entry for entry in feed.entries if isinstance(entry, Document)] for feed in feeds)
    assert len(ids) == 1
    assert here == there
    place = tmp_path / "there" / "t.jsonl"
    assert there[0].origin == Origin("t.jsonl", 1, f"file://{place}", sha256(place))


def test_the_origin_travels_in_the_headers_and_not_in_what_the_document_says() -> None:
    origin = Origin("t.csv", 4, "file:///data/t.csv", "f" * 64)
    headers = dict(Lineage("run", "rev", "p").headers("c" * 64, origin))
    assert headers["source_uri"] == b"file:///data/t.csv"
    assert (headers["source_line"], headers["source_file_sha256"]) == (b"4", b"f" * 64)
    assert Document("s", "k", "text", origin=origin) == Document("s", "k", "text")


def test_what_cannot_be_opened_again_has_no_address(tmp_path: Path) -> None:
    import io

    [found] = lines_feed(io.BytesIO(b'{"key": "a", "text": "one"}'), "notes").entries
    assert isinstance(found, Document)
    assert not {"source_uri", "source_line"} & dict(Lineage("run", "rev", "p").headers("c" * 64, found.origin)).keys()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@example.org/a.md?token=x#top", "https://example.org/a.md"),
        ("s3://bucket/a b.md", "s3://bucket/a b.md"),
        ("file:///data/a?b#c.md", "file:///data/a?b#c.md"),  # a path, whatever it looks like
    ],
)
def test_an_address_is_shown_without_secrets(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown
