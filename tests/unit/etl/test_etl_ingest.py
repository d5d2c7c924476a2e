"""Stage ingest: one state per key, fixed bytes, an id that comes from what was read, and a limit to what may be set aside."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from etl.ingest import ingest
from etl.snapshots import fetch_snapshot, read_snapshot, store_snapshot, verify_snapshot
from etl.sources import Item, Judgement, Logged, Query, Reject
from etl.storage import added_folder
from tests.unit.etl.factories import ListSource, rows
from twinline.contract.documents.records import Deletion, Document
from twinline.contract.errors import ContractError, MismatchError, SettingsError


def take(items: list[Item], out: Path, max_reject_share: float = 0.5) -> str:
    return ingest(ListSource(items), out, max_reject_share=max_reject_share).id


def some_items() -> list[Item]:
    return [
        Document("list", "b", "Text b.", title="B", metadata={"n": 1, "m": [1.5]}),
        Document("list", "a", "Text a.", version=3, tenant="north"),
        Query("q1", "what?", "test"),
        Judgement("q1", "list", "a", 1, "test"),
        Reject("somewhere", "no_text", "nothing there", 7),
    ]


def test_ingesting_the_same_twice_gives_the_same_id_and_the_same_bytes(tmp_path: Path) -> None:
    first, second = take(some_items(), tmp_path / "one"), take(some_items()[::-1], tmp_path / "two")

    assert first == second
    for path in (tmp_path / "one").glob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize(
    "changed",
    [
        Document("list", "b", "Another text.", title="B", metadata={"n": 1, "m": [1.5]}),
        Document("list", "b", "Text b.", title="B", metadata={"n": 2, "m": [1.5]}),
        Document("list", "b", "Text b.", title="B", metadata={"n": 1, "m": [1.5]}, version=1),
    ],
)
def test_a_changed_document_gives_another_id(tmp_path: Path, changed: Document) -> None:
    assert take(some_items(), tmp_path / "one") != take([changed, *some_items()[1:]], tmp_path / "two")


def test_documents_are_sorted_and_whole(tmp_path: Path) -> None:
    take(some_items(), tmp_path / "out")

    found = rows(tmp_path / "out" / "documents-00000.parquet")

    assert [(row["key"], row["title"], row["text"], row["version"], row["tenant"], row["metadata"]) for row in found] == [
        ("a", "", "Text a.", 3, "north", "{}"),
        ("b", "B", "Text b.", None, None, '{"m": [1.5], "n": 1}'),
    ]
    assert rows(tmp_path / "out" / "rejects.parquet")[0]["line"] == 7


def test_of_two_documents_with_one_key_the_first_is_kept_and_the_second_is_a_reject(tmp_path: Path) -> None:
    take([Document("list", "a", "first"), Document("list", "a", "second"), Document("list", "b", "b")], tmp_path / "out")

    assert [row["text"] for row in rows(tmp_path / "out" / "documents-00000.parquet")] == ["first", "b"]
    [reject] = rows(tmp_path / "out" / "rejects.parquet")
    assert (reject["reason"], reject["key"], reject["raw"]) == ("duplicate_key", "a", "second")


def logged(item: Document | Deletion, offset: int) -> Logged:
    return Logged(item, "documents", 0, offset, 1_000 + offset)


def test_of_a_log_the_newest_version_of_each_key_is_taken_and_a_deletion_stays_known(tmp_path: Path) -> None:
    late = Document("list", "late", "version 2", version=2)
    items: list[Item] = [
        logged(Document("list", "plain", "old"), 0),
        logged(Document("list", "plain", "new"), 1),
        logged(Document("list", "late", "version 5", version=5), 2),
        logged(late, 3),  # arrives last, is older
        logged(Document("list", "gone", "was here", version=1), 4),
        logged(Deletion("list", "gone", version=2), 5),
        logged(Document("list", "back", "first"), 6),
        logged(Deletion("list", "back"), 7),
        logged(Document("list", "back", "again"), 8),
    ]

    take(items, tmp_path / "out")

    found = rows(tmp_path / "out" / "documents-00000.parquet")
    assert [(row["key"], row["text"], row["log_offset"]) for row in found] == [
        ("back", "again", 8),
        ("late", "version 5", 2),
        ("plain", "new", 1),
    ]
    [deletion] = rows(tmp_path / "out" / "deletions.parquet")
    assert (deletion["key"], deletion["version"], deletion["log_offset"]) == ("gone", 2, 5)
    assert not rows(tmp_path / "out" / "rejects.parquet")


def test_the_first_message_of_a_key_settles_the_kind_of_its_versions(tmp_path: Path) -> None:
    items: list[Item] = [
        logged(Document("list", "a", "explicit", version=1), 0),
        logged(Document("list", "a", "by the log"), 1),
        logged(Document("list", "b", "b"), 2),
    ]

    take(items, tmp_path / "out")

    assert rows(tmp_path / "out" / "documents-00000.parquet")[0]["text"] == "explicit"
    [reject] = rows(tmp_path / "out" / "rejects.parquet")
    assert (reject["reason"], reject["line"]) == ("mixed_versions", 1)


def test_more_rejects_than_the_stated_share_is_one_error_with_a_summary_and_the_evidence_is_kept(tmp_path: Path) -> None:
    items: list[Item] = [Document("list", "a", "x"), *(Reject("f", "invalid_json", "broken", n) for n in range(3))]

    with pytest.raises(ContractError, match=r"3 of 4 set aside \(invalid_json 3\).*0\.75.*max_reject_share allows 0\.5"):
        take(items, tmp_path / "out")

    assert len(rows(tmp_path / "out" / "rejects.parquet")) == 3
    assert take(items, tmp_path / "out", max_reject_share=0.75)


def test_files_of_an_unknown_kind_do_not_count_towards_that_share(tmp_path: Path) -> None:
    items: list[Item] = [Document("list", "a", "x"), *(Reject(f"{n}.png", "unsupported_format", "") for n in range(9))]

    assert take(items, tmp_path / "out")


@pytest.mark.parametrize("items", [[], [Reject("f", "no_text", "all of it is empty")]])
def test_a_source_without_documents_is_an_error(tmp_path: Path, items: list[Item]) -> None:
    with pytest.raises(ContractError, match="holds no document"):
        take(items, tmp_path / "out", max_reject_share=1.0)


def test_a_failed_read_leaves_the_former_snapshot_in_place(tmp_path: Path) -> None:
    before = take(some_items(), tmp_path / "out")

    def broken() -> list[Item]:
        raise SettingsError("gone")

    source = ListSource([])
    source.items = broken  # type: ignore[assignment,method-assign]
    with pytest.raises(SettingsError):
        ingest(source, tmp_path / "out", max_reject_share=0.5)

    assert verify_snapshot(tmp_path / "out").id == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left beside it"


def test_storing_a_snapshot_twice_does_nothing_the_second_time(tmp_path: Path) -> None:
    take(some_items(), tmp_path / "out")

    kept = store_snapshot(tmp_path / "out", tmp_path / "store")
    before = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    time.sleep(0.01)
    os.utime(tmp_path / "out" / "snapshot.json")

    assert store_snapshot(tmp_path / "out", tmp_path / "store") == kept
    assert {path.name: path.stat().st_mtime_ns for path in kept.iterdir()} == before


def test_two_processes_that_store_the_same_snapshot_leave_one(tmp_path: Path) -> None:
    taken = take(some_items(), tmp_path / "out")
    with added_folder(tmp_path / "store" / taken) as slower:
        (slower / "half-written").touch()
        store_snapshot(tmp_path / "out", tmp_path / "quicker")
        (tmp_path / "quicker" / taken).rename(tmp_path / "store" / taken)

    assert verify_snapshot(tmp_path / "store" / taken).id == taken
    assert [path.name for path in (tmp_path / "store").iterdir()] == [taken]


def test_what_a_killed_process_left_beside_a_folder_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f".out.{dead.pid}.new").mkdir()

    take(some_items(), tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_stored_snapshot_comes_back_by_its_id(tmp_path: Path) -> None:
    taken = take(some_items(), tmp_path / "out")
    store_snapshot(tmp_path / "out", tmp_path / "store")

    fetched = fetch_snapshot(tmp_path / "store", taken, tmp_path / "again")

    assert fetched == read_snapshot(tmp_path / "out")
    assert verify_snapshot(tmp_path / "again").id == taken


def test_a_stored_snapshot_that_was_changed_is_refused(tmp_path: Path) -> None:
    taken = take(some_items(), tmp_path / "out")
    kept = store_snapshot(tmp_path / "out", tmp_path / "store")
    (kept / "queries.parquet").write_bytes((kept / "rejects.parquet").read_bytes())

    with pytest.raises(MismatchError, match=r"queries\.parquet"):
        fetch_snapshot(tmp_path / "store", taken, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("wanted", ["s000000000000", ""])
def test_an_unknown_snapshot_is_an_error_that_names_the_known_ones(tmp_path: Path, wanted: str) -> None:
    taken = take(some_items(), tmp_path / "out")
    store_snapshot(tmp_path / "out", tmp_path / "store")

    with pytest.raises(SettingsError, match=taken):
        fetch_snapshot(tmp_path / "store", wanted, tmp_path / "again")


def test_documents_beyond_one_file_go_on_in_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.storage.ROWS_PER_FILE", 1_000)
    for count, files in ((1_000, 1), (2_500, 3)):
        out = tmp_path / str(count)
        take([Document("list", f"{n:05}", "x") for n in range(count)], out)
        parts = sorted(out.glob("documents-*.parquet"))
        assert len(parts) == files
        assert [row["key"] for part in parts for row in rows(part)] == [f"{n:05}" for n in range(count)]
