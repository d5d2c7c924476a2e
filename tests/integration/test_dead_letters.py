"""Dead letters on a real broker: listed, replayed once, kept from going in a circle, discarded, for every machine alike."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from streaming.decode import Message
from streaming.log_reader import message_of
from tests.checkout import CHECKOUT
from tests.fixtures_log import Keeping
from tests.fixtures_streaming import FakeEmbedder, info_of, preprocessor
from twinline.clients.kafka.connect import make_producer
from twinline.clients.kafka.stretch import read_topic
from twinline.contract.documents.ids import point_id
from twinline.contract.documents.records import Deletion, Document, encode_key, encode_value
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import ContractError
from twinline.upkeep.dead_letters.entries import Entry, read_entries, read_letters
from twinline.upkeep.dead_letters.replay import choose, discard, replay

__all__ = ["preprocessor"]

ONE = "one two three four five six seven eight"
TWO = "nine ten eleven twelve thirteen fourteen fifteen sixteen"


@pytest.fixture
def keeping(broker: str, tmp_path: Path, preprocessor: Preprocessor) -> Iterator[Keeping]:
    made = Keeping.start(broker, tmp_path, preprocessor)
    yield made
    made.close()


def embedder(keeping: Keeping) -> FakeEmbedder:
    assert isinstance(keeping.release.embedder, FakeEmbedder)
    return keeping.release.embedder


def replay_open(keeping: Keeping, again: bool = False) -> tuple[int, dict[str, str]]:
    choice = choose(read_entries(keeping.settings), again)
    return len(replay(keeping.settings, choice.chosen)), choice.left


def states(keeping: Keeping) -> dict[str, str]:
    return {entry.message: entry.state for entry in read_entries(keeping.settings)}


def command(keeping: Keeping, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "TWINLINE_HOME": str(keeping.settings.home),
        "KAFKA_BOOTSTRAP": keeping.settings.kafka_address,
        "TWINLINE_TOPIC": keeping.settings.topic,
    }
    line = [sys.executable, "-m", "twinline", "dead-letters", *arguments]
    return subprocess.run(line, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_message_that_failed_for_a_passing_reason_is_replayed_once_and_indexed(keeping: Keeping) -> None:
    embedder(keeping).poison = "three"
    keeping.publish(Document("s", "a", ONE, metadata={"n": 1}), Document("s", "b", TWO), headers=[("run_id", b"run-7")])
    keeping.consume()
    assert list(keeping.texts()) == ["b"]
    [entry] = read_entries(keeping.settings)
    assert (entry.source, entry.key, entry.reason, entry.stage, entry.state) == ("s", "a", "refused", "index", "open")

    embedder(keeping).poison = None
    assert replay_open(keeping) == (1, {})
    assert replay_open(keeping) == (0, {entry.message: "it was replayed already; --again insists"})
    keeping.consume()

    assert keeping.texts()["a"] == [ONE]
    assert states(keeping) == {entry.message: "replayed"}
    point = keeping.points()[point_id("s", "a", 0)]
    assert point.payload["headers"] == {"run_id": "run-7"}
    assert keeping.compare().clean


def test_an_old_state_that_is_replayed_does_not_take_the_place_of_a_newer_one(keeping: Keeping) -> None:
    embedder(keeping).poison = "three"
    keeping.publish(Document("s", "a", ONE))
    keeping.consume()
    embedder(keeping).poison = None
    keeping.publish(Document("s", "a", TWO), Deletion("s", "gone"))
    keeping.consume()

    assert replay_open(keeping)[0] == 1
    keeping.consume()

    assert keeping.texts() == {"a": [TWO]}
    assert keeping.compare().clean


def test_a_message_that_fails_again_and_again_is_left_after_three_times(keeping: Keeping) -> None:
    keeping.publish((b"poison", b"no json"))
    keeping.consume()
    for _ in range(3):
        assert replay_open(keeping)[0] == 1
        keeping.consume()

    sent, left = replay_open(keeping)

    assert sent == 0
    assert any("replayed 3 times" in why for why in left.values())
    entries = read_entries(keeping.settings)
    assert [entry.attempt for entry in entries] == [0, 1, 2, 3]
    assert [entry.state for entry in entries] == ["replayed"] * 3 + ["open"]
    newest = entries[-1]
    assert len(replay(keeping.settings, choose([newest], again=True).chosen)) == 1


def test_values_keys_and_headers_survive_as_they_were(keeping: Keeping) -> None:
    odd: list[tuple[bytes | None, bytes | None]] = [(None, b"\xff\x00"), (b"\xfe", None), (b'["s",""]', b"{}")]
    keeping.publish(*odd, headers=[("twice", b"1"), ("twice", b"\xff"), ("empty", b"")])
    keeping.consume()
    replay_open(keeping)
    consumer = keeping.consume()

    assert consumer.state.dead_letters == 3
    on_log = [message_of(record) for record in read_topic(keeping.settings, keeping.settings.topic)]
    ours = {"replay-attempt", "replay-of", "replay-version"}

    def said(message: Message) -> tuple[bytes, bool, bytes, list[tuple[str, bytes]]]:
        # As the log has them: the embedded broker keeps the last of headers with one name, others keep all.
        headers = [header for header in message.headers if header[0] not in ours]
        return message.key or b"", message.value is None, message.value or b"", headers

    first = sorted(said(message) for message in on_log if not ours & {name for name, _ in message.headers})
    again = sorted(said(message) for message in on_log if ours <= {name for name, _ in message.headers})
    assert len(first) == 3
    assert again == first
    assert sorted(said(letter.message) for _, letter in read_letters(keeping.settings)) == sorted([*first, *again])


def test_a_tombstone_that_was_set_aside_deletes_when_it_is_replayed(keeping: Keeping) -> None:
    keeping.publish(Document("s", "a", ONE, version=1), Deletion("s", "a"))  # of the other kind: refused
    keeping.consume()
    [entry] = read_entries(keeping.settings)
    assert entry.reason == "mixed_versions"
    assert keeping.texts() == {"a": [ONE]}
    keeping.publish((encode_key("s", "b"), encode_value(Document("s", "b", TWO))))
    keeping.consume()
    replay_open(keeping)
    keeping.consume()
    # It is refused again, for the same reason: nothing else may become of it.
    assert keeping.texts() == {"a": [ONE], "b": [TWO]}
    assert [entry.state for entry in read_entries(keeping.settings)] == ["replayed", "open"]
    assert keeping.compare().clean


def test_what_is_discarded_is_so_on_every_machine_and_is_not_replayed(keeping: Keeping) -> None:
    keeping.publish((b"poison", b"no json"), Document("s", "b", ONE), (b"[]", b"x"))
    keeping.consume()
    entries = read_entries(keeping.settings)
    assert len(discard(keeping.settings, [entry for entry in entries if entry.key == "poison"], "known")) == 1
    assert len(discard(keeping.settings, read_entries(keeping.settings)[:1], "known")) == 0

    listed = json.loads(command(keeping, "list", "--json").stdout)
    assert [entry["key"] for entry in listed["entries"]] == ["[]"]
    everything = json.loads(command(keeping, "list", "--state", "all", "--json").stdout)
    [was_discarded] = [entry for entry in everything["entries"] if entry["state"] == "discarded"]
    assert (was_discarded["key"], was_discarded["act"]["why"]) == ("poison", "known")
    done = json.loads(command(keeping, "replay", "--all", "--json").stdout)
    assert (done["replayed"], done["left"]) == (1, {})
    assert json.loads(command(keeping, "replay", "--all", "--json").stdout)["replayed"] == 0


def test_the_command_groups_filters_shows_and_needs_to_be_told_which(keeping: Keeping) -> None:
    long = encode_value(Document("s", "long", ONE)).replace(b'"schema":1', b'"schema":9')
    keeping.publish((b"poison", b"no json"), (b"poison", b"nor this"), (encode_key("s", "long"), long))
    keeping.consume()

    groups = json.loads(command(keeping, "list", "--json").stdout)["groups"]
    assert [(group["reason"], group["count"]) for group in groups] == [("invalid_json", 2), ("unknown_schema", 1)]
    only = json.loads(command(keeping, "list", "--reason", "unknown_schema", "--since", "1h", "--source", "s", "--json").stdout)
    [entry] = only["entries"]
    assert json.loads(command(keeping, "list", "--until", "1h", "--json").stdout)["count"] == 0
    shown = json.loads(command(keeping, "show", entry["message"], "--limit", "20", "--json").stdout)
    assert (shown["key"], shown["value"], shown["cut_characters"] > 20) == ("long", '{\n  "schema": 9,\n  "', True)
    assert "unknown_schema" in command(keeping, "list").stdout
    refused = command(keeping, "replay")
    assert (refused.returncode, "say which" in refused.stderr) == (2, True)
    dry = json.loads(command(keeping, "replay", "--reason", "invalid_json", "--dry-run", "--json").stdout)
    assert (dry["replayed"], len(dry["chosen"])) == (0, 2)
    assert set(states(keeping).values()) == {"open"}


def test_something_foreign_among_the_acts_is_named(keeping: Keeping) -> None:
    with closing(make_producer(keeping.settings)) as producer:
        producer.send(keeping.settings.dead_letter_acts_topic, key=b"k", value=b"{}").get(timeout=30)
    with pytest.raises(ContractError, match="no act on a dead letter"):
        read_entries(keeping.settings)


def test_letters_of_two_releases_about_one_message_are_one_entry(keeping: Keeping, preprocessor: Preprocessor) -> None:
    keeping.publish((b"poison", b"no json"))
    keeping.consume()
    other = replace(keeping.release, info=info_of(preprocessor, "r00000000000a"))
    second = Keeping(keeping.settings, other, keeping.store, keeping.store.create(other.collection_name, other.info))
    second.consume()
    second.collection.close()

    entries: list[Entry] = read_entries(keeping.settings)

    assert [(entry.letters, len(entry.releases)) for entry in entries] == [(2, 2)]
    assert replay_open(keeping)[0] == 1
