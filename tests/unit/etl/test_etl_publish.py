"""Publish: what is sent, what is left out, what is set aside; against a log that lives in the test."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from etl import feeds
from etl.feeds import Entry, Feed, deletions_feed, files_feed, lines_feed, snapshot_feed, source_feed
from etl.ingest import ingest
from etl.lineage import Lineage, find_lineage
from etl.publish import Mode, Report, publish_documents
from etl.sources import Reject
from tests.checkout import CHECKOUT
from tests.unit.etl.factories import ListSource, settings
from tests.unit.etl.memory_log import Log
from twinline.clients.settings import Settings
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.errors import SettingsError, TransientError
from twinline.contract.principal import LOCAL_OPERATOR, NotAllowedError, Principal

LINEAGE = Lineage("run-1", "abc123", "twinline test")


def send(home: Path, entries: Iterable[Entry], name: str = "s", **mode: bool) -> Report:
    return publish_documents(Feed(name, entries), settings(home), LINEAGE, LOCAL_OPERATOR, Mode(**mode))


def document(key: str, text: str = "text", **fields: Any) -> Document:
    return Document("s", key, text, **fields)


def test_documents_reach_the_log_whole_with_their_lineage(tmp_path: Path, log: Log) -> None:
    whole = document("a", "Text.", title="T", version=4, metadata={"n": 1}, tenant="north")

    report = send(tmp_path, [whole])

    assert log.items() == [whole]
    headers = log.messages[0][2]
    assert (headers["run_id"], headers["git_revision"], headers["producer"]) == (b"run-1", b"abc123", b"twinline test")
    assert len(headers["source_sha256"]) == 64
    assert report.sent == 1


def test_publishing_again_sends_only_what_changed(tmp_path: Path, log: Log) -> None:
    send(tmp_path, [document("a"), document("b"), document("c", version=1)])
    before = len(log.messages)

    report = send(tmp_path, [document("a"), document("b", "new"), document("c", version=2), document("d")])

    assert [item.key for item in log.items()[before:]] == ["b", "c", "d"]
    assert (report.sent, report.unchanged) == (3, 1)


def test_everything_can_be_sent_again(tmp_path: Path, log: Log) -> None:
    send(tmp_path, [document("a")])
    send(tmp_path, [document("a")], everything=True)

    assert len(log.messages) == 2


def test_a_new_log_of_the_same_name_gets_everything_again(tmp_path: Path, log: Log) -> None:
    send(tmp_path, [document("a"), document("b")])
    log.messages.pop()  # as a broker does that was killed before it had written its last message

    report = send(tmp_path, [document("a")], delete_missing=True)

    assert (report.sent, report.unchanged) == (1, 0)
    assert report.deleted == 1, "an index may still hold what the log forgot"


def test_another_topic_or_broker_has_its_own_memory(tmp_path: Path, log: Log) -> None:
    send(tmp_path, [document("a")])
    for other in (Settings(home=tmp_path, topic="others"), Settings(home=tmp_path, kafka_bootstrap="elsewhere:9092")):
        assert publish_documents(Feed("s", [document("a")]), other, LINEAGE, LOCAL_OPERATOR).sent == 1


def test_what_vanished_is_deleted_only_when_asked_and_under_a_newer_version(tmp_path: Path, log: Log) -> None:
    send(tmp_path, [document("a"), document("b"), document("c", version=7)])

    assert send(tmp_path, [document("a")]).deleted == 0
    report = send(tmp_path, [document("a")], delete_missing=True)

    assert log.items()[3:] == [Deletion("s", "b"), Deletion("s", "c", version=8)]
    assert report.deleted == 2
    assert send(tmp_path, [document("a")], delete_missing=True).deleted == 0, "once is enough"


def test_a_document_that_cannot_be_read_today_has_not_vanished(tmp_path: Path, log: Log) -> None:
    send(tmp_path, [document("a"), document("b.pdf")])

    report = send(tmp_path, [document("a"), Reject("b.pdf", "corrupt_pdf", "cut off")], delete_missing=True)

    assert report.deleted == 0


def test_a_part_of_a_source_never_deletes_the_rest_of_it(tmp_path: Path, log: Log) -> None:
    send(tmp_path, [document("a"), document("b")])

    assert send(tmp_path, [document("a")], name="", delete_missing=True).deleted == 0


def test_rejects_and_what_kafka_refuses_are_kept_in_a_file_and_counted(tmp_path: Path, log: Log) -> None:
    log.refused = {"big"}

    report = send(tmp_path, [document("a"), Reject("rows.jsonl", "invalid_json", "cut", 3), document("big"), document("z")])

    assert [item.key for item in log.items()] == ["a", "z"]
    assert report.rejected == {"invalid_json": 1, "too_large": 1}
    kept = [json.loads(line) for line in Path(report.rejects_file).read_text().splitlines()]
    assert [(row["place"], row["line"], row["key"], row["reason"]) for row in kept] == [
        ("rows.jsonl", 3, "", "invalid_json"),
        ("s", None, "big", "too_large"),
    ]
    assert "invalid_json 1, too_large 1" in report.summary("documents")
    log.refused = set()
    assert send(tmp_path, [document("a"), document("big")]).sent == 1, "what was refused is not remembered as sent"


def test_a_broker_that_goes_away_ends_the_run_and_what_was_confirmed_is_remembered(tmp_path: Path, log: Log) -> None:
    log.dies_after = 2

    with pytest.raises(TransientError, match="no Kafka answers"):
        send(tmp_path, [document(key) for key in "abcd"])
    log.dies_after = None

    assert send(tmp_path, [document(key) for key in "abcd"]).sent == 2
    assert [item.key for item in log.items()] == ["a", "b", "c", "d"]


def test_json_lines_are_read_one_by_one_and_a_broken_one_costs_itself(tmp_path: Path) -> None:
    lines = [
        b'{"key": "a", "title": "T", "text": "Text.", "version": 2, "tenant": "north", "metadata": {"n": 1}, "lang": "en"}',
        b'{"source": "other", "id": "b", "body": "Body."}',
        b'{"key": "c", "deleted": true, "version": 3}',
        b'{"text": "no key"}',
        b'{"key": "", "text": "an empty one"}',
        b'{"deleted": true}',
        b'{"source": 7, "key": "d", "text": "x"}',
        b"not json",
    ]

    entries = list(lines_feed(io.BytesIO(b"\n".join(lines)), "stdin").entries)

    assert entries[:3] == [
        Document("stdin", "a", "Text.", title="T", version=2, tenant="north", metadata={"n": 1, "lang": "en"}),
        Document("other", "b", "Body."),
        Deletion("stdin", "c", version=3),
    ]
    rejects = [(entry.line, entry.reason) for entry in entries[3:] if isinstance(entry, Reject)]
    assert rejects == [(4, "missing_field"), (5, "missing_field"), (6, "missing_field"), (7, "wrong_type"), (8, "invalid_json")]


def test_files_given_one_by_one_are_documents_of_one_source(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("First.")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.md").write_text("# B\n\nSecond.")

    feed = files_feed([tmp_path / "a.txt", tmp_path / "folder"], "notes", settings(tmp_path))

    assert [(entry.source, entry.key) for entry in feed.entries if isinstance(entry, Document)] == [
        ("notes", "a.txt"),
        ("notes", "b.md"),
    ]
    assert feed.name == ""


def test_a_snapshot_is_published_with_its_rejects(tmp_path: Path, log: Log) -> None:
    whole = document("a", "Text.", title="T", version=4, metadata={"n": [1]}, tenant="north")
    taken = ingest(ListSource([whole, Reject("f", "no_text", "", 2)], "s"), tmp_path / "snapshot", max_reject_share=1)

    feed = snapshot_feed(tmp_path / "snapshot", "documents")
    report = publish_documents(feed, settings(tmp_path), LINEAGE, LOCAL_OPERATOR)

    assert log.items() == [whole]
    assert (feed.name, report.snapshot, report.rejected) == ("s", taken.id, {"no_text": 1})


def test_a_snapshot_of_the_topic_is_not_published_to_it_again(tmp_path: Path, log: Log) -> None:
    source = ListSource([document("a")], "s", {"topic": "documents"})
    ingest(source, tmp_path / "snapshot", max_reject_share=1)

    assert (
        publish_documents(snapshot_feed(tmp_path / "snapshot", "documents"), settings(tmp_path), LINEAGE, LOCAL_OPERATOR).sent
        == 0
    )
    assert (
        publish_documents(snapshot_feed(tmp_path / "snapshot", "others"), settings(tmp_path), LINEAGE, LOCAL_OPERATOR).sent == 1
    )


def test_a_source_is_published_as_it_is_read(tmp_path: Path, log: Log) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("First.")

    report = publish_documents(
        source_feed(f"files:{tmp_path / 'docs'}", settings(tmp_path)), settings(tmp_path), LINEAGE, LOCAL_OPERATOR
    )

    assert (report.sent, log.items()[0].source) == (1, "docs")


def test_deletions_by_key_carry_their_version(tmp_path: Path, log: Log) -> None:
    publish_documents(deletions_feed(["a", "b"], "s", 5), settings(tmp_path), LINEAGE, LOCAL_OPERATOR)

    assert log.items() == [Deletion("s", "a", 5), Deletion("s", "b", 5)]


def test_a_snapshot_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no snapshot 's123'"):
        feeds.open_snapshot("s123", tmp_path)


def test_lineage_names_airflows_run_or_the_time() -> None:
    assert find_lineage({"AIRFLOW_CTX_DAG_RUN_ID": "scheduled__1"}, CHECKOUT).run_id == "scheduled__1"
    assert find_lineage({}, CHECKOUT).run_id.startswith("manual__")


def test_a_caller_publishes_the_documents_of_its_own_tenants_and_sources(tmp_path: Path, log: Log) -> None:
    caller = Principal("ann", frozenset({"publish"}), frozenset({"north"}), frozenset({"s"}))

    def publish_as_caller(*entries: Entry) -> Report:
        return publish_documents(Feed("s", entries), settings(tmp_path), LINEAGE, caller)

    assert publish_as_caller(document("a", tenant="north")).sent == 1
    for refused in (
        document("b", tenant="south"),
        Document("elsewhere", "c", "text", tenant="north"),
        # nobody's, and so not its own
        document("d"),
        # it does not say whose document it deletes
        Deletion("s", "a"),
    ):
        with pytest.raises(NotAllowedError, match="ann may publish for"):
            publish_as_caller(refused)
    with pytest.raises(NotAllowedError, match="no right to publish"):
        publish_documents(Feed("s", [document("e")]), settings(tmp_path), LINEAGE, Principal("bob", frozenset({"search"})))
    assert [item.key for item in log.items()] == ["a"]
