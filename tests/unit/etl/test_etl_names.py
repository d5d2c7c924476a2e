"""Two documents under one name are seen and said: in one run, by ingest and publish alike, and between runs."""

import io
import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl.feeds import Feed, deletions_feed, files_feed, lines_feed, snapshot_feed, source_feed
from etl.ingest import ingest
from etl.lineage import Lineage
from etl.publish import Mode, Report, publish_documents
from etl.sources import open_source
from tests.unit.etl.factories import rows, settings
from tests.unit.etl.memory_log import Log
from twinline.clients.source_spec import SourceSpec, default_name, parse_source
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.errors import SettingsError
from twinline.contract.principal import LOCAL_OPERATOR

LINEAGE = Lineage("run-1", "", "test")


def publish(home: Path, feed: Feed, **mode: object) -> Report:
    return publish_documents(feed, settings(home), LINEAGE, LOCAL_OPERATOR, Mode(**mode))  # type: ignore[arg-type]


def publish_files(home: Path, *paths: Path | str, name: str = "", **mode: object) -> Report:
    return publish(home, files_feed(paths, name, settings(home)), **mode)


def publish_lines(home: Path, *records: Mapping[str, object], name: str = "s") -> Report:
    stream = io.BytesIO("\n".join(map(json.dumps, records)).encode())
    return publish(home, lines_feed(stream, name))


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def names(log: Log) -> list[tuple[str, str]]:
    return [(item.source, item.key) for item in log.items()]


def texts(log: Log) -> dict[tuple[str, str], str]:
    return {(item.source, item.key): item.text for item in log.items() if isinstance(item, Document)}


def rejects(report: Report) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(report.rejects_file).read_text().splitlines()] if report.rejects_file else []


# One rule for publish and ingest: the first stands, and the second is a reject that names both files and lines.
TWICE: Mapping[str, Mapping[str, str]] = {
    "two tables": {"a.csv": "id,text\n1,from a\n2,only a\n", "b.csv": "id,text\n1,from b\n"},
    "one table": {"a.csv": "id,text\n1,first\n2,x\n1,second\n"},
    "three times": {"a.csv": "id,text\n1,one\n1,two\n1,three\n"},
    "equal texts": {"a.csv": "id,text\n1,same\n", "b.csv": "id,text\n1,same\n"},
    "lines and a table": {"a.csv": "id,text\n1,csv\n", "b.jsonl": '{"id": 1, "text": "json"}\n'},
    "a file and a row": {"a.md": "# A\n\nfile", "t.csv": "id,text\na.md,row\n"},
    "with versions": {"a.csv": "id,text,version\n1,a,9\n", "b.csv": "id,text,version\n1,b,3\n"},
    "in two folders": {"x/t.jsonl": '{"key": "k", "text": "x"}\n', "y/t.jsonl": '{"key": "k", "text": "y"}\n'},
    "a broken first": {"a.jsonl": '{"id": 1, "text": ""}\n{"id": 1, "text": "good"}\n'},
    "nothing twice": {"a.csv": "id,text\n1,a\n", "b.csv": "id,text\n2,b\n"},
}


@pytest.mark.parametrize("case", TWICE)
def test_publish_and_ingest_keep_the_same_of_two_documents_and_say_the_same_of_the_other(
    tmp_path: Path, log: Log, case: str
) -> None:
    folder = write(tmp_path / "d", TWICE[case])
    ingest(open_source(f"d=files:{folder}", settings(tmp_path)), tmp_path / "snapshot", max_reject_share=1)

    report = publish(tmp_path, source_feed(f"d=files:{folder}", settings(tmp_path)))

    taken = {("d", row["key"]): row["text"] for row in rows(tmp_path / "snapshot" / "documents-00000.parquet")}
    assert texts(log) == taken
    assert _same(rejects(report), rows(tmp_path / "snapshot" / "rejects.parquet"))
    assert (report.rejected.get("duplicate_key", 0) > 0) == (case not in ("nothing twice", "a broken first"))


def _same(published: list[dict[str, object]], ingested: list[dict[str, object]]) -> bool:
    fields = ("place", "line", "key", "reason", "detail", "raw")
    return sorted([[row[field] for field in fields] for row in published], key=str) == sorted(
        [[row[field] for field in fields] for row in ingested], key=str
    )


@pytest.mark.parametrize("seed", range(10))
def test_publish_and_ingest_agree_on_folders_full_of_names_that_meet(tmp_path: Path, log: Log, seed: int) -> None:
    chance = random.Random(seed)
    files = {}
    for number in range(6):
        table = [(chance.randrange(12), f"text {chance.random()}") for _ in range(chance.randrange(1, 8))]
        if chance.random() < 0.5:
            files[f"t{number}.csv"] = "id,text\n" + "".join(f"{key},{text}\n" for key, text in table)
        else:
            files[f"t{number}.jsonl"] = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in table)
    folder = write(tmp_path / "d", files)
    ingest(open_source(f"d=files:{folder}", settings(tmp_path)), tmp_path / "snapshot", max_reject_share=1)

    report = publish(tmp_path, source_feed(f"d=files:{folder}", settings(tmp_path)))

    taken = {("d", row["key"]): row["text"] for row in rows(tmp_path / "snapshot" / "documents-00000.parquet")}
    assert texts(log) == taken
    assert _same(rejects(report), rows(tmp_path / "snapshot" / "rejects.parquet"))


def test_the_reject_of_a_second_document_names_both_files_and_lines(tmp_path: Path, log: Log) -> None:
    folder = write(tmp_path / "d", {"a.csv": "id,text\n0,x\n1,from a\n", "b.csv": "id,text\n1,from b\n"})

    report = publish_files(tmp_path, folder)

    [reject] = rejects(report)
    assert (reject["place"], reject["line"], reject["key"]) == ("b.csv", 2, "1")
    assert "a.csv line 3 and from b.csv line 2: the first one stands" in str(reject["detail"])
    assert "duplicate_key: b.csv line 2: " in report.summary("documents"), "a person sees it without opening a file"


def test_two_folders_are_two_sources_by_their_own_names(tmp_path: Path, log: Log) -> None:
    write(tmp_path, {"server/README.md": "# Install\n\naardvark", "client/README.md": "# Install\n\nzebra"})

    publish_files(tmp_path, tmp_path / "server")
    publish_files(tmp_path, tmp_path / "client")

    assert names(log) == [("server", "README.md"), ("client", "README.md")]


def test_files_have_the_names_of_their_folders(tmp_path: Path, log: Log) -> None:
    write(tmp_path, {"server/README.md": "# Install\n\naardvark", "client/README.md": "# Install\n\nzebra"})

    publish_files(tmp_path, tmp_path / "server/README.md", tmp_path / "client/README.md")
    again = publish_files(tmp_path, tmp_path / "server")

    assert names(log) == [("server", "README.md"), ("client", "README.md")]
    assert again.unchanged == 1, "the folder names its file as the file alone was named"


def test_under_one_given_name_the_second_of_two_files_is_refused(tmp_path: Path, log: Log) -> None:
    write(tmp_path, {"server/README.md": "# Install\n\naardvark", "client/README.md": "# Install\n\nzebra"})

    both = publish_files(tmp_path, tmp_path / "server/README.md", tmp_path / "client/README.md", name="kb")

    assert names(log) == [("kb", "README.md")]
    assert both.rejected == {"duplicate_key": 1}


def test_another_folder_of_a_known_name_is_refused_before_anything_is_sent(tmp_path: Path, log: Log) -> None:
    write(tmp_path, {"a/server/README.md": "# A\n\na", "b/server/README.md": "# B\n\nb", "b/server/new.md": "# N\n\nn"})
    publish_files(tmp_path, tmp_path / "a/server")

    with pytest.raises(SettingsError, match=r"'server' was published from .*a/server.*b/server is another place.*--moved"):
        publish_files(tmp_path, tmp_path / "b/server")
    assert len(log.messages) == 1

    other = publish_files(tmp_path, tmp_path / "b/server", name="server-b")
    moved = publish_files(tmp_path, tmp_path / "b/server", moved=True)
    assert (other.sent, moved.sent) == (2, 2)
    assert publish_files(tmp_path, tmp_path / "b/server").unchanged == 2, "it lies there now"
    with pytest.raises(SettingsError, match="another place"):
        publish(tmp_path, source_feed(f"server-b=files:{tmp_path}/a/server", settings(tmp_path)))


def test_a_whole_source_from_another_folder_is_refused_and_deletes_nothing(tmp_path: Path, log: Log) -> None:
    write(tmp_path, {"a/x.md": "# X\n\nx", "b/y.md": "# Y\n\ny"})
    publish(tmp_path, source_feed(f"kb=files:{tmp_path}/a", settings(tmp_path)))

    with pytest.raises(SettingsError, match="'kb' was published from"):
        publish(tmp_path, source_feed(f"kb=files:{tmp_path}/b", settings(tmp_path)), delete_missing=True)
    assert names(log) == [("kb", "x.md")]

    moved = publish(tmp_path, source_feed(f"kb=files:{tmp_path}/b", settings(tmp_path)), delete_missing=True, moved=True)
    assert (moved.sent, moved.deleted) == (1, 1)


def test_a_name_may_be_shared_by_places_whose_documents_do_not_meet(tmp_path: Path, log: Log) -> None:
    write(tmp_path, {"a/x.md": "# X\n\nx", "a/same.md": "# S\n\na", "b/y.md": "# Y\n\ny", "b/same.md": "# S\n\nb"})
    publish_files(tmp_path, tmp_path / "a", name="kb")

    report = publish_files(tmp_path, tmp_path / "b", name="kb")

    assert names(log) == [("kb", "same.md"), ("kb", "x.md"), ("kb", "y.md")]
    assert report.rejected == {"other_place": 1}
    assert f"was published from file://{tmp_path}/a/same.md, and now comes from file://{tmp_path}/b/same.md" in report.fault
    assert "--name" in report.fault
    assert "--moved" in report.fault
    assert publish_files(tmp_path, tmp_path / "b", name="kb", moved=True).sent == 1


def test_rows_may_move_between_the_tables_of_a_folder_that_is_read_as_a_whole(tmp_path: Path, log: Log) -> None:
    folder = write(tmp_path / "d", {"part-1.csv": "id,text\n1,one\n2,two\n", "part-2.csv": "id,text\n3,three\n"})
    publish_files(tmp_path, folder)
    (folder / "part-1.csv").unlink()
    write(folder, {"part-2.csv": "id,text\n1,one\n3,three\n", "part-3.csv": "id,text\n2,two\n"})

    report = publish_files(tmp_path, folder)

    assert (report.unchanged, report.fault, report.rejected) == (3, "", {})


def test_rows_of_another_table_that_is_published_alone_are_refused(tmp_path: Path, log: Log) -> None:
    write(tmp_path / "d", {"a.csv": "id,text\n1,from a\n", "b.csv": "id,text\n1,from b\n2,b\n"})
    publish_files(tmp_path, tmp_path / "d/a.csv")

    report = publish_files(tmp_path, tmp_path / "d/b.csv")

    assert report.rejected == {"other_place": 1}
    assert texts(log) == {("d", "1"): "from a", ("d", "2"): "b"}


def test_standard_input_and_a_folder_are_two_places(tmp_path: Path, log: Log) -> None:
    write(tmp_path / "d", {"a.md": "# A\n\na"})
    publish_files(tmp_path, tmp_path / "d")

    report = publish_lines(tmp_path, {"key": "a.md", "text": "of a program"}, {"key": "b", "text": "new"}, name="d")

    assert (report.sent, report.rejected) == (1, {"other_place": 1})
    assert "standard input" in report.fault


def test_a_snapshot_and_its_source_are_one_place(tmp_path: Path, log: Log) -> None:
    folder = write(tmp_path / "d", {"a.md": "# A\n\na", "t.csv": "id,text\n1,x\n"})
    publish(tmp_path, source_feed(f"files:{folder}", settings(tmp_path)))
    ingest(open_source(f"files:{folder}", settings(tmp_path)), tmp_path / "snapshot", max_reject_share=1)

    report = publish(tmp_path, snapshot_feed(tmp_path / "snapshot", "documents"))

    assert (report.unchanged, report.fault) == (2, "")
    write(tmp_path / "e", {"a.md": "# E\n\ne"})
    ingest(open_source(f"d=files:{tmp_path}/e", settings(tmp_path)), tmp_path / "other", max_reject_share=1)
    with pytest.raises(SettingsError, match="another place"):
        publish(tmp_path, snapshot_feed(tmp_path / "other", "documents"))


def test_a_zip_file_is_a_place_of_its_own(tmp_path: Path, log: Log) -> None:
    import zipfile

    for folder in "ab":
        (tmp_path / folder).mkdir()
        with zipfile.ZipFile(tmp_path / folder / "docs.zip", "w") as made:
            made.writestr("in/x.md", f"# X\n\n{folder}")
    first = publish(tmp_path, source_feed(f"files:{tmp_path}/a/docs.zip", settings(tmp_path)))
    again = publish(tmp_path, source_feed(f"files:{tmp_path}/a/docs.zip", settings(tmp_path)))

    assert (first.sent, again.unchanged, names(log)) == (1, 1, [("docs", "in/x.md")])
    with pytest.raises(SettingsError, match="another place"):
        publish(tmp_path, source_feed(f"files:{tmp_path}/b/docs.zip", settings(tmp_path)))


def test_a_history_that_does_not_know_where_its_documents_lay_refuses_no_folder(tmp_path: Path, log: Log) -> None:
    write(tmp_path / "d", {"a.md": "# A\n\na"})
    publish(tmp_path, Feed("d", [Document("d", "old", "text")]))
    publish_lines(tmp_path, {"key": "b", "text": "x"}, name="d")

    assert publish_files(tmp_path, tmp_path / "d").sent == 1


def test_a_link_whose_target_changes_is_one_source(tmp_path: Path, log: Log) -> None:
    write(tmp_path, {"2026-11-29/a.md": "# A\n\nold", "2026-11-30/a.md": "# A\n\nnew"})
    link = tmp_path / "current"
    for day in ("2026-11-29", "2026-11-30"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / day)
        publish_files(tmp_path, link)

    assert names(log) == [("current", "a.md"), ("current", "a.md")]


def test_documents_that_an_earlier_version_published_as_files_are_named(tmp_path: Path, log: Log) -> None:
    write(tmp_path / "docs", {"a.md": "# A\n\na", "b.md": "# B\n\nb"})
    publish_files(tmp_path, tmp_path / "docs", name="files")

    twice = publish_files(tmp_path, tmp_path / "docs")
    once = publish_files(tmp_path, tmp_path / "docs", name="files")

    assert "2 of these documents are also published as source 'files'" in twice.summary("documents")
    assert (once.unchanged, once.facts) == (2, [])


def test_two_folders_of_one_name_in_one_call_are_refused_by_both(tmp_path: Path, log: Log) -> None:
    write(tmp_path, {"a/docs/x.md": "# X\n\nx", "b/docs/y.md": "# Y\n\ny"})

    with pytest.raises(SettingsError, match=r"a/docs and .*b/docs are both called 'docs'.*--name"):
        publish_files(tmp_path, tmp_path / "a/docs", tmp_path / "b/docs")


def test_a_place_that_is_named_twice_is_read_once_and_that_is_said(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "d", {"a.md": "# A\n\na", "sub/b.md": "# B\n\nb", ".hidden/c.md": "# C\n\nc"})
    monkeypatch.chdir(tmp_path / "d")

    report = publish_files(tmp_path, ".", ".", "sub/../a.md", "sub", ".hidden/c.md", name="d")

    assert (report.sent, report.rejected) == (3, {})
    said = report.summary("documents")
    assert ". was named twice, and is read once" in said
    assert f"sub/../a.md lies in {tmp_path}/d, and is read with it" in said
    assert f"sub lies in {tmp_path}/d" in said


# (folder or file in a folder of the test, its name): always the folder's own, however it is spelt
@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("docs", "docs"),
        ("./docs/", "docs"),
        ("docs/../docs", "docs"),
        ("docs/sub/..", "docs"),
        ("docs/a.md", "docs"),
        ("docs/sub/t.csv", "sub"),
        ("v1.2", "v1.2"),
        ("my docs", "my-docs"),
        ("a=b:c", "a-b-c"),
        ("Doku (alt)", "Doku-alt"),
        ("документы", "документы"),
        ("docs.zip", "docs"),
        ("s3://bucket/some/docs/", "docs"),
        ("https://host/data/corpus.jsonl.gz?token=1", "corpus"),
        ("/", "files"),
    ],
)
def test_a_source_without_a_name_has_its_folders_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, name: str
) -> None:
    for folder in ("docs/sub", "v1.2", "my docs", "a=b:c", "Doku (alt)", "документы"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("docs/a.md", "docs/sub/t.csv", "docs.zip"):
        (tmp_path / file).write_text("x")
    monkeypatch.chdir(tmp_path)

    assert default_name(location) == name


def test_the_working_folder_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")

    assert default_name(".") == "docs"


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("files:docs", SourceSpec("files", "docs")),
        ("kb=files:my docs", SourceSpec("files", "my docs", "kb")),
        ("files:a=b", SourceSpec("files", "a=b")),
        ("kb=files:a=b:c", SourceSpec("files", "a=b:c", "kb")),
        ("files:files:x", SourceSpec("files", "files:x")),
        ("files:s3://bucket/a?b=c", SourceSpec("files", "s3://bucket/a?b=c")),
        ("pydocs:", SourceSpec("pydocs", "")),
        ("v-1.2_a=beir:x", SourceSpec("beir", "x", "v-1.2_a")),
        ("files:two\nlines", SourceSpec("files", "two\nlines")),
    ],
)
def test_a_source_has_parts_and_one_text(text: str, spec: SourceSpec) -> None:
    assert parse_source(text) == spec
    assert parse_source(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("my docs=files:x", "the name 'my docs' must be .*: say my-docs"),
        ("=files:x", "the name '' must be .*: choose one"),
        ("a/b=files:x", "the name 'a/b'"),
        ("docs", "'docs' is not KIND:LOCATION"),
        ("Files:x", "'Files:x' is not KIND:LOCATION"),
        ("", "'' is not KIND:LOCATION"),
    ],
)
def test_a_text_that_is_no_source_is_refused_as_it_was_typed(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_source(text)


def test_a_folder_with_any_name_is_published(tmp_path: Path, log: Log) -> None:
    for folder in ("my docs", "a=b", "files:x", "p%20q", "quo'te"):
        write(tmp_path / folder, {"a.md": "# A\n\na"})
        assert publish_files(tmp_path, tmp_path / folder).sent == 1

    assert [source for source, _ in names(log)] == ["my-docs", "a-b", "files-x", "p-20q", "quo-te"]


def test_an_address_may_be_published_by_itself(tmp_path: Path, log: Log) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/shelf/a.md", b"# A\n\na")

    assert publish_files(tmp_path, "memory://shelf").sent == 1
    assert publish_files(tmp_path, "memory://shelf").unchanged == 1
    assert names(log) == [("shelf", "a.md")]


# Deletions.


def test_a_deletion_of_a_document_with_versions_takes_the_next_one(tmp_path: Path, log: Log) -> None:
    publish_lines(tmp_path, {"key": "ver", "text": "a versioned armadillo", "version": 7}, {"key": "plain", "text": "x"})

    report = publish(tmp_path, deletions_feed(["ver", "plain"], "s", None))

    assert log.items()[2:] == [Deletion("s", "ver", 8), Deletion("s", "plain")]
    assert (report.deleted, report.facts) == (2, [])


def test_a_deletion_of_an_unknown_document_says_that_versions_would_be_refused(tmp_path: Path, log: Log) -> None:
    report = publish(tmp_path, deletions_feed(["nowhere"], "s", None))

    assert report.deleted == 1
    assert "'nowhere' the first: if they have versions, the consumer sets such a deletion aside" in report.summary("documents")
    assert "--version N" in report.summary("documents")
    assert publish(tmp_path, deletions_feed(["nowhere"], "s", 4)).facts == []


@pytest.mark.parametrize(("version", "reason"), [(7, "old_version"), (3, "old_version"), (8, None)])
def test_a_deletion_that_would_delete_nothing_is_refused(tmp_path: Path, log: Log, version: int, reason: str | None) -> None:
    publish_lines(tmp_path, {"key": "ver", "text": "x", "version": 7})

    report = publish(tmp_path, deletions_feed(["ver"], "s", version))

    assert report.rejected == ({reason: 1} if reason else {})
    assert bool(report.fault) == (reason is not None)


@pytest.mark.parametrize(("first", "then"), [(7, None), (None, 7)])
def test_a_state_whose_kind_of_version_the_consumer_would_refuse_is_set_aside(
    tmp_path: Path, log: Log, first: int | None, then: int | None
) -> None:
    publish_lines(tmp_path, {"key": "k", "text": "x", "version": first})

    report = publish_lines(tmp_path, {"key": "k", "text": "y", "version": then})

    assert report.rejected == {"mixed_versions": 1}
    assert "--all" in report.fault
    stream = io.BytesIO(json.dumps({"key": "k", "text": "y", "version": then}).encode())
    assert publish(tmp_path, lines_feed(stream, "s"), everything=True).sent == 1, "a person may know better than the history"


# (a line that is published, the line that deletes the same document)
@pytest.mark.parametrize(
    ("line", "deletes"),
    [
        ({"key": 5, "text": "five"}, {"key": 5}),
        ({"key": 5, "text": "five"}, {"key": "5"}),
        ({"id": "abc", "text": "id"}, {"id": "abc"}),
        ({"id": "abc", "text": "id"}, {"key": "abc"}),
        ({"ID": "abc", "text": "id"}, {"ID": "abc"}),
        ({"_id": "x", "text": "t"}, {"_id": "x", "title": None}),
        ({"url": "http://a", "text": "t"}, {"url": "http://a", "text": "old text"}),
        ({"key": "v", "text": "t", "version": "7"}, {"key": "v", "version": "8"}),
        ({"key": "v", "text": "t", "version": 7}, {"key": "v"}),
        ({"key": "v", "text": "t", "version": "7"}, {"key": "v", "version": ""}),
        ({"key": "m", "text": "t", "tenant": "north"}, {"key": "m", "tenant": 5, "metadata": "any"}),
        ({"source": "other", "key": "k", "text": "t"}, {"source": "other", "key": "k"}),
        ({"source": "", "key": "k", "text": "t"}, {"key": "k"}),
        ({"path": "a/b.md", "body": "t"}, {"path": "a/b.md", "body": None}),
    ],
)
def test_a_deleted_line_is_read_as_the_line_of_the_document_was(
    tmp_path: Path, log: Log, line: dict[str, object], deletes: dict[str, object]
) -> None:
    published = publish_lines(tmp_path, line)
    report = publish_lines(tmp_path, {**deletes, "deleted": True})

    assert (published.sent, report.deleted, report.rejected) == (1, 1, {})
    document, deletion = log.items()
    assert isinstance(deletion, Deletion)
    assert (deletion.source, deletion.key) == (document.source, document.key)
    assert deletion.version == (None if document.version is None else 8)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"deleted": True}, "missing_field"),
        ({"key": "", "deleted": True}, "missing_field"),
        ({"key": "a", "text": "t", "deleted": "true"}, "wrong_type"),
        ({"key": "a", "text": "t", "deleted": 1}, "wrong_type"),
        ({"key": "a", "deleted": True, "version": -1}, "bad_version"),
        ({"key": "a", "deleted": True, "version": "new"}, "bad_version"),
        ({"source": 7, "key": "a", "deleted": True}, "wrong_type"),
        ({"source": 0, "key": "a", "text": "t"}, "wrong_type"),
    ],
)
def test_a_deletion_that_cannot_be_read_is_a_reject(tmp_path: Path, log: Log, line: dict[str, object], reason: str) -> None:
    report = publish_lines(tmp_path, line)

    assert (report.rejected, log.messages) == ({reason: 1}, [])
    assert report.fault, "nothing of it could be taken"


def test_a_stream_is_an_order_of_changes(tmp_path: Path, log: Log) -> None:
    report = publish_lines(
        tmp_path,
        {"key": "k", "text": "one"},
        {"key": "k", "text": "two"},
        {"key": "k", "deleted": True},
        {"key": "k", "text": "one"},
        {"key": "v", "text": "x", "version": 4},
        {"key": "v", "deleted": True},
    )

    sent = [item.text if isinstance(item, Document) else item.version for item in log.items()]
    assert sent == ["one", "two", None, "one", "x", 5]
    assert "1 came again later in the stream" in report.summary("documents")
    assert report.rejected == {}


def test_a_state_that_comes_back_while_another_is_in_flight_is_sent(tmp_path: Path, log: Log) -> None:
    publish_lines(tmp_path, {"key": "k", "text": "one"})

    publish_lines(tmp_path, {"key": "k", "text": "two"}, {"key": "k", "text": "one"})

    assert [item.text for item in log.items() if isinstance(item, Document)] == ["one", "two", "one"]


# A publication of which nothing, or too little, could be taken fails, as an ingest does.
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,text\n1,\n2, \n", "holds no document"),
        ("id,words\n1,a\n2,b\n", "holds no document"),
        ("id,text\n1,a\n2\n3\n", "2 of 3 set aside"),
        ("id,text\n1,a\n2,b\n3\n4\n", None),
        ("id,text\n1,a\n", None),
    ],
)
def test_a_broken_source_fails_its_publication_as_it_fails_its_ingest(
    tmp_path: Path, log: Log, text: str, words: str | None
) -> None:
    from twinline.contract.errors import ContractError

    folder = write(tmp_path / "d", {"a.csv": text})
    failed = ""
    try:
        ingest(open_source(f"files:{folder}", settings(tmp_path)), tmp_path / "snapshot", max_reject_share=0.5)
    except ContractError as exc:
        failed = str(exc)

    report = publish_files(tmp_path, folder)

    assert bool(failed) == bool(report.fault) == (words is not None)
    assert (words or "") in failed
    assert (words or "") in report.fault


def test_the_share_of_params_yaml_counts_and_another_projects_file_does_not(tmp_path: Path) -> None:
    from etl.feeds import ingest_params
    from twinline.clients.settings import Settings

    at = Settings(home=tmp_path, project=tmp_path)
    assert ingest_params(at).max_reject_share == 0.5
    (tmp_path / "params.yaml").write_text("train: {epochs: 3}\n")
    assert ingest_params(at).max_reject_share == 0.5
    (tmp_path / "params.yaml").write_text("ingest: {max_reject_share: 0.1, text_column: words}\n")
    assert ingest_params(at).max_reject_share == 0.1
    write(tmp_path / "d", {"a.csv": "id,words,text\n1,yes,no\n"})
    assert [entry.text for entry in source_feed(f"files:{tmp_path}/d", at).entries if isinstance(entry, Document)] == ["yes"]


def test_the_topic_is_not_published_to_itself(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--source kafka:documents: a topic is not published to itself"):
        source_feed("kafka:documents", settings(tmp_path))
