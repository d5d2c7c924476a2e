"""Erasure on a real broker and a real embedded store: what is erased stays out, on every way in, and nothing quotes it."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pyarrow.parquet as pq
import pytest

from etl.feeds import Feed
from etl.lineage import Lineage
from etl.publish import publish_documents
from streaming.building.build import build, find_inputs
from tests.checkout import CHECKOUT
from tests.fixtures_log import LIMITS, Keeping
from tests.fixtures_streaming import Counted, preprocessor
from twinline.clients.erasure_list import LIST_FILE, read_list
from twinline.clients.kafka.connect import end_offsets
from twinline.clients.kafka.erasures import current_erasures
from twinline.clients.kafka.stretch import delete_before, read_topic
from twinline.clients.store.edge import EdgeStore
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Document, encode_key
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import MismatchError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.upkeep.dead_letters.entries import read_entries, read_letters
from twinline.upkeep.dead_letters.purge import purge
from twinline.upkeep.erase import removal
from twinline.upkeep.erase.holders import log_holding, messages_of, snapshots_holding

__all__ = ["preprocessor"]

SECRET_TEXT = "one two three four five six seven sesame"
OTHER = "nine ten eleven twelve thirteen fourteen fifteen sixteen"
LINEAGE = Lineage("run-1", "", "test")


@pytest.fixture
def keeping(broker: str, tmp_path: Path, preprocessor: Preprocessor) -> Iterator[Keeping]:
    made = Keeping.start(broker, tmp_path, preprocessor)
    yield made
    made.close()


def erase(keeping: Keeping, key: str = "ann@example.org") -> str:
    """Mark, send the tombstone, take out of the index: the steps of the command that need no online process."""
    settings, target = keeping.settings, keeping.target()
    erasures = removal.mark(settings, removal.open_list(settings), LOCAL_OPERATOR, "s", key, "asked to")
    logged = messages_of(settings, "s", key)
    tombstone = removal.send_tombstone(settings, "s", key, logged, removal.stored_versions([target], "s", key))
    done = removal.remove_points(target, tombstone, "s", key)
    assert done["left"] == 0
    return erasures.token("s", key)


def test_an_erased_document_is_gone_and_does_not_come_back_by_any_way_in(keeping: Keeping) -> None:
    settings, ann = keeping.settings, Document("s", "ann@example.org", SECRET_TEXT)
    keeping.publish(ann, Document("s", "b", OTHER))
    keeping.consume()
    token = erase(keeping)
    assert keeping.texts() == {"b": [OTHER]}

    # Publishing refuses it, and says so without quoting it.
    report = publish_documents(Feed("s", [ann, Document("s", "c", OTHER)]), settings, LINEAGE, LOCAL_OPERATOR)
    assert (report.sent, report.rejected) == (1, {"erased": 1})
    rejects = Path(report.rejects_file).read_text()
    assert token[:16] in rejects
    assert "sesame" not in rejects
    assert "ann@" not in rejects
    # A producer that asks nobody: the consumer sets it aside, without its text, key or headers.
    keeping.publish(ann, headers=[("source_uri", b"file:///ann")])
    keeping.consume()
    assert sorted(keeping.texts()) == ["b", "c"]
    [(record, letter)] = read_letters(settings)
    assert (letter.reason, letter.stage, letter.message.value, letter.message.headers) == ("erased", "erasure", None, [])
    assert letter.message.key == f"erased:{token}".encode()
    assert b"ann@" not in b"".join(raw for _, raw in record.headers)
    # A collection built anew reads the old text, before the tombstone, and leaves it out.
    beside = EdgeStore(settings.home / "beside")
    assert build(keeping.release, beside, settings, LIMITS, find_inputs(settings, None), Event(), Counted())
    rebuilt = beside.open(keeping.release.collection_name, keeping.release.info)
    points = keeping.points(rebuilt)
    rebuilt.close()
    assert {point.payload["key"] for point in points.values() if point.payload["kind"] == "chunk"} == {"b", "c"}
    assert points[head_id("s", "ann@example.org")].payload["deleted"]
    assert not any("sesame" in text for text in keeping.release.embedder.texts[3:])  # type: ignore[attr-defined]
    # Log and index agree on it.
    compared = keeping.compare()
    assert (compared.clean, compared.erased) == (True, 2)


def test_a_document_with_explicit_versions_is_deleted_by_a_newer_one(keeping: Keeping) -> None:
    keeping.publish(Document("s", "ann@example.org", SECRET_TEXT, version=7))
    keeping.consume()
    erase(keeping)
    assert keeping.texts() == {}
    keeping.consume()
    assert read_entries(keeping.settings) == []
    head = keeping.points()[head_id("s", "ann@example.org")].payload
    assert (head["deleted"], head["version"], head["version_kind"]) == (True, 8, "explicit")


def test_a_lifted_document_may_come_back_but_not_with_what_it_said_before(keeping: Keeping) -> None:
    settings, key = keeping.settings, "ann@example.org"
    keeping.publish(Document("s", key, SECRET_TEXT))
    keeping.consume()
    erase(keeping)
    keeping.publish(Document("s", key, SECRET_TEXT))  # refused: it is erased
    keeping.consume()
    removal.lift(settings, removal.open_list(settings), LOCAL_OPERATOR, "s", key, "an error")
    assert publish_documents(Feed("", [Document("s", key, OTHER)]), settings, LINEAGE, LOCAL_OPERATOR).sent == 1
    keeping.consume()
    assert keeping.texts() == {key: [OTHER]}
    assert keeping.compare().clean


def test_a_list_whose_topic_is_lost_is_honoured_from_the_file_and_written_again(keeping: Keeping) -> None:
    settings = keeping.settings
    keeping.publish(Document("s", "b", OTHER))
    erase(keeping)
    delete_before(settings, settings.erasure_topic, end_offsets(settings, settings.erasure_topic))
    assert list(read_topic(settings, settings.erasure_topic)) == []
    assert current_erasures(settings).verdict("s", "ann@example.org") == "refused"
    removal.open_list(settings)
    elsewhere = settings.model_copy(update={"home": settings.home / "other"})
    (elsewhere.erasures).mkdir(parents=True)
    (elsewhere.erasures / "secret").write_bytes((settings.erasures / "secret").read_bytes())
    assert current_erasures(elsewhere).entries == current_erasures(settings).entries
    assert read_list(elsewhere).verdict("s", "ann@example.org") == "refused"


def test_a_process_without_the_secret_takes_nothing_in(keeping: Keeping) -> None:
    keeping.publish(Document("s", "b", OTHER))
    erase(keeping)
    stranger = replace(keeping, settings=keeping.settings.model_copy(update={"home": keeping.settings.home / "stranger"}))
    with pytest.raises(MismatchError, match="copy erasures/secret"):
        stranger.consume()
    with pytest.raises(MismatchError, match="has none"):
        publish_documents(Feed("", [Document("s", "c", OTHER)]), stranger.settings, LINEAGE, LOCAL_OPERATOR)
    assert keeping.texts() == {}


def test_dead_letters_lose_the_text_and_keep_everything_else(keeping: Keeping) -> None:
    settings = keeping.settings
    keeping.release.embedder.poison = "sesame"  # type: ignore[attr-defined]
    keeping.publish((b"poison", b"no json"), Document("s", "ann@example.org", SECRET_TEXT), (b"poison", b"nor this"))
    keeping.consume()
    before = {entry.message: entry for entry in read_entries(settings)}
    assert purge(settings, "s", "ann@example.org", "token") == [
        entry.message for entry in before.values() if entry.key == "ann@example.org"
    ]
    assert purge(settings, "s", "ann@example.org", "token") == []

    held = b"".join((record.value or b"") + (record.key or b"") for record, _ in read_letters(settings))
    assert b"sesame" not in held
    assert b"ann@" not in held
    after = {entry.message: entry for entry in read_entries(settings)}
    assert after.keys() == before.keys()
    assert sorted((entry.reason, entry.state) for entry in after.values()) == [
        ("erased", "discarded"),
        ("invalid_json", "open"),
        ("invalid_json", "open"),
    ]
    assert {m: e.time for m, e in after.items()} == {m: e.time for m, e in before.items()}


def test_later_snapshots_leave_it_out_and_earlier_ones_are_listed(keeping: Keeping) -> None:
    settings = keeping.settings
    broken = b'{"schema":1,"text":"sesame" broken'
    keeping.publish(
        Document("s", "ann@example.org", SECRET_TEXT), Document("s", "b", OTHER), (encode_key("s", "ann@example.org"), broken)
    )
    keeping.consume()
    old = snapshot(keeping)
    token = erase(keeping)
    new = snapshot(keeping)

    assert keys(keeping, old) == ["ann@example.org", "b"]
    assert keys(keeping, new) == ["b"]
    rejects = pq.read_table(settings.snapshots / new / "rejects.parquet").to_pylist()
    assert {reject["reason"] for reject in rejects} == {"erased"}
    assert "sesame" not in str(rejects)
    assert token[:16] in str(rejects)
    held = snapshots_holding(settings, "s", "ann@example.org")
    assert [entry["what"] for entry in held if isinstance(entry, dict)] == [f"snapshot {old}"]
    log = log_holding(settings, messages_of(settings, "s", "ann@example.org"))
    messages = log["messages"]
    assert isinstance(messages, list)
    assert len(messages) == 2
    assert "never by itself" in str(log["gone"])
    # And a collection that is built from the old snapshot leaves it out as well.
    beside = EdgeStore(settings.home / "beside")
    assert build(keeping.release, beside, settings, LIMITS, find_inputs(settings, old), Event(), Counted())
    rebuilt = beside.open(keeping.release.collection_name, keeping.release.info)
    points = keeping.points(rebuilt)
    rebuilt.close()
    assert {point.payload["key"] for point in points.values() if point.payload["kind"] == "chunk"} == {"b"}


def test_the_list_and_its_file_name_nobody(keeping: Keeping) -> None:
    keeping.publish(Document("s", "b", OTHER))
    erase(keeping)
    records = list(read_topic(keeping.settings, keeping.settings.erasure_topic))
    on_topic = b"".join((record.key or b"") + (record.value or b"") for record in records)
    in_file = (keeping.settings.erasures / LIST_FILE).read_bytes()
    assert on_topic
    assert b"ann" not in on_topic + in_file
    assert (keeping.settings.erasures / "secret").stat().st_mode & 0o077 == 0
    removal.mark(keeping.settings, current_erasures(keeping.settings), LOCAL_OPERATOR, "s", "ann@example.org", "again")
    assert len(list(read_topic(keeping.settings, keeping.settings.erasure_topic))) == 1


def snapshot(keeping: Keeping) -> str:
    settings = keeping.settings
    environment = {
        "PATH": "/usr/bin:/bin",
        "TWINLINE_HOME": str(settings.home),
        "KAFKA_BOOTSTRAP": settings.kafka_address,
        "TWINLINE_TOPIC": settings.topic,
    }
    before = {path.parent.name for path in settings.snapshots.glob("s*/snapshot.json")}
    command = [sys.executable, "-m", "etl", "ingest", "--source", f"kafka:{settings.topic}", "--store"]
    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, timeout=240, capture_output=True)
    (made,) = {path.parent.name for path in settings.snapshots.glob("s*/snapshot.json")} - before
    return made


def keys(keeping: Keeping, name: str) -> list[str]:
    return pq.read_table(keeping.settings.snapshots / name / "documents-00000.parquet")["key"].to_pylist()
