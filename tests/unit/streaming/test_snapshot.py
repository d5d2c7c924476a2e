import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streaming.building.snapshot import open_snapshot
from streaming.decode import decode
from twinline.clients.log_record import LogRecord
from twinline.contract.documents.records import Deletion, Document, Version
from twinline.contract.errors import ContractError, MismatchError, SettingsError

PLACE = {"log_timestamp_ms": 1_763_800_000_000, "log_partition": 1, "log_offset": 7}
DOCUMENT = {
    "source": "s", "key": "k", "version": None, "title": "T", "text": "text", "metadata": '{"team": "x"}', "tenant": "t",
    "content_hash": "c" * 64, **PLACE,
}  # fmt: skip
DELETION = {"source": "s", "key": "gone", "version": 9, **PLACE}

LOG = LogRecord("cluster-a", "documents", "topic-1", "log-time", 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "s0123456789ab"
    made.mkdir()
    pq.write_table(pa.Table.from_pylist([DOCUMENT]), made / "documents-00000.parquet")
    pq.write_table(pa.Table.from_pylist([DELETION]), made / "deletions.parquet")
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in made.glob("*.parquet")}
    write_record(made, {"topic": "documents", "ends": {"0": 3, "1": 8}}, files)
    return made


def write_record(folder: Path, provenance: object, files: dict[str, str]) -> None:
    record = {"uri": "kafka:documents", "provenance": provenance, "files": files, "counts": {"documents": 1, "deletions": 1}}
    (folder / "snapshot.json").write_text(json.dumps(record))


def test_rows_become_messages_with_the_versions_that_the_log_gave_them(folder: Path) -> None:
    snapshot = open_snapshot(folder, LOG)
    assert (snapshot.ends, snapshot.rows) == ({0: 3, 1: 8}, 2)
    document, deletion = map(decode, snapshot.messages())
    assert document.item == Document("s", "k", "text", "T", None, {"team": "x"}, "t")
    assert document.version == Version("log", 1_763_800_000_000, 7, 1)
    assert document.lineage["headers"] == {"source_sha256": "c" * 64}
    assert (deletion.item, deletion.version) == (Deletion("s", "gone", 9), Version("explicit", 9))


def test_a_snapshot_with_a_changed_file_is_refused(folder: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{**DOCUMENT, "text": "other"}]), folder / "documents-00000.parquet")
    with pytest.raises(MismatchError, match=r"documents-00000\.parquet was changed"):
        open_snapshot(folder, LOG)


def test_a_snapshot_with_a_lost_file_is_refused(folder: Path) -> None:
    (folder / "deletions.parquet").unlink()
    with pytest.raises(MismatchError, match=r"deletions\.parquet"):
        open_snapshot(folder, LOG)


@pytest.mark.parametrize(
    "provenance",
    [
        {"topic": "another", "ends": {}},
        {"files": {}},
        {"topic": "documents", "ends": {}, "cluster": "cluster-b", "topic_id": "topic-1"},
        {"topic": "documents", "ends": {}, "cluster": "cluster-a", "topic_id": "topic-0"},
        {"topic": "documents", "ends": {}, "topic_id": "topic-0"},
        {"topic": "documents", "ends": {}, "cluster": "cluster-b"},
    ],
)
def test_a_snapshot_of_something_else_is_refused(folder: Path, provenance: object) -> None:
    write_record(folder, provenance, {})
    with pytest.raises(SettingsError, match="not of topic documents"):
        open_snapshot(folder, LOG)


def test_a_snapshot_that_is_not_there_or_damaged_is_named(folder: Path) -> None:
    with pytest.raises(SettingsError, match="no snapshot"):
        open_snapshot(folder.parent / "s-none", LOG)
    (folder / "snapshot.json").write_text("{")
    with pytest.raises(ContractError, match="damaged"):
        open_snapshot(folder, LOG)


@pytest.mark.parametrize(
    "provenance",
    [
        {"cluster": "cluster-a", "topic_id": "topic-1"},
        {"cluster": "cluster-a", "topic_id": ""},
        {"cluster": "", "topic_id": ""},
        {},  # as an older release of Twinline wrote it
    ],
)
def test_a_snapshot_of_the_log_is_taken_also_where_it_does_not_say_so(folder: Path, provenance: dict[str, str]) -> None:
    write_record(folder, {"topic": "documents", "ends": {"0": 3}, **provenance}, {})
    assert open_snapshot(folder, LOG).ends == {0: 3}
    assert open_snapshot(folder, replace(LOG, topic_id="")).ends == {0: 3}
