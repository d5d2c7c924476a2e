"""A document is deleted by its absence only with evidence: its place was read whole. Damaged places delete nothing."""

import gzip
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.absence import Absence, beneath, plain_address
from etl.feeds import Entry, Feed, source_feed
from etl.ingest import ingest
from etl.lineage import Lineage
from etl.publish import DELETE_COUNT, Mode, Report, publish_documents
from etl.published import State, load_published
from etl.sources import Reject, open_source
from tests.unit.etl.factories import settings
from tests.unit.etl.memory_log import Log
from twinline.contract.documents.records import Deletion, Document, Origin
from twinline.contract.principal import LOCAL_OPERATOR

LINEAGE = Lineage("run-1", "", "test")


def publish(home: Path, feed: Feed, **mode: object) -> Report:
    return publish_documents(feed, settings(home), LINEAGE, LOCAL_OPERATOR, Mode(**mode))  # type: ignore[arg-type]


def publish_folder(home: Path, folder: Path, **mode: object) -> Report:
    return publish(home, source_feed(f"d=files:{folder}", settings(home)), **mode)


def deleted(log: Log) -> list[str]:
    return [item.key for item in log.items() if isinstance(item, Deletion)]


def lines(count: int, *, first: int = 0) -> str:
    return "".join(json.dumps({"id": f"r{n}", "text": f"entry {n}"}) + "\n" for n in range(first, first + count))


# What was not read whole holds back what came from there, or from beneath, and nothing else.
@pytest.mark.parametrize(
    ("place", "rejected", "held"),
    [
        ("t.csv", "t.csv", True),
        ("sub/t.csv", "sub", True),
        ("sub/t.csv", "sub/", True),
        ("sub/deep/t.csv", "sub", True),
        ("sub/t.csv", "", True),
        ("sub/t.csv", ".", True),
        # the source itself, as an ingest names it, and the root's address
        ("sub/t.csv", "files:/x", True),
        ("sub/t.csv", "file:///x", True),
        ("sub/t.csv", "sub/t.csv.gz", False),
        ("sub/t.csv", "su", False),
        ("sub2/t.csv", "sub", False),
        ("sub/t.csv", "sub/u.csv", False),
        ("sub", "sub/t.csv", False),
    ],
)
def test_a_reject_holds_back_its_place_and_all_beneath(place: str, rejected: str, held: bool) -> None:
    absence = Absence(["file:///x"], "files:/x", moved=False)
    absence.note(Reject(rejected, "unreadable", "cut off"))

    assert (absence.doubt(State("", None, place, f"file:///x/{place}")) is not None) == held
    # also where the history knows only one of the two
    assert (absence.doubt(State("", None, place, "")) is not None) == held


def test_a_place_is_found_by_its_address_when_the_source_was_named_by_another_folder() -> None:
    absence = Absence(["file:///x/sub"], "files:/x/sub", moved=False)
    absence.note(Reject("t.csv", "invalid_csv", "open quote"))

    assert absence.doubt(State("", None, "sub/t.csv", "file:///x/sub/t.csv"))
    assert absence.doubt(State("", None, "sub/u.csv", "file:///x/sub/u.csv")) is None


def test_what_lies_outside_of_what_was_read_is_not_missing() -> None:
    absence = Absence(["file:///x/sub"], "files:/x/sub", moved=False)

    assert absence.doubt(State("", None, "a.md", "file:///x/a.md")) == (
        "elsewhere",
        "it came from file:///x/a.md, which was not read",
    )
    assert Absence(["file:///x/sub"], "", moved=True).doubt(State("", None, "a.md", "file:///x/a.md")) is None


@pytest.mark.parametrize("moved", [True, False])
def test_an_unknown_place_is_held_back_by_any_reject(moved: bool) -> None:
    absence = Absence(["file:///x"], "files:/x", moved=moved)
    assert absence.doubt(State("", None)) is None
    absence.note(Reject("elsewhere.md", "no_text", "empty"))

    reason, fact = absence.doubt(State("", None)) or ("", "")
    assert reason == "place_unknown"
    assert "elsewhere.md" in fact
    if moved:  # its old place says nothing about where it would lie now
        assert absence.doubt(State("", None, "a.md", "file:///old/a.md"))


def test_an_erased_document_holds_nothing_back() -> None:
    absence = Absence(["file:///x"], "files:/x", moved=False)
    absence.note(Reject("d", "erased", "listed"))

    assert absence.doubt(State("", None)) is None


@pytest.mark.parametrize(
    ("uri", "plain"),
    [
        ("file:///x/a.md", "file:///x/a.md"),
        ("file:///x/../y/./a.md", "file:///y/a.md"),
        ("zip://in/a.md::file:///x/d.zip", "file:///x/d.zip/in/a.md"),
        ("zip://::file:///x/d.zip", "file:///x/d.zip"),
        ("s3://bucket/docs/", "s3://bucket/docs"),
        ("https://host/a.md", "https://host/a.md"),
        ("", ""),
    ],
)
def test_addresses_are_compared_in_one_form(uri: str, plain: str) -> None:
    assert plain_address(uri) == plain


def test_a_place_lies_in_its_folder_and_in_no_namesake() -> None:
    assert beneath("file:///x/a", ["file:///x"])
    assert beneath("file:///x", ["file:///x"])
    assert beneath("file:///a", ["file:///"])
    assert not beneath("file:///xy/a", ["file:///x"])


def test_a_table_that_breaks_off_deletes_none_of_its_rows(tmp_path: Path, log: Log) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    table = folder / "cat.jsonl.gz"
    table.write_bytes(gzip.compress(lines(3000).encode()))
    assert publish_folder(tmp_path, folder).sent == 3000
    table.write_bytes(table.read_bytes()[:8000])

    report = publish_folder(tmp_path, folder, delete_missing=True)

    assert deleted(log) == []
    assert report.held == {"not_read_whole": 3000 - report.unchanged}
    assert "cat.jsonl.gz could not be read whole (unreadable" in report.summary("documents")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("c.jsonl", lines(5), lines(5).replace('"entry 3"}', '"entry 3')),
        ("a.csv", "id,text\n1,alpha row\n2,beta row\n", "id,txt\n1,alpha row\n2,beta row\n"),
        ("a.csv", "id,text\n1,alpha row\n2,beta row\n3,c\n", 'id,text\n1,alpha row\n2,"beta row\n3,c\n'),
        ("a.tsv", "id\ttext\n1\talpha\n2\tbeta\n", "id\ttext\n1\talpha\n2\n"),
        ("c.jsonl", lines(5), lines(4) + "[1, 2]\n"),
        # the state of a file between its opening and its writing
        ("c.jsonl", lines(5), ""),
        ("a.csv", "id,text\n1,alpha row\n", ""),
    ],
)
def test_a_damaged_table_deletes_none_of_its_rows(tmp_path: Path, log: Log, name: str, before: str, after: str) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "other.md").write_text("# Other\n\nStays.")
    (folder / name).write_text(before)
    publish_folder(tmp_path, folder)
    (folder / name).write_text(after)

    report = publish_folder(tmp_path, folder, delete_missing=True)

    assert deleted(log) == []
    assert sum(report.held.values()) > 0


def test_a_folder_that_may_not_be_listed_deletes_nothing_beneath_it(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pages"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.md", "sub/b.md", "c.md"):
        (folder / name).write_text(f"# {name}\n\nsome words")
    assert publish_folder(tmp_path, folder).sent == 3
    scandir = os.scandir

    # The user of the tests may be root, who may list everything.
    def forbidden(path: str = ".") -> object:
        if str(path).rstrip("/").endswith("/sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    (folder / "c.md").unlink()
    report = publish_folder(tmp_path, folder, delete_missing=True)

    assert deleted(log) == ["c.md"]
    assert report.held == {"not_read_whole": 1}


def test_rows_and_files_that_are_gone_from_places_that_were_read_whole_are_deleted(tmp_path: Path, log: Log) -> None:
    folder = tmp_path / "d"
    (folder / "sub").mkdir(parents=True)
    (folder / "c.jsonl").write_text(lines(5))
    (folder / "broken.jsonl").write_text(lines(3, first=100))
    (folder / "sub" / "a.md").write_text("# A\n\naa")
    publish_folder(tmp_path, folder)
    (folder / "c.jsonl").write_text(lines(4))
    (folder / "sub" / "a.md").unlink()
    (folder / "broken.jsonl").write_text(lines(2, first=100) + "{")

    report = publish_folder(tmp_path, folder, delete_missing=True)

    assert deleted(log) == ["r4", "sub/a.md"]
    assert report.held == {"not_read_whole": 1}


def test_a_snapshot_deletes_with_the_same_evidence(tmp_path: Path, log: Log) -> None:
    from etl.feeds import snapshot_feed

    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "c.jsonl").write_text(lines(5))
    (folder / "a.md").write_text("# A\n\naa")
    for number, damage in enumerate(({}, {"c.jsonl": lines(3) + "{"}, {"a.md": None})):
        for name, text in damage.items():
            (folder / name).unlink() if text is None else (folder / name).write_text(text)
        out = tmp_path / f"snapshot-{number}"
        ingest(open_source(f"d=files:{folder}", settings(tmp_path)), out, max_reject_share=1)
        report = publish(tmp_path, snapshot_feed(out, "documents"), delete_missing=True)

    assert deleted(log) == ["a.md"]
    assert report.held == {"not_read_whole": 2}


def test_a_history_without_places_holds_back_its_deletions_while_anything_is_rejected(tmp_path: Path, log: Log) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.md").write_text(f"# {name}\n\n{name}")
    publish_folder(tmp_path, folder)
    [file] = (tmp_path / "snapshots" / "published").glob("*.parquet")
    pq.write_table(pq.read_table(file, columns=["key", "content_hash", "version"]), file)
    (folder / "a.md").unlink()
    (folder / "b.md").write_text("")

    held = publish_folder(tmp_path, folder, delete_missing=True)
    (folder / "b.md").write_text("# b\n\nb")
    after = publish_folder(tmp_path, folder, delete_missing=True)

    assert (held.held, held.deleted) == ({"place_unknown": 1}, 0)
    assert deleted(log) == ["a.md"]
    assert after.unchanged == 2


def test_a_document_that_has_not_changed_gets_its_place_into_the_history(tmp_path: Path, log: Log) -> None:
    plain = Document("d", "a", "text")
    publish(tmp_path, Feed("d", [plain]))
    placed = replace(plain, origin=Origin("t.csv", 2, "file:///x/t.csv"))

    report = publish(tmp_path, Feed("d", [placed], roots=["file:///x"]))

    assert report.unchanged == 1
    known = load_published(tmp_path / "snapshots" / "published", settings(tmp_path).kafka_address, "documents", "d", {0: 1})
    assert (known.states["a"].place, known.states["a"].address) == ("t.csv", "file:///x/t.csv")


def test_many_deletions_need_a_persons_word_and_the_rest_is_published(tmp_path: Path, log: Log) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    table = folder / "c.jsonl"
    table.write_text(lines(60))
    publish_folder(tmp_path, folder)
    table.write_text(lines(44) + lines(1, first=900))

    refused = publish_folder(tmp_path, folder, delete_missing=True)

    assert (refused.sent, refused.deleted, refused.refused_deletions) == (1, 0, 16)
    assert "16 of the 60 documents of d have left the source" in refused.fault
    assert "--yes-delete 16" in refused.fault
    too_few = publish_folder(tmp_path, folder, delete_missing=True, yes_delete=15)
    assert (too_few.deleted, bool(too_few.fault)) == (0, True)
    agreed = publish_folder(tmp_path, folder, delete_missing=True, yes_delete=16)
    assert (agreed.deleted, agreed.fault) == (16, "")


# (known before, gone, whether it goes without a word): more than ten, and more than a quarter
@pytest.mark.parametrize(
    ("known", "gone", "goes"),
    [(10, 10, True), (11, 10, True), (11, 11, False), (40, 10, True), (44, 11, True), (43, 11, False), (400, 100, True)],
)
def test_the_limit_of_deletions_is_a_quarter_of_the_source_or_ten(
    tmp_path: Path, log: Log, known: int, gone: int, goes: bool
) -> None:
    assert DELETE_COUNT == 10
    entries = [Document("d", f"k{n}", "text") for n in range(known)]
    publish(tmp_path, Feed("d", entries))

    report = publish(tmp_path, Feed("d", entries[gone:]), delete_missing=True)

    assert (report.deleted, report.fault == "") == ((gone, True) if goes else (0, False))


def test_a_dry_run_lists_what_it_would_send_and_delete_and_does_neither(tmp_path: Path, log: Log) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.md").write_text(f"# {name}\n\n{name}")
    publish_folder(tmp_path, folder)
    (folder / "a.md").unlink()
    (folder / "c.md").write_text("# c\n\nc")
    told: list[str] = []
    before = list(log.messages)

    feed = source_feed(f"d=files:{folder}", settings(tmp_path))
    report = publish_documents(
        feed, settings(tmp_path), LINEAGE, LOCAL_OPERATOR, Mode(delete_missing=True, dry_run=True), tell=told.append
    )

    assert told == [f"send [d, c.md] from file://{folder}/c.md", "delete [d, a.md]"]
    assert log.messages == before
    assert report.summary("documents").startswith("would publish 1 documents to documents, 1 deletions, 1 unchanged")
    assert publish_folder(tmp_path, folder, delete_missing=True).deleted == 1, "a dry run remembers nothing"


def test_packages_that_were_not_read_are_not_missing(tmp_path: Path, log: Log) -> None:
    both = publish(tmp_path, source_feed("pydocs:statistics,difflib", settings(tmp_path)))
    one = publish(tmp_path, source_feed("pydocs:difflib", settings(tmp_path)), delete_missing=True)

    assert one.deleted == 0
    assert one.held == {"elsewhere": both.sent - one.unchanged}


# Damages of a place: each takes a place that was published, and leaves one that cannot be read whole.


def _cut_gz(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(0, len(data) - 8)])


def _open_quote(path: Path, chance: random.Random) -> None:
    rows = path.read_text().splitlines()
    at = chance.randrange(1, len(rows))
    rows[at] = rows[at].replace(",", ',"', 1)
    path.write_text("\n".join(rows) + "\n")


def _renamed_column(path: Path, chance: random.Random) -> None:
    path.write_text(path.read_text().replace("id,text", chance.choice(["id,txt", "id,words", "id,Textt"]), 1))


def _broken_line(path: Path, chance: random.Random) -> None:
    rows = path.read_text().splitlines()
    at = chance.randrange(len(rows))
    rows[at] = rows[at][: chance.randrange(1, len(rows[at]))]
    del rows[chance.randrange(len(rows))]
    path.write_text("\n".join([*rows, "{"]) + "\n")


def _cut_parquet(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(0, len(data))])


def _table(kind: str, rows: list[tuple[str, str]]) -> bytes:
    if kind == "csv":
        return ("id,text\n" + "".join(f"{key},{text}\n" for key, text in rows)).encode()
    if kind == "parquet":
        out = io.BytesIO()
        pq.write_table(pa.table({"id": [key for key, _ in rows], "text": [text for _, text in rows]}), out)
        return out.getvalue()
    data = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in rows).encode()
    return gzip.compress(data) if kind == "jsonl.gz" else data


DAMAGES: tuple[tuple[str, Callable[[Path, random.Random], None]], ...] = (
    ("jsonl.gz", _cut_gz),
    ("csv", _open_quote),
    ("csv", _renamed_column),
    ("jsonl", _broken_line),
    ("parquet", _cut_parquet),
)


def _without(entries: Iterator[Entry], folders: set[str]) -> Iterator[Entry]:
    """Yield what a reader yields of folders that may not be listed: a reject each, and nothing of what is inside."""
    for entry in entries:
        place = entry.origin.place if isinstance(entry, Document) and entry.origin else ""
        if place.partition("/")[0] not in folders:
            yield entry
    yield from (Reject(folder, "unreadable", "permission denied") for folder in sorted(folders))


def test_two_hundred_damaged_places_delete_nothing_and_every_file_that_is_gone_is_deleted(tmp_path: Path, log: Log) -> None:
    chance = random.Random(17)
    root = tmp_path / "d"
    root.mkdir()
    damaged: list[tuple[Path, Callable[[Path, random.Random], None]]] = []
    closed: set[str] = set()
    controls: dict[Path, list[str]] = {}
    for number in range(260):
        rows = [(f"k{number}-{n}", f"words {n} of {number} {chance.random()}") for n in range(chance.randrange(2, 9))]
        if number < 170:
            kind, damage = DAMAGES[number % len(DAMAGES)]
            path = root / f"p{number}.{kind}"
            path.write_bytes(_table(kind, rows))
            damaged.append((path, damage))
        elif number < 200:
            folder = root / f"closed{number}"
            folder.mkdir()
            closed.add(folder.name)
            for key, text in rows:
                (folder / f"{key}.md").write_text(text)
        elif number % 2:
            path = root / f"gone{number}.csv"
            path.write_bytes(_table("csv", rows))
            controls[path] = [key for key, _ in rows]
        else:
            path = root / f"gone{number}.md"
            path.write_text(rows[0][1])
            controls[path] = [path.name]
    publish_folder(tmp_path, root)
    for path, damage in damaged:
        damage(path, chance)
    for path in controls:
        path.unlink()

    feed = source_feed(f"d=files:{root}", settings(tmp_path))
    report = publish(tmp_path, replace(feed, entries=_without(iter(feed.entries), closed)), delete_missing=True, yes_delete=9999)

    expected = sorted(key for keys in controls.values() for key in keys)
    assert sorted(deleted(log)) == expected, "deleted without evidence, or not deleted with it"
    assert sum(report.held.values()) > 200


def test_a_module_that_does_not_parse_deletes_none_of_its_docstrings(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = " ".join(f"word{n}" for n in range(40))
    package = tmp_path / "shelf_of_docs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("a", "b"):
        (package / f"{name}.py").write_text(f'def f():\n    """Summary of {name}.\n\n    {name} {body}\n    """\n')
    monkeypatch.syspath_prepend(tmp_path)
    spec = "pydocs:shelf_of_docs"
    assert publish(tmp_path, source_feed(spec, settings(tmp_path))).sent == 2
    (package / "a.py").write_text("def f(:\n")
    (package / "b.py").unlink()

    report = publish(tmp_path, source_feed(spec, settings(tmp_path)), delete_missing=True)

    assert deleted(log) == ["shelf_of_docs.b.f"]
    assert report.held == {"not_read_whole": 1}
